//! The report of `kinglet inspect`: what a file holds, what it needs, and whether it can run here.

use super::metadata::Value;
use super::{Checkpoint, quant};
use crate::{Error, Result};
use serde::Serialize;
use serde_json::{Map, json};
use std::fmt;

/// What the model floor knows of a checkpoint that it can run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Needs {
    /// Positions the session would give it by default.
    pub context_length: usize,
    /// Keys and values of all layers.
    pub cache_bytes_per_position: u64,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub architecture: Option<String>,
    pub name: Option<String>,
    pub file_bytes: u64,
    pub files: usize,
    pub parameters: u64,
    /// The model's own, of which a session uses a part.
    pub context_length: Option<u64>,
    /// By bytes, the largest first.
    pub quantization: Vec<Share>,
    /// `None` where the architecture is not supported.
    pub memory: Option<MemoryNeeded>,
    pub supported: bool,
    /// Why not.
    pub problems: Vec<String>,
    /// Long strings and arrays shortened.
    pub metadata: Map<String, serde_json::Value>,
    pub tensors: Vec<Tensor>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Share {
    #[serde(rename = "type")]
    pub kind: String,
    pub tensors: usize,
    pub bytes: u64,
    /// Of all tensors' bytes, 0 to 1.
    pub share: f64,
}

/// Bytes, without the scratch buffers of some MB.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MemoryNeeded {
    pub weights: u64,
    pub kv_cache: u64,
    pub kv_cache_per_position: u64,
    pub context_length: usize,
    pub total: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct Tensor {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    /// `[rows, columns]`, as [`super::TensorInfo::shape`].
    pub shape: Vec<usize>,
    pub bytes: u64,
}

/// `needs`: what the model floor says of the checkpoint, or why it cannot run.
pub fn inspect(checkpoint: &Checkpoint, needs: Result<Needs>) -> Report {
    let metadata = &checkpoint.metadata;
    let text = |key: &str| metadata.string(key).ok().flatten().map(str::to_string);
    let architecture = text("general.architecture");
    let context_key = architecture.as_ref().map(|name| format!("{name}.context_length"));
    let weights: u64 = checkpoint.tensors.iter().map(|tensor| tensor.bytes).sum();
    let memory = needs.as_ref().ok().map(|needs| {
        let kv_cache = needs.cache_bytes_per_position.saturating_mul(needs.context_length as u64);
        MemoryNeeded {
            weights,
            kv_cache,
            kv_cache_per_position: needs.cache_bytes_per_position,
            context_length: needs.context_length,
            total: weights.saturating_add(kv_cache),
        }
    });
    let problems = needs.err().map_or_else(Vec::new, |error| problems(checkpoint, error));
    Report {
        name: text("general.name"),
        file_bytes: checkpoint.file_bytes,
        files: checkpoint.tensors.iter().map(|tensor| tensor.shard + 1).max().unwrap_or(1),
        parameters: checkpoint.tensors.iter().map(|tensor| tensor.elements()).sum(),
        context_length: context_key.and_then(|key| metadata.u32(&key).ok().flatten()).map(u64::from),
        quantization: shares(checkpoint, weights),
        memory,
        supported: problems.is_empty(),
        problems,
        metadata: metadata.iter().map(|(key, value)| (key.to_string(), short(value))).collect(),
        tensors: checkpoint.tensors.iter().map(row).collect(),
        architecture,
    }
}

/// The model floor's error is its first one; the types it would stumble over next follow, one tensor for each.
fn problems(checkpoint: &Checkpoint, first: Error) -> Vec<String> {
    let mut problems = vec![first.to_string()];
    let mut types = Vec::new();
    for tensor in &checkpoint.tensors {
        if let Err(error) = tensor.format()
            && !types.contains(&tensor.ggml_type)
        {
            types.push(tensor.ggml_type);
            problems.push(error.to_string());
        }
    }
    problems.dedup();
    problems
}

fn row(tensor: &super::TensorInfo) -> Tensor {
    let kind = quant::ggml_type_name(tensor.ggml_type);
    Tensor { name: tensor.name.clone(), kind, shape: tensor.shape.clone(), bytes: tensor.bytes }
}

