//! `pkg/catalog.json`: made from the shapes of the models and from what their publishers say. `KINGLET_BLESS=1` writes it
//! anew.

#[path = "../benches/shapes/header.rs"]
mod header;
#[path = "../benches/shapes/shapes.rs"]
#[allow(dead_code)]
mod shapes;

use header::Tokens;
use kinglet::Error;
use kinglet::backend::webgpu::Room;
use kinglet::formats::Checkpoint;
use kinglet::model::memory::{Model, browser_limit, default_context};
use kinglet::model::{arch, catalog};
use kinglet::source::ByteSource;
use kinglet::text::Family;
use pollster::block_on;
use serde_json::{Map, Value, json};
use shapes::{Mix, Shape, Vocabulary, shape, tensors};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/pkg/catalog.json");

/// What cannot be computed. Sizes are those that the Hub shows for the files.
struct Published {
    id: &'static str,
    name: &'static str,
    family: &'static str,
    shape: &'static str,
    licence: (&'static str, &'static str),
    template: &'static str,
    files: &'static [File],
}

struct File {
    mix: &'static str,
    repository: &'static str,
    file: &'static str,
    bytes: u64,
}

const APACHE: &str = "Apache-2.0";
const GEMMA: (&str, &str) = ("Gemma", "https://ai.google.dev/gemma/terms");
const QWEN_RESEARCH: &str = "Qwen-Research";

