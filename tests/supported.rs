//! What the golden models cover, as README.md says it, and that llama.cpp read them as we do.

#[path = "common/golden.rs"]
mod golden;

use golden::{Cells, GOLDEN, all_cells, goldens};
use kinglet::formats::Format;
use kinglet::model::arch;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
const BEGIN: &str = "<!-- Written by tests/supported.rs. -->\n";
const END: &str = "<!-- End of what is written. -->\n";

/// What the files of an architecture are called elsewhere.
const MODELS: [(&str, &str); 6] = [
    ("llama", "Llama 1 to 3, SmolLM2, Mistral"),
    ("qwen2", "Qwen2, Qwen2.5, Qwen2.5-Coder"),
    ("qwen3", "Qwen3"),
    ("phi3", "Phi-3, Phi-3.5, Phi-4, Phi-4-mini"),
    ("gemma3", "Gemma 3 (text)"),
    ("smollm3", "SmolLM3"),
];

#[test]
fn every_architecture_is_tested_in_every_format() {
    let architectures = arch::supported();
    let cell = |architecture: &str, format: Format| (architecture.to_string(), format.name().to_string());
    let wanted: Cells =
        architectures.split(", ").flat_map(|name| Format::ALL.map(|format| cell(name, format))).collect();
    let covered = all_cells();
    assert!(covered == wanted, "{:?}", covered.symmetric_difference(&wanted).collect::<Vec<_>>());
}

/// `golden.rs` and `gpu_golden.rs` fail unless all cells agree with transformers.
#[test]
fn the_table_in_the_readme_is_what_is_tested() {
    let cells = all_cells();
    let architectures: BTreeSet<&str> = cells.iter().map(|(architecture, _)| architecture.as_str()).collect();
    assert_eq!(architectures, MODELS.iter().map(|(architecture, _)| *architecture).collect());
    let formats = Format::ALL.map(Format::name);
    let mut table =
        format!("| architecture | models | {} |\n|---|---|{}\n", formats.join(" | "), "---|".repeat(formats.len()));
    for (architecture, models) in MODELS {
        let tested = |format: &&str| cells.contains(&(architecture.to_string(), format.to_string()));
        let marks = formats.iter().map(|format| if tested(format) { "CPU GPU" } else { "" });
        table += &format!("| `{architecture}` | {models} | {} |\n", marks.collect::<Vec<_>>().join(" | "));
    }
    let readme = std::fs::read_to_string(README).unwrap();
    let (before, rest) = readme.split_once(BEGIN).expect("README.md has a place for the table");
    let (found, after) = rest.split_once(END).expect("the table in README.md ends");
    if std::env::var_os("KINGLET_BLESS").is_some() {
        std::fs::write(README, [before, BEGIN, &table, END, after].concat()).unwrap();
    } else {
        assert!(found == table, "README.md is out of date: run this test with KINGLET_BLESS=1");
    }
}

#[derive(Deserialize)]
struct Record {
    llama_cpp_python: String,
    models: BTreeMap<String, Read>,
}

#[derive(Deserialize)]
struct Read {
    sha256: String,
    clear_positions: usize,
    same_top_token: usize,
    agrees: bool,
}

/// `check_llama_cpp.py` has read these very files.
#[test]
fn llama_cpp_agreed_on_every_golden_model() {
    let record: Record = serde_json::from_slice(&std::fs::read(format!("{GOLDEN}/llama_cpp.json")).unwrap()).unwrap();
    let again = "run tests/fixtures/check_llama_cpp.py";
    assert!(!record.llama_cpp_python.is_empty());
    let names: Vec<String> = goldens().into_iter().map(|(name, ..)| name).collect();
    assert!(record.models.keys().eq(&names), "{again}");
    for (name, read) in record.models {
        let digest = Sha256::digest(std::fs::read(format!("{GOLDEN}/{name}.gguf")).unwrap());
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(read.sha256, digest, "{name} has changed: {again}");
        assert!(read.agrees && read.same_top_token == read.clear_positions && read.clear_positions >= 20, "{name}");
    }
}