fn shares(checkpoint: &Checkpoint, weights: u64) -> Vec<Share> {
    let mut shares: Vec<Share> = Vec::new();
    for tensor in &checkpoint.tensors {
        let kind = quant::ggml_type_name(tensor.ggml_type);
        let i = shares.iter().position(|share| share.kind == kind).unwrap_or_else(|| {
            shares.push(Share { kind, tensors: 0, bytes: 0, share: 0.0 });
            shares.len() - 1
        });
        shares[i].tensors += 1;
        shares[i].bytes += tensor.bytes;
    }
    shares.iter_mut().for_each(|share| share.share = share.bytes as f64 / weights.max(1) as f64);
    shares.sort_by_key(|share| std::cmp::Reverse(share.bytes));
    shares
}

const LONGEST_STRING: usize = 120;
const SHOWN_ELEMENTS: usize = 4;

fn short_string(s: &str) -> String {
    let total = s.chars().count();
    if total <= LONGEST_STRING {
        return s.into();
    }
    let head: String = s.chars().take(LONGEST_STRING).collect();
    format!("{head}… ({total} characters)")
}

fn short(value: &Value) -> serde_json::Value {
    fn array<T: Serialize>(length: usize, first: impl Iterator<Item = T>) -> serde_json::Value {
        json!({ "length": length, "first": first.take(SHOWN_ELEMENTS).collect::<Vec<T>>() })
    }
    match value {
        Value::Bool(b) => json!(b),
        Value::Int(i) => json!(i),
        Value::Uint(u) => json!(u),
        Value::Float(f) => json!(f),
        Value::String(s) => json!(short_string(s)),
        Value::Bools(bools) => array(bools.len(), bools.iter()),
        Value::Ints(ints) => array(ints.len(), ints.iter()),
        Value::Floats(floats) => array(floats.len(), floats.iter()),
        Value::Strings(strings) => {
            array(strings.len(), strings.iter().map(|s| short_string(&String::from_utf8_lossy(s))))
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (name, architecture) = (self.name.as_deref(), self.architecture.as_deref());
        writeln!(f, "{} ({})", name.unwrap_or("without a name"), architecture.unwrap_or("unknown architecture"))?;
        writeln!(f, "file          {} in {} part(s)", megabytes(self.file_bytes), self.files)?;
        writeln!(f, "parameters    {:.2} M in {} tensors", self.parameters as f64 / 1e6, self.tensors.len())?;
        if let Some(context) = self.context_length {
            writeln!(f, "context       {context} tokens")?;
        }
        for (i, share) in self.quantization.iter().enumerate() {
            let label = if i == 0 { "quantization" } else { "" };
            let (bytes, percent) = (megabytes(share.bytes), 100.0 * share.share);
            writeln!(f, "{label:<14}{:<8}{bytes:>12} {percent:5.1} %  {} tensors", share.kind, share.tensors)?;
        }
        if let Some(memory) = self.memory {
            let (weights, cache) = (megabytes(memory.weights), megabytes(memory.kv_cache));
            write!(f, "memory        {} = weights {weights} + KV cache {cache} ", megabytes(memory.total))?;
            writeln!(f, "({} tokens of {} bytes)", memory.context_length, memory.kv_cache_per_position)?;
        }
        match &self.problems[..] {
            [] => writeln!(f, "supported     yes")?,
            problems => problems.iter().try_for_each(|problem| writeln!(f, "supported     no: {problem}"))?,
        }
        writeln!(f, "\nmetadata")?;
        let width = self.metadata.keys().map(String::len).max().unwrap_or(0);
        for (key, value) in &self.metadata {
            writeln!(f, "  {key:<width$}  {value}")?;
        }
        writeln!(f, "\ntensors")?;
        let width = self.tensors.iter().map(|tensor| tensor.name.len()).max().unwrap_or(0);
        for Tensor { name, kind, shape, bytes } in &self.tensors {
            writeln!(f, "  {name:<width$}  {kind:<6} {shape:?} {bytes} bytes")?;
        }
        Ok(())
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