#[rustfmt::skip]
const PUBLISHED: [Published; 13] = [
    Published {
        id: "smollm2-135m-instruct", name: "SmolLM2 135M Instruct", family: "smollm2", shape: "smollm2-135m",
        licence: (APACHE, "https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct"), template: "smollm2",
        files: &[File { mix: "Q8_0", repository: "bartowski/SmolLM2-135M-Instruct-GGUF", file: "SmolLM2-135M-Instruct-Q8_0.gguf", bytes: 144_811_360 }],
    },
    Published {
        id: "smollm2-360m-instruct", name: "SmolLM2 360M Instruct", family: "smollm2", shape: "smollm2-360m",
        licence: (APACHE, "https://huggingface.co/HuggingFaceTB/SmolLM2-360M-Instruct"), template: "smollm2",
        files: &[File { mix: "Q8_0", repository: "HuggingFaceTB/SmolLM2-360M-Instruct-GGUF", file: "smollm2-360m-instruct-q8_0.gguf", bytes: 386_404_992 }],
    },
    Published {
        id: "smollm2-1.7b-instruct", name: "SmolLM2 1.7B Instruct", family: "smollm2", shape: "smollm2-1.7b",
        licence: (APACHE, "https://huggingface.co/HuggingFaceTB/SmolLM2-1.7B-Instruct"), template: "smollm2",
        files: &[
            File { mix: "Q4_K_M", repository: "bartowski/SmolLM2-1.7B-Instruct-GGUF", file: "SmolLM2-1.7B-Instruct-Q4_K_M.gguf", bytes: 1_055_609_824 },
            File { mix: "Q8_0", repository: "bartowski/SmolLM2-1.7B-Instruct-GGUF", file: "SmolLM2-1.7B-Instruct-Q8_0.gguf", bytes: 1_820_414_944 },
        ],
    },
    Published {
        id: "phi-4-mini-instruct", name: "Phi-4-mini Instruct", family: "phi-4", shape: "phi-4-mini",
        licence: ("MIT", "https://huggingface.co/microsoft/Phi-4-mini-instruct"), template: "phi-4-mini",
        files: &[File { mix: "Q4_K_M", repository: "unsloth/Phi-4-mini-instruct-GGUF", file: "Phi-4-mini-instruct-Q4_K_M.gguf", bytes: 2_491_874_272 }],
    },
    Published {
        id: "gemma-3-270m-it", name: "Gemma 3 270M it", family: "gemma-3", shape: "gemma-3-270m",
        licence: GEMMA, template: "gemma-3",
        files: &[File { mix: "Q8_0", repository: "ggml-org/gemma-3-270m-it-GGUF", file: "gemma-3-270m-it-Q8_0.gguf", bytes: 291_545_600 }],
    },
    Published {
        id: "gemma-3-1b-it", name: "Gemma 3 1B it", family: "gemma-3", shape: "gemma-3-1b",
        licence: GEMMA, template: "gemma-3",
        files: &[
            File { mix: "Q4_K_M", repository: "ggml-org/gemma-3-1b-it-GGUF", file: "gemma-3-1b-it-Q4_K_M.gguf", bytes: 806_058_240 },
            File { mix: "Q8_0", repository: "ggml-org/gemma-3-1b-it-GGUF", file: "gemma-3-1b-it-Q8_0.gguf", bytes: 1_069_306_368 },
        ],
    },
    Published {
        id: "gemma-3-4b-it", name: "Gemma 3 4B it", family: "gemma-3", shape: "gemma-3-4b",
        licence: GEMMA, template: "gemma-3",
        files: &[File { mix: "Q4_K_M", repository: "ggml-org/gemma-3-4b-it-GGUF", file: "gemma-3-4b-it-Q4_K_M.gguf", bytes: 2_489_757_856 }],
    },
    Published {
        id: "qwen2.5-0.5b-instruct", name: "Qwen2.5 0.5B Instruct", family: "qwen2.5", shape: "qwen2.5-0.5b",
        licence: (APACHE, "https://huggingface.co/Qwen/Qwen2.5-0.5B-Instruct"), template: "qwen2.5",
        files: &[
            File { mix: "Q4_K_M", repository: "Qwen/Qwen2.5-0.5B-Instruct-GGUF", file: "qwen2.5-0.5b-instruct-q4_k_m.gguf", bytes: 491_400_032 },
            File { mix: "Q8_0", repository: "Qwen/Qwen2.5-0.5B-Instruct-GGUF", file: "qwen2.5-0.5b-instruct-q8_0.gguf", bytes: 675_710_816 },
        ],
    },
    Published {
        id: "qwen2.5-1.5b-instruct", name: "Qwen2.5 1.5B Instruct", family: "qwen2.5", shape: "qwen2.5-1.5b",
        licence: (APACHE, "https://huggingface.co/Qwen/Qwen2.5-1.5B-Instruct"), template: "qwen2.5",
        files: &[
            File { mix: "Q4_K_M", repository: "Qwen/Qwen2.5-1.5B-Instruct-GGUF", file: "qwen2.5-1.5b-instruct-q4_k_m.gguf", bytes: 1_117_320_736 },
            File { mix: "Q8_0", repository: "Qwen/Qwen2.5-1.5B-Instruct-GGUF", file: "qwen2.5-1.5b-instruct-q8_0.gguf", bytes: 1_894_532_128 },
        ],
    },
    Published {
        id: "qwen2.5-3b-instruct", name: "Qwen2.5 3B Instruct", family: "qwen2.5", shape: "qwen2.5-3b",
        licence: (QWEN_RESEARCH, "https://huggingface.co/Qwen/Qwen2.5-3B-Instruct"), template: "qwen2.5",
        files: &[File { mix: "Q4_K_M", repository: "Qwen/Qwen2.5-3B-Instruct-GGUF", file: "qwen2.5-3b-instruct-q4_k_m.gguf", bytes: 2_104_932_768 }],
    },
    Published {
        id: "qwen2.5-coder-0.5b-instruct", name: "Qwen2.5-Coder 0.5B Instruct", family: "qwen2.5-coder", shape: "qwen2.5-0.5b",
        licence: (APACHE, "https://huggingface.co/Qwen/Qwen2.5-Coder-0.5B-Instruct"), template: "qwen2.5",
        files: &[File { mix: "Q4_K_M", repository: "Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF", file: "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf", bytes: 491_400_064 }],
    },
    Published {
        id: "qwen2.5-coder-1.5b-instruct", name: "Qwen2.5-Coder 1.5B Instruct", family: "qwen2.5-coder", shape: "qwen2.5-1.5b",
        licence: (APACHE, "https://huggingface.co/Qwen/Qwen2.5-Coder-1.5B-Instruct"), template: "qwen2.5",
        files: &[
            File { mix: "Q4_K_M", repository: "Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF", file: "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf", bytes: 1_117_320_768 },
            File { mix: "Q8_0", repository: "Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF", file: "qwen2.5-coder-1.5b-instruct-q8_0.gguf", bytes: 1_894_532_160 },
        ],
    },
    Published {
        id: "qwen2.5-coder-3b-instruct", name: "Qwen2.5-Coder 3B Instruct", family: "qwen2.5-coder", shape: "qwen2.5-3b",
        licence: (QWEN_RESEARCH, "https://huggingface.co/Qwen/Qwen2.5-Coder-3B-Instruct"), template: "qwen2.5",
        files: &[File { mix: "Q4_K_M", repository: "Qwen/Qwen2.5-Coder-3B-Instruct-GGUF", file: "qwen2.5-coder-3b-instruct-q4_k_m.gguf", bytes: 2_104_932_800 }],
    },
];

/// The beginning of a file; nobody asks for the rest.
struct Header {
    bytes: Vec<u8>,
    len: u64,
}

impl ByteSource for Header {
    fn len(&self) -> Option<u64> {
        Some(self.len)
    }

    async fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> kinglet::Result<()> {
        // What is read ahead of it are tensors.
        let rest = self.bytes.get(offset as usize..).unwrap_or_default();
        let known = rest.len().min(buf.len());
        buf[..known].copy_from_slice(&rest[..known]);
        buf[known..].fill(0);
        Ok(())
    }
}

