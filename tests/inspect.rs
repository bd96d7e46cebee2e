//! The report of `kinglet inspect`.

use kinglet::formats::Checkpoint;
use kinglet::model::inspect::{Question, Report, inspect};
use kinglet::session::{LoadOptions, Session};
use kinglet::source::FileSource;
use pollster::block_on;
use serde_json::json;

fn file(name: &str) -> FileSource {
    FileSource::open(format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn report(name: &str, question: Question) -> Report {
    inspect(&block_on(Checkpoint::open(&mut [file(name)])).unwrap(), &question)
}

#[test]
fn json_has_the_facts_of_the_file() {
    let report = serde_json::to_value(report("formats.gguf", Question::default())).unwrap();
    assert_eq!(report["architecture"], "llama");
    assert_eq!(report["fileBytes"], 26400);
    assert_eq!(report["files"], 1);
    // As make_formats.py writes them: 2 rows of 512 for the K types, of 64 for the others, and the same again in F32.
    assert_eq!(report["parameters"], 2 * (4 * 2 * 512 + 8 * 2 * 64));
    assert_eq!(report["tensors"][0], json!({ "name": "F32", "type": "F32", "shape": [2, 64], "bytes": 512 }));
    let shares = report["quantization"].as_array().unwrap();
    assert_eq!((&shares[0]["type"], &shares[0]["tensors"]), (&json!("F32"), &json!(13)));
    assert!((shares.iter().map(|share| share["share"].as_f64().unwrap()).sum::<f64>() - 1.0).abs() < 1e-9);
    let q6 = shares.iter().find(|share| share["type"] == "Q6_K").unwrap();
    assert_eq!((&q6["tensors"], &q6["bytes"]), (&json!(1), &json!(4 * 210)));
    assert_eq!(report["metadata"]["test.strings"], json!({ "length": 3, "first": ["", "Zaunkönig", "goldcrest"] }));
    assert_eq!(report["metadata"]["test.u64"], json!(u64::MAX));
}

#[test]
fn every_reason_against_a_file_is_given() {
    let report = report("formats.gguf", Question::default());
    assert_eq!((report.supported, report.memory, report.fits), (false, None, None));
    assert_eq!(report.problems.len(), 2, "{:?}", report.problems);
    assert!(report.problems[0].contains("llama.block_count"), "{:?}", report.problems);
    assert!(report.problems[1].contains("Q3_K"), "{:?}", report.problems);
}

#[test]
fn memory_is_what_a_session_takes() {
    let session = block_on(Session::load(&mut [file("golden/q4_k.gguf")], LoadOptions::default(), |_, _| {})).unwrap();
    let report = report("golden/q4_k.gguf", Question::default());
    let (cpu, gpu) = (report.memory.unwrap(), report.gpu_memory.unwrap());
    assert_eq!(cpu.weights, session.memory().weights);
    // One layer, keys and values, one head of 64, 256 positions; integers with a scale on the CPU, halves on a GPU.
    assert_eq!((cpu.kv_cache, gpu.kv_cache), (2 * (64 * 2 + 4) * 256, 2 * 64 * 2 * 256));
    assert_eq!((cpu.kv_cache_per_position, gpu.kv_cache_per_position), (2 * (64 * 2 + 4), 2 * 64 * 2));
    assert_eq!((cpu.context_length, report.context_length), (256, Some(256)));
    assert_eq!(cpu.total, cpu.weights + cpu.kv_cache + cpu.scratch);
    assert!(cpu.heap > cpu.total && gpu.heap < 32 << 20, "{cpu:?} {gpu:?}");
    assert!(report.supported && report.gpu_problem.is_none() && !report.chat_template);
}

#[test]
fn what_does_not_fit_has_a_nearest_that_does() {
    let ask = |memory_limit, context_length| {
        let question = Question { context_length, memory_limit: Some(memory_limit), ..Question::default() };
        serde_json::to_value(report("golden/q4_k.gguf", question).fits).unwrap()
    };
    let total = report("golden/q4_k.gguf", Question::default()).memory.unwrap().total;
    assert_eq!(ask(total, None), json!({ "limit": total, "cpu": true, "gpu": true, "nearest": null }));
    // A longer context, then, is too long: by as much as is said.
    let fits = ask(total + 100_000, Some(1_000_000));
    assert_eq!((&fits["cpu"], &fits["gpu"]), (&json!(false), &json!(true)));
    let context = fits["nearest"]["contextLength"].as_u64().unwrap() as usize;
    assert_eq!(ask(total + 100_000, Some(context))["cpu"], true);
    assert_eq!(ask(total + 100_000, Some(context + 1))["cpu"], false);
    // Not even with the shortest: the catalogue has nothing that small.
    assert_eq!(ask(10_000, None)["nearest"], json!(null));
    // A GPU takes what its bindings take.
    let question = Question { binding_limit: Some(4096), ..Question::default() };
    let report = report("golden/q4_k.gguf", question);
    assert!(report.gpu_problem.unwrap().contains("layer 0") && !report.fits.unwrap().gpu);
}

#[test]
fn text_names_everything() {
    let text = report("formats.gguf", Question::default()).to_string()
        + &report("golden/q4_k.gguf", Question { memory_limit: Some(10_000), ..Question::default() }).to_string();
    for words in [
        "Every format and every kind of value: ä 🐦 (llama)",
        "file          0.0 MB in 1 part(s)",
        "parameters    0.01 M in 24 tensors",
        "quantization  F32",
        "KV cache 0.1 MB (256 tokens of 264 bytes)",
        "memory, GPU   ",
        "fits          not on the CPU, into 0.0 MB",
        "supported     yes",
        "supported     no: tensor Q3_K has the type Q3_K",
        "test.i8",
        "  Q6_K      Q6_K   [2, 512] 840 bytes",
    ] {
        assert!(text.contains(words), "{words}\n{text}");
    }
}
