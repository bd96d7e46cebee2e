//! Every variant that the autotuner can pick answers like the others; what a stored result asks for and the device cannot
//! do is passed over.

#[path = "common/gpu.rs"]
mod gpu;

use gpu::{answer, gpu};
use kinglet::backend::any::AnyBackend;
use kinglet::backend::webgpu::wgsl::Permutation;
use kinglet::backend::webgpu::{GpuOptions, Tuning, WebGpuBackend};
use kinglet::backend::{Backend, DecoderSpec};
use kinglet::generate::GenerateOptions;
use kinglet::session::{LoadOptions, Request, Session};
use kinglet::source::FileSource;
use pollster::block_on;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const EMBEDDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/kinglet-tiny.gguf");

/// What loading with the self-test, and a greedy answer, came to.
struct Story {
    ids: Vec<u32>,
    margins: Vec<f32>,
    tuning: Value,
    /// What a tuning calls the five products.
    products: Vec<String>,
    /// The variants of their kernels.
    used: BTreeSet<String>,
}

fn story(options: &GpuOptions) -> Story {
    let mut shards = [FileSource::open(EMBEDDED).unwrap()];
    let backend = async |spec, _| Ok(AnyBackend::WebGpu(Box::new(WebGpuBackend::new(spec, options).await?)));
    let mut session = block_on(Session::load_on(backend, &mut shards, LoadOptions::default(), |_, _| {})).unwrap();
    let greedy = GenerateOptions { temperature: 0.0, max_tokens: Some(40), ignore_eos: true, ..Default::default() };
    let request = Request { prompt: Some("Once upon a time".into()), options: greedy, ..Request::default() };
    let (ids, margins) = answer(&mut session, &request);
    let backend = session.backend();
    let tuning = serde_json::to_value(backend.tuning().unwrap()).unwrap();
    let DecoderSpec { hidden, ffn, heads, kv_heads, head_dim, vocab, .. } = *backend.spec();
    let queries = heads * head_dim;
    let products = [
        ("qkv", queries + 2 * kv_heads * head_dim, hidden),
        ("attention_out", hidden, queries),
        ("gate_up", 2 * ffn, hidden),
        ("down", hidden, ffn),
        ("head", vocab, hidden),
    ];
    let products = products.map(|(kernel, rows, cols)| format!("{kernel} Q8_0 {rows}x{cols}")).to_vec();
    let AnyBackend::WebGpu(gpu) = backend else { unreachable!("made above") };
    let products_of = gpu.permutations().filter(|permutation| permutation.flags.contains(&"MATVEC"));
    let used = products_of.map(variant).collect();
    Story { ids, margins, tuning, products, used }
}

/// As a tuning has it.
fn variant(permutation: &Permutation) -> String {
    let number = |name: &str| permutation.numbers.iter().find(|number| number.0 == name).expect("baked").1;
    let has = |flag: &str| permutation.flags.contains(&flag);
    let arithmetic = if has("DOT") {
        "dot"
    } else if has("F16") {
        "f16"
    } else {
        "f32"
    };
    let (workgroup, lanes, rows) = (number("WG"), number("LANES"), number("RPG"));
    json!({ "workgroup": workgroup, "lanes": lanes, "rows": rows, "arithmetic": arithmetic, "subgroups": has("SUBGROUPS") })
        .to_string()
}

/// The same variant for every product.
fn all(products: &[String], variant: &Value) -> Tuning {
    serde_json::from_value(products.iter().map(|name| (name.clone(), variant.clone())).collect()).unwrap()
}

#[test]
fn every_variant_tells_the_same_story() {
    let Some(options) = gpu() else { return };
    let tuned = GpuOptions { tune: true, ..options.clone() };
    let Story { ids: expected, margins, tuning, products, .. } = story(&tuned);
    // As many as there was time for.
    let measured = tuning.as_object().unwrap();
    assert!(!measured.is_empty() && measured.keys().all(|name| products.contains(name)), "{tuning} {products:?}");
    for (workgroup, lanes, rows, arithmetic, subgroups) in [
        (64, 1, 2, "dot", false),
        (64, 32, 4, "f32", false),
        (128, 2, 2, "dot", true),
        (128, 16, 4, "f16", false),
        (256, 4, 4, "f16", true),
        (256, 8, 2, "f32", true),
        (256, 32, 2, "dot", false),
    ] {
        let variant = json!({ "workgroup": workgroup, "lanes": lanes, "rows": rows, "arithmetic": arithmetic, "subgroups": subgroups });
        let Story { ids: found, used, .. } = story(&GpuOptions { tuning: all(&products, &variant), ..options.clone() });
        assert_eq!(used, BTreeSet::from([variant.to_string()]), "what was asked for, and nothing else");
        // Sums in another order, and floats in place of int8, may turn a near tie.
        if let Some(at) = (0..40).find(|&i| found[i] != expected[i]) {
            assert!(margins[at] < 0.2, "{variant}: token {at} differs, with a margin of {}", margins[at]);
        }
    }
}

#[test]
fn what_the_device_cannot_do_is_passed_over() {
    let Some(options) = gpu() else { return };
    let Story { ids: expected, products, .. } = story(&options);
    for variant in [
        json!({ "workgroup": 1024, "lanes": 8, "rows": 2, "arithmetic": "f32", "subgroups": false }),
        json!({ "workgroup": 128, "lanes": 7, "rows": 2, "arithmetic": "f32", "subgroups": false }),
        json!({ "workgroup": 128, "lanes": 8, "rows": 0, "arithmetic": "f32", "subgroups": false }),
        json!({ "workgroup": 128, "lanes": 32, "rows": 2, "arithmetic": "f32", "subgroups": true }),
    ] {
        let tuning = all(&products, &variant);
        assert_eq!(story(&GpuOptions { tuning, ..options.clone() }).ids, expected, "{variant}");
    }
}