/// As large as the real ones: texts of nothing.
fn stand_in(vocabulary: &Vocabulary) -> Tokens {
    let spread = |count: usize, bytes: usize| {
        (0..count).map(move |i| bytes * (i + 1) / count - bytes * i / count).map(|len| "x".repeat(len))
    };
    Tokens {
        texts: spread(vocabulary.tokens, vocabulary.token_bytes).map(String::into_bytes).collect(),
        kinds: vec![1; vocabulary.tokens],
        merges: spread(vocabulary.merges, vocabulary.merge_bytes).collect(),
        bos: None,
        eos: 0,
        template: "x".repeat(2000),
    }
}

fn checkpoint(shape: &Shape, mix: Mix) -> Checkpoint {
    let tensors = tensors(shape, mix);
    let bytes = header::header(shape, mix, &tensors, &stand_in(&shape.vocabulary));
    let data: usize = tensors.iter().map(|tensor| header::padded(tensor.bytes())).sum();
    let len = (bytes.len() + data) as u64;
    block_on(Checkpoint::open(&mut [Header { bytes, len }])).unwrap()
}

fn mix(name: &str) -> Mix {
    Mix::ALL.into_iter().find(|(known, _)| *known == name).unwrap().1
}

fn model(published: &Published) -> Value {
    let shape = shape(published.shape).unwrap();
    let files: Vec<Value> = published.files.iter().map(|file| entry(shape, file)).collect();
    let smallest = checkpoint(shape, mix(published.files[0].mix));
    // A head that repeats the embedding counts once.
    let counted = smallest.tensors.iter().filter(|tensor| shape.tied || tensor.name != "output.weight");
    let parameters: u64 = counted.map(|tensor| tensor.elements()).sum();
    json!({
        "id": published.id,
        "name": published.name,
        "family": published.family,
        "architecture": shape.architecture.name(),
        "parameters": parameters,
        "contextLength": shape.context,
        "licence": { "id": published.licence.0, "url": published.licence.1 },
        "template": published.template,
        "files": files,
    })
}

fn entry(shape: &Shape, file: &File) -> Value {
    let checkpoint = checkpoint(shape, mix(file.mix));
    let blueprint = arch::describe(&checkpoint).unwrap();
    let model = Model::new(&blueprint, &checkpoint).unwrap();
    let context = default_context(&blueprint.spec);
    let cpu = model.on_cpu(context);
    // The GPU's figure is a desktop's: on a device that binds less, the embedding stands in parts, which costs nothing.
    let gpu = model.on_gpu(context, Room { binding_limit: 2 << 30 }).unwrap();
    json!({
        "quantization": file.mix,
        "repository": file.repository,
        "file": file.file,
        "bytes": file.bytes,
        "memory": {
            "contextLength": context,
            "cpu": cpu.total(),
            "cpuPerPosition": cpu.kv_cache / context as u64,
            "gpu": gpu.total(),
            "gpuPerPosition": gpu.kv_cache / context as u64,
            "gpuHeap": model.heap_beside_gpu(),
        },
    })
}

fn made() -> Value {
    let note = "Made by tests/catalog.rs from the shapes of the models, with the names and sizes of the files on the Hub. \
        memory: bytes at contextLength positions. cpu: weights, KV cache and scratch in the page's wasm heap; gpu: the same \
        on the GPU, beside which the page's wasm heap takes gpuHeap.";
    json!({ "note": note, "cpuLimit": browser_limit(), "models": PUBLISHED.iter().map(model).collect::<Vec<_>>() })
}

#[test]
fn it_is_up_to_date() {
    let text = serde_json::to_string_pretty(&made()).unwrap() + "\n";
    if std::env::var_os("KINGLET_BLESS").is_some() {
        std::fs::write(PATH, &text).unwrap();
    }
    let found = std::fs::read_to_string(PATH).unwrap();
    assert!(found == text, "pkg/catalog.json is out of date: run this test with KINGLET_BLESS=1");
}

#[test]
fn sizes_follow_from_the_shapes() {
    for published in &PUBLISHED {
        let shape = shape(published.shape).unwrap();
        for file in published.files {
            let computed = checkpoint(shape, mix(file.mix)).file_bytes as f64;
            let off = computed - file.bytes as f64;
            println!("{:<45} {} computed {computed} {off:+}", file.file, file.bytes);
            // Gemma's vocabulary is not at hand, only its size as a whole.
            let most = if shape.architecture.name() == "gemma3" { 1e-4 * file.bytes as f64 } else { 2048.0 };
            assert!(off.abs() <= most, "{}: {computed} bytes by its shape, not {}", file.file, file.bytes);
        }
    }
}

