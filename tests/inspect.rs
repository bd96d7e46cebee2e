//! The report of `kinglet inspect`.

use kinglet::Error;
use kinglet::formats::Checkpoint;
use kinglet::formats::inspect::{Needs, inspect};
use kinglet::source::FileSource;
use serde_json::json;

fn fixture() -> Checkpoint {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/formats.gguf");
    pollster::block_on(Checkpoint::open(&mut [FileSource::open(path).unwrap()])).unwrap()
}

const NEEDS: Needs = Needs { context_length: 1000, cache_bytes_per_position: 64 };

#[test]
fn json_has_the_facts_of_the_file() {
    let report = serde_json::to_value(inspect(&fixture(), Ok(NEEDS))).unwrap();
    assert_eq!(report["architecture"], "llama");
    assert_eq!(report["fileBytes"], 26400);
    assert_eq!(report["files"], 1);
    // As make_formats.py writes them: 2 rows of 512 for the K types, of 64 for the others, and the same again in F32.
    assert_eq!(report["parameters"], 2 * (4 * 2 * 512 + 8 * 2 * 64));
    let weights: u64 = report["tensors"].as_array().unwrap().iter().map(|t| t["bytes"].as_u64().unwrap()).sum();
    let memory = json!({ "weights": weights, "kvCache": 64_000, "kvCachePerPosition": 64, "contextLength": 1000, "total": weights + 64_000 });
    assert_eq!(report["memory"], memory);
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
    let q3_k = fixture().tensor("Q3_K").unwrap().format().unwrap_err();
    let refused = Error::UnsupportedArchitecture { name: "mamba".into(), supported: "llama".into() };
    let report = inspect(&fixture(), Err(refused.clone()));
    assert_eq!((report.supported, report.memory), (false, None));
    assert_eq!(report.problems, [refused.to_string(), q3_k.to_string()]);
    assert_eq!(inspect(&fixture(), Err(q3_k.clone())).problems, [q3_k.to_string()]);
    // A type that the model floor does not mind belongs to a tensor that is never loaded.
    let report = inspect(&fixture(), Ok(NEEDS));
    assert_eq!((report.supported, report.problems), (true, vec![]));
}

#[test]
fn text_names_everything() {
    let needed = inspect(&fixture(), Ok(NEEDS)).to_string();
    let refused = inspect(&fixture(), Err(fixture().tensor("Q3_K").unwrap().format().unwrap_err())).to_string();
    let text = needed + &refused;
    for words in [
        "Every format and every kind of value: ä 🐦 (llama)",
        "file          0.0 MB in 1 part(s)",
        "parameters    0.01 M in 24 tensors",
        "quantization  F32",
        "KV cache 0.1 MB (1000 tokens of 64 bytes)",
        "supported     yes",
        "supported     no: tensor Q3_K has the type Q3_K",
        "test.i8",
        "  Q6_K      Q6_K   [2, 512] 840 bytes",
    ] {
        assert!(text.contains(words), "{words}\n{text}");
    }
}
