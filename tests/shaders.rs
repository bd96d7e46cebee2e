//! Every permutation of every kernel: linked for native code and for browsers, parsed and validated by naga, within
//! WebGPU's default limits; and `shaders/permutations.txt`, which lists them. `KINGLET_BLESS=1` writes it anew.

#[path = "common/gpu.rs"]
mod gpu;
#[path = "common/random_model.rs"]
mod random_model;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use kinglet::backend::spec::*;
use kinglet::backend::webgpu::wgsl::{Permutation, SOURCES};
use kinglet::backend::webgpu::{GpuOptions, WebGpuBackend};
use kinglet::backend::{Backend, DecoderSpec, HeadRows};
use kinglet::formats::Format;
use kinglet::model::decoder::forward;
use naga::valid::{Capabilities, SubgroupOperationSet, ValidationFlags, Validator};
use pollster::block_on;
use random_model::*;

const SHADERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/shaders");

/// Kernels of measurements, which no plan has.
const MEASURING: [&str; 2] = ["stream_read", "peak"];

/// Layers of real heads: SmolLM2-1.7B's, Phi-4-mini's, Qwen2.5-3B's and Gemma 3 4B's, the rest small.
fn models() -> [(Model, &'static str); 5] {
    let heads = |heads, kv_heads, head_dim, like: DecoderSpec| DecoderSpec {
        hidden: 256,
        ffn: 256,
        layers: like.layer_kinds.len(),
        heads,
        kv_heads,
        head_dim,
        rope: Rope { dim: head_dim, ..like.rope },
        local_rope: like.local_rope.map(|rope| Rope { dim: head_dim, ..rope }),
        ..like
    };
    let mixed = |query, key, value| Formats { query, key, value, ..Formats::all(Format::Q4_0) };
    let partial = DecoderSpec { rope: Rope { dim: 96, ..others().rope }, ..heads(24, 8, 128, others()) };
    let biased = DecoderSpec { sliding_window: Some(64), ..heads(16, 2, 128, others()) };
    [
        (Model::new(heads(32, 32, 64, llama()), Formats::all(Format::F32), 1), "dot"),
        (Model::new(partial, mixed(Format::Q4_K, Format::Q8_0, Format::Q6_K), 2), "dot"),
        (Model::new(biased, mixed(Format::Q4_K, Format::Q4_K, Format::Q6_K), 3), "f32"),
        (Model::new(heads(8, 4, 256, gemma()), Formats::all(Format::Q6_K), 4), "f16"),
        (Model::new(heads(8, 8, 64, llama()), Formats { up: Format::Q5_0, ..Formats::all(Format::Q4_0) }, 5), "dot"),
    ]
}

/// What the planner asks for to load these models and to run a batch and a token, without adapters and with two.
fn recorded(options: &GpuOptions) -> Vec<Permutation> {
    let mut all = Vec::new();
    for (model, arithmetic) in models() {
        let options = GpuOptions { arithmetic: Some(arithmetic.into()), ..options.clone() };
        let mut backend = model.load(block_on(WebGpuBackend::new(model.spec.clone(), &options)).unwrap());
        forward(&mut backend, &[1, 2, 3], 0, HeadRows::All).unwrap();
        block_on(backend.logits()).unwrap();
        forward(&mut backend, &[4], 3, HeadRows::Last).unwrap();
        block_on(backend.logits()).unwrap();
        for id in [0, 1] {
            backend.load_adapter(id, &model.adapter(4, usize::MAX, u64::from(id))).unwrap();
        }
        backend.use_adapters(&[(0, 1.0), (1, 1.0)]).unwrap();
        all.extend(backend.permutations().cloned());
    }
    all
}

fn set(permutation: &mut Permutation, flag: &'static str, on: bool) {
    permutation.flags.retain(|&other| other != flag);
    permutation.flags.extend(on.then_some(flag));
}

/// With each switch of the model's family on and off: whatever these flags need is baked in any case.
fn switched(recorded: &Permutation) -> Vec<Permutation> {
    let gated = recorded.flags.iter().any(|flag| ["GATED", "GATING"].contains(flag));
    let switches: &[&'static str] = match recorded.kernel {
        "qkv" => &["BIAS"],
        "gate_up" => &["GELU"],
        "matmul" if gated => &["GELU"],
        "rope_kv" => &["BIAS", "QK_NORM", "ROPE", "ROPE_HALVES", "KV_INT8"],
        "attention" => &["QK_NORM", "ROPE", "ROPE_HALVES", "WINDOW_SIZE", "KV_INT8"],
        "attention_batch" => &["WINDOW_SIZE", "KV_INT8"],
        _ => &[],
    };
    (0..1 << switches.len())
        .map(|on: usize| {
            let mut permutation = recorded.clone();
            switches.iter().enumerate().for_each(|(i, &flag)| set(&mut permutation, flag, on >> i & 1 == 1));
            permutation
        })
        .collect()
}

/// The same kernel for matrices of every format and, of matrix-vector products, in every variant that `choose` or the
/// autotuner can pick, at the largest workgroup. Offsets and sizes stay: they change no structure.
fn variants(recorded: &Permutation) -> Vec<Permutation> {
    if recorded.modules.is_empty() {
        return vec![recorded.clone()];
    }
    let mut all = Vec::new();
    for format in Format::ALL {
        let module = SOURCES.iter().find(|source| source.0 == format!("quant/{}", format.name().to_lowercase()));
        let module = module.unwrap_or_else(|| panic!("no module of {}", format.name())).0;
        let integers = format.block_len() > 1;
        let mut of_format = recorded.clone();
        of_format.modules.iter_mut().for_each(|(_, file)| *file = module);
        let has = |flag| recorded.flags.contains(&flag);
        if has("MATVEC") {
            let least = if recorded.kernel == "gate_up" && !has("SEGMENT2") { 2 } else { 1 };
            for rows in [1, 2, 4].into_iter().filter(|&rows| rows >= least) {
                let halves = integers || format == Format::F16;
                let possible = [("DOT", integers), ("F16", halves), ("F32", true)].into_iter().filter(|p| p.1);
                for (arithmetic, subgroups) in possible.flat_map(|(name, _)| [(name, false), (name, true)]) {
                    let mut variant = of_format.clone();
                    for (name, value) in [("WG", 256), ("RPG", rows)] {
                        variant.numbers.iter_mut().find(|number| number.0 == name).expect("baked").1 = value;
                    }
                    set(&mut variant, "RPG2", rows >= 2);
                    set(&mut variant, "RPG4", rows >= 4);
                    set(&mut variant, "DOT", arithmetic == "DOT");
                    set(&mut variant, "F16", arithmetic == "F16");
                    set(&mut variant, "SCALED", arithmetic != "F32");
                    set(&mut variant, "SUBGROUPS", subgroups);
                    all.push(variant);
                }
            }
        } else if integers || !has("DOT") && (!has("F16") || format == Format::F16) {
            let matmul = recorded.kernel == "matmul";
            set(&mut of_format, "TWO_SCALES", matmul && format == Format::Q6_K);
            all.push(of_format);
        }
    }
    // A mix of formats is no other structure than its parts, but it is what the model really has.
    all.push(recorded.clone());
    all
}

/// What is wrong with it, if anything.
fn lint(permutation: &Permutation) -> Result<(), String> {
    let (native, web) = (permutation.link(false), permutation.link(true));
    let uses_subgroups = native.contains("subgroup");
    if native.contains("enable subgroups") {
        return Err("naga rejects the directive".into());
    }
    if web.contains("enable subgroups;") != uses_subgroups {
        return Err("browsers want the directive exactly where subgroup operations are used".into());
    }
    if web.replace("enable subgroups;\n", "") != native {
        return Err("the texts differ in more than the directive".into());
    }
    let module = naga::front::wgsl::parse_str(&native).map_err(|e| e.emit_to_string(&native))?;
    // Packing halves of floats is part of WebGPU.
    let mut capabilities = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    capabilities.set(Capabilities::SHADER_FLOAT16, permutation.flags.contains(&"F16"));
    let mut validator = Validator::new(ValidationFlags::all(), capabilities);
    if uses_subgroups {
        validator = Validator::new(ValidationFlags::all(), capabilities | Capabilities::SUBGROUP);
        validator.subgroup_stages(naga::valid::ShaderStages::COMPUTE);
        validator.subgroup_operations(SubgroupOperationSet::all());
    }
    let info = validator.validate(&module).map_err(|e| e.emit_to_string(&native))?;

    let mut layouter = naga::proc::Layouter::default();
    layouter.update(module.to_ctx()).map_err(|e| e.to_string())?;
    let entry = info.get_entry_point(0);
    let used = || module.global_variables.iter().filter(|(handle, _)| !entry[*handle].is_empty());
    let storage = used().filter(|(_, global)| matches!(global.space, naga::AddressSpace::Storage { .. })).count();
    let workgroup = used().filter(|(_, global)| global.space == naga::AddressSpace::WorkGroup);
    let bytes: u32 = workgroup.map(|(_, global)| layouter[global.ty].size.next_multiple_of(16)).sum();
    let threads: u32 = module.entry_points[0].workgroup_size.iter().product();
    if storage > 8 || bytes > 16 << 10 || threads > 256 {
        return Err(format!("{storage} storage buffers, {bytes} bytes of workgroup memory, {threads} invocations"));
    }
    Ok(())
}

fn measuring() -> Vec<Permutation> {
    let sized = |kernel, names: &[&'static str]| names.iter().fold(Permutation::new(kernel), |p, n| p.number(*n, 64));
    vec![sized("stream_read", &["QUADS"]), sized("peak", &[]), sized("peak", &[]).flag("DOT")]
}

#[test]
fn every_permutation_is_valid_and_within_the_limits() {
    let Some(options) = gpu::gpu() else { return };
    let mut seen = BTreeSet::new();
    let mut table: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    let mut failures = Vec::new();
    for permutation in recorded(&options).iter().chain(&measuring()).flat_map(switched).flat_map(|one| variants(&one)) {
        let mut flags = permutation.flags.clone();
        flags.sort_unstable();
        let formats: BTreeSet<&str> = permutation.modules.iter().map(|module| &module.1["quant/".len()..]).collect();
        let formats = formats.into_iter().collect::<Vec<_>>().join("+");
        let key = (permutation.kernel.to_string(), flags.join(" "));
        // A mix of formats is checked, but its row lists only the pure ones.
        if !formats.contains('+') {
            table.entry(key).or_default().insert(formats);
        }
        if !seen.insert(permutation.link(true)) {
            continue;
        }
        if let Err(error) = lint(&permutation) {
            failures.push(format!("{} {flags:?} {:?}: {error}", permutation.kernel, permutation.modules));
        }
    }
    assert!(failures.is_empty(), "{} of {}: {}", failures.len(), seen.len(), failures[0]);
    println!("{} texts", seen.len());

    let planned: BTreeSet<&str> = table.keys().map(|key| key.0.as_str()).collect();
    for file in files().iter().filter(|file| !file.contains('/') && !MEASURING.contains(&file.as_str())) {
        assert!(planned.contains(file.as_str()), "no plan uses shaders/{file}.wgsl");
    }
    check_table(&table);
}

fn check_table(table: &BTreeMap<(String, String), BTreeSet<String>>) {
    let mut text = "kernel | flags | formats: all that the planner can make (tests/shaders.rs)\n".to_string();
    for ((kernel, flags), formats) in table {
        let formats: Vec<&str> = formats.iter().map(String::as_str).collect();
        let formats = if formats.len() == Format::ALL.len() { "all".to_string() } else { formats.join(" ") };
        text += &format!("{}\n", format!("{kernel} | {flags} | {formats}").trim_end());
    }
    let path = format!("{SHADERS}/permutations.txt");
    if std::env::var_os("KINGLET_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == text, "shaders/permutations.txt is out of date: run this test with KINGLET_BLESS=1");
}

/// Of `shaders/`, as SOURCES names them.
fn files() -> Vec<String> {
    let mut all = Vec::new();
    let mut folders = vec![Path::new(SHADERS).to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if let Some(name) = path.strip_prefix(SHADERS).unwrap().to_str().unwrap().strip_suffix(".wgsl") {
                all.push(name.to_string());
            }
        }
    }
    all
}

#[test]
fn every_file_is_linked_in_and_used_and_every_import_exists() {
    let known: BTreeSet<&str> = SOURCES.iter().map(|source| source.0).collect();
    let files: BTreeSet<String> = files().into_iter().collect();
    assert_eq!(known.len(), SOURCES.len(), "a file stands in SOURCES twice");
    assert_eq!(known, files.iter().map(String::as_str).collect());
    let formats = Format::ALL.map(|format| format!("quant/{}", format.name().to_lowercase()));
    let mut used: BTreeSet<&str> = formats.iter().map(String::as_str).collect();
    for (file, text) in SOURCES {
        assert!(text.lines().count() <= 200, "shaders/{file}.wgsl is longer than 200 lines");
        for line in text.lines().map(str::trim_start) {
            let name = line.strip_prefix("#import ").or_else(|| line.strip_prefix("#include "));
            match name.map(str::trim) {
                Some(name) if !name.starts_with('@') => {
                    assert!(known.contains(name), "shaders/{file}.wgsl wants {name}");
                    used.insert(name);
                }
                _ => {}
            }
        }
    }
    for file in known.iter().filter(|file| file.contains('/')) {
        assert!(used.contains(file), "nothing imports shaders/{file}.wgsl");
    }
}