#[test]
fn every_entry_is_whole() {
    let found: Value = serde_json::from_slice(&std::fs::read(PATH).unwrap()).unwrap();
    let mut ids = Vec::new();
    for model in found["models"].as_array().unwrap() {
        let text = |of: &Map<String, Value>, key: &str| {
            let text = of[key].as_str().unwrap_or_default().to_string();
            assert!(!text.is_empty(), "{key} of {of:?}");
            text
        };
        let model = model.as_object().unwrap();
        ids.push(text(model, "id"));
        ["name", "family", "architecture"].iter().for_each(|key| drop(text(model, key)));
        assert!(Family::named(&text(model, "template")).is_some());
        let licence = model["licence"].as_object().unwrap();
        assert!(!text(licence, "id").is_empty() && text(licence, "url").starts_with("https://"));
        let files = model["files"].as_array().unwrap();
        assert!(!files.is_empty() && files.is_sorted_by_key(|file| file["bytes"].as_u64()));
        for file in files {
            let file = file.as_object().unwrap();
            assert_eq!(text(file, "repository").split('/').count(), 2);
            assert!(text(file, "file").to_uppercase().contains(&text(file, "quantization")), "{file:?}");
            let memory = &file["memory"];
            for key in ["cpu", "cpuPerPosition", "gpu", "gpuPerPosition", "gpuHeap"] {
                assert!(memory[key].as_u64().is_some_and(|bytes| bytes > 0), "{key} of {file:?}");
            }
            let (bytes, cpu) = (file["bytes"].as_u64().unwrap(), memory["cpu"].as_u64().unwrap());
            // Repacking, cache and scratch are on top; the head that repeats the embedding, and vocabulary, are not.
            assert!(cpu > bytes - bytes / 50 && cpu < 2 * bytes + (1 << 30), "{cpu} for {bytes}");
            assert!(memory["gpuHeap"].as_u64().unwrap() < 256 << 20, "{memory}");
        }
    }
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), count), (PUBLISHED.len(), PUBLISHED.len()));
}

/// Phi-4 14B, say.
#[test]
fn the_nearest_choice_is_of_the_family() {
    let fits = |architecture: &str, name: &str, parameters, limit| {
        catalog::nearest(architecture, name, parameters, 4096, limit).map(|choice| choice.to_string())
    };
    let limit = browser_limit();
    let (billion, phi) = (1_000_000_000, "Phi-4-mini Instruct");
    assert!(fits("phi3", "Phi 4", 14 * billion, limit).unwrap().contains(phi));
    let coder = fits("qwen2", "Qwen2.5 Coder 7B Instruct", 7 * billion, limit).unwrap();
    assert!(coder.contains("Qwen2.5-Coder 3B") && coder.contains("qwen2.5-coder-3b-instruct-q4_k_m.gguf"), "{coder}");
    assert!(fits("qwen2", "Qwen2.5 7B Instruct", 7 * billion, limit).unwrap().contains("Qwen2.5 3B"));
    assert!(fits("gemma3", "Gemma 3 12b It", 12 * billion, limit).unwrap().contains("Gemma 3 4B"));
    // Less memory, a smaller one; another architecture, the largest of any; too little, none.
    assert!(fits("gemma3", "Gemma 3 12b It", 12 * billion, 2 << 30).unwrap().contains("Gemma 3 1B"));
    assert!(fits("llama", "Llama 3 8B", 8 * billion, limit).unwrap().contains("SmolLM2 1.7B"));
    assert!(fits("llama", "SmolLM2 1.7B", 17 * billion / 10, 9 << 28).unwrap().contains("Q4_K_M"));
    assert!(fits("smollm3", "SmolLM3", 3 * billion, limit).is_some());
    assert_eq!(fits("llama", "SmolLM2 360M", 360_000_000, 100 << 20), None);
}

#[test]
fn a_model_that_cannot_fit_names_the_one_that_does() {
    // A Qwen2.5 with twice the layers.
    let large = Shape { name: "qwen2.5-coder-7b", layers: 72, ..*shape("qwen2.5-3b").unwrap() };
    let checkpoint = checkpoint(&large, Mix::Q8_0);
    let mut blueprint = arch::describe(&checkpoint).unwrap();
    blueprint.spec.context_length = 4096;
    let error = Model::new(&blueprint, &checkpoint).unwrap().check(browser_limit()).unwrap_err();
    let Error::OutOfMemory { need_bytes, available_bytes, advice, .. } = &error else { panic!("{error}") };
    assert!(*need_bytes > checkpoint.file_bytes && *available_bytes == browser_limit());
    assert!(advice.contains("Qwen2.5-Coder 3B Instruct Q4_K_M fits"), "{advice}");
}
