//! Adapters of the golden models (`fixtures/make_lora.py`), and the logits of base and adapters merged by PEFT.
#![allow(dead_code)]

use crate::golden::{GOLDEN, floats, tolerance_of};
use kinglet::backend::{Backend, DecoderSpec};
use kinglet::generate::AdapterUse;
use kinglet::session::{LoadOptions, Session};
use kinglet::source::{FileSource, MemorySource};
use pollster::block_on;
use serde::Deserialize;
use std::collections::BTreeMap;

pub const LORA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/lora");

#[derive(Deserialize)]
pub struct Merged {
    pub prompts: Vec<Vec<u32>>,
    pub dtype: String,
    /// (adapter, scale) of those merged.
    pub cases: Vec<Vec<(String, f32)>>,
}

impl Merged {
    pub fn tolerance(&self) -> f64 {
        tolerance_of(&self.dtype)
    }

    /// Of each case, the logits of all prompts' positions.
    pub fn logits(&self, name: &str) -> Vec<Vec<f32>> {
        let all = floats(format!("{LORA}/{name}.logits"), &self.dtype);
        all.chunks(all.len() / self.cases.len()).map(<[f32]>::to_vec).collect()
    }
}

/// By the names of their bases.
pub fn merged() -> BTreeMap<String, Merged> {
    let index: BTreeMap<String, Merged> =
        serde_json::from_slice(&std::fs::read(format!("{LORA}/index.json")).unwrap()).unwrap();
    assert!(index.values().any(|merged| merged.dtype == "f32") && index.values().any(|merged| merged.dtype == "f16"));
    index
}

pub fn golden_session<B: Backend>(name: &str, new: impl Fn(DecoderSpec) -> B) -> Session<B> {
    let mut shards = [FileSource::open(format!("{GOLDEN}/{name}.gguf")).unwrap()];
    block_on(Session::load_on(async |spec, _| Ok(new(spec)), &mut shards, LoadOptions::default(), |_, _| {})).unwrap()
}

#[derive(Clone, Copy, Debug)]
pub enum Form {
    Peft,
    Gguf,
}

/// The adapter's bytes, and PEFT's configuration.
pub fn adapter(name: &str, kind: &str, form: Form) -> (Vec<u8>, Option<String>) {
    match form {
        Form::Gguf => (std::fs::read(format!("{LORA}/{name}/{kind}.gguf")).unwrap(), None),
        Form::Peft => {
            let weights = std::fs::read(format!("{LORA}/{name}/{kind}/adapter_model.safetensors")).unwrap();
            let config = std::fs::read_to_string(format!("{LORA}/{name}/{kind}/adapter_config.json")).unwrap();
            (weights, Some(config))
        }
    }
}

pub fn load<B: Backend>(session: &mut Session<B>, id: u32, name: &str, kind: &str, form: Form) -> kinglet::Result<()> {
    let (weights, config) = adapter(name, kind, form);
    block_on(session.load_adapter(id, &mut MemorySource(weights), config.as_deref()))
}

/// Of all positions of the prompts, one prompt after the other.
pub fn logits<B: Backend>(session: &mut Session<B>, prompts: &[Vec<u32>], adapters: &[AdapterUse]) -> Vec<f32> {
    session.use_adapters(adapters).unwrap();
    let mut all = Vec::new();
    for prompt in prompts {
        let keep = |rows: &[f32]| {
            all.extend_from_slice(rows);
            Ok(())
        };
        block_on(session.logits(prompt, keep)).unwrap();
    }
    all
}
