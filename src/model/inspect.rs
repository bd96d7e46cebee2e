//! The report of `kinglet inspect` and of the package's `inspect`: what a file holds, what it needs, and whether it can
//! run here. All of it is known from the header.

use super::arch;
use super::catalog::Choice;
use super::memory::{self, Model};
use crate::backend::Memory;
use crate::formats::{Checkpoint, TensorInfo, Value, quant};
use crate::text::{ChatTemplate, Tokenizer};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};
use std::fmt;

/// What it is asked about.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Question {
    /// Default: what a session would take.
    pub context_length: Option<usize>,
    /// Bytes that weights, cache and scratch may take on the CPU. Default: what a page can address.
    pub memory_limit: Option<u64>,
    /// Of the GPU: bytes of one storage binding. Default: what WebGPU promises of any.
    pub binding_limit: Option<u64>,
    pub kv_int8: bool,
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
    /// The file has a chat template of its own, and it can be read.
    pub chat_template: bool,
    /// On the CPU; `None` where the model is not supported.
    pub memory: Option<MemoryNeeded>,
    /// On a GPU, which would also take `heap` bytes of the page's wasm.
    pub gpu_memory: Option<MemoryNeeded>,
    /// Why a GPU would not take it.
    pub gpu_problem: Option<String>,
    pub fits: Option<Fits>,
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

/// Bytes, at `context_length` positions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MemoryNeeded {
    pub weights: u64,
    pub kv_cache: u64,
    pub kv_cache_per_position: u64,
    pub scratch: u64,
    pub context_length: usize,
    /// Of these three.
    pub total: u64,
    /// Of a page's wasm heap, all in all; measured heaps are within a few percent of it.
    pub heap: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fits {
    /// What `memory.total` may be.
    pub limit: u64,
    pub cpu: bool,
    /// Whether its buffers fit into the device's bindings: nobody tells a page how much memory a GPU has.
    pub gpu: bool,
    /// What the CPU could hold instead, where it cannot hold this: a context, or one of the catalogue's models.
    pub nearest: Option<Choice>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Tensor {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    /// `[rows, columns]`, as [`TensorInfo::shape`].
    pub shape: Vec<usize>,
    pub bytes: u64,
}

pub fn inspect(checkpoint: &Checkpoint, question: &Question) -> Report {
    let metadata = &checkpoint.metadata;
    let text = |key: &str| metadata.string(key).ok().flatten().map(str::to_string);
    let architecture = text("general.architecture");
    let context_key = architecture.as_ref().map(|name| format!("{name}.context_length"));
    let bytes: u64 = checkpoint.tensors.iter().map(|tensor| tensor.bytes).sum();
    let needs = needs(checkpoint, question);
    let problems = needs.as_ref().err().map_or_else(Vec::new, |error| problems(checkpoint, error));
    let needs = needs.ok();
    let gpu = needs.as_ref().map(|needs| &needs.gpu);
    Report {
        name: text("general.name"),
        file_bytes: checkpoint.file_bytes,
        files: checkpoint.tensors.iter().map(|tensor| tensor.shard + 1).max().unwrap_or(1),
        parameters: checkpoint.tensors.iter().map(|tensor| tensor.elements()).sum(),
        context_length: context_key.and_then(|key| metadata.u32(&key).ok().flatten()).map(u64::from),
        quantization: shares(checkpoint, bytes),
        chat_template: needs.as_ref().is_some_and(|needs| needs.chat_template),
        memory: needs.as_ref().map(|needs| needs.cpu),
        gpu_memory: gpu.and_then(|gpu| gpu.as_ref().ok().copied()),
        gpu_problem: gpu.and_then(|gpu| gpu.as_ref().err().map(Error::to_string)),
        fits: needs.as_ref().map(|needs| needs.fits.clone()),
        supported: problems.is_empty(),
        problems,
        metadata: metadata.iter().map(|(key, value)| (key.to_string(), short(value))).collect(),
        tensors: checkpoint.tensors.iter().map(row).collect(),
        architecture,
    }
}

struct Needs {
    chat_template: bool,
    cpu: MemoryNeeded,
    gpu: Result<MemoryNeeded>,
    fits: Fits,
}

/// Errors: why it cannot run.
fn needs(checkpoint: &Checkpoint, question: &Question) -> Result<Needs> {
    let mut blueprint = arch::describe(checkpoint)?;
    blueprint.spec.kv_int8 = question.kv_int8;
    // The tokenizer takes what it needs out of its metadata, and the report shows that too.
    let tokenizer = Tokenizer::from_gguf(&mut checkpoint.metadata.clone())?;
    arch::check_vocabulary(&tokenizer, &blueprint.spec)?;
    let own_template = checkpoint.metadata.string("tokenizer.chat_template")?.is_some();
    let chat_template = own_template && ChatTemplate::from_gguf(&checkpoint.metadata, &tokenizer).is_ok();
    let model = Model::new(&blueprint, checkpoint)?;
    let context = question.context_length.unwrap_or_else(|| memory::default_context(&blueprint.spec)).max(1);
    let cpu = needed(context, &|context| Ok(model.on_cpu(context)), |memory| memory.total() + model.heap_beside())?;
    let gpu = on_gpu(&model, &blueprint.spec, context, question);
    let limit = question.memory_limit.unwrap_or_else(memory::browser_limit);
    let on_cpu = cpu.total <= limit;
    let nearest = if on_cpu { None } else { model.nearest(context, limit) };
    Ok(Needs { chat_template, fits: Fits { limit, cpu: on_cpu, gpu: gpu.is_ok(), nearest }, cpu, gpu })
}

#[cfg(feature = "webgpu")]
fn on_gpu(
    model: &Model,
    spec: &crate::backend::DecoderSpec,
    context: usize,
    question: &Question,
) -> Result<MemoryNeeded> {
    use crate::backend::webgpu::{Room, supported};
    supported(spec)?;
    let default = Room::default();
    let binding_limit = question.binding_limit.unwrap_or(default.binding_limit);
    let room = Room { binding_limit };
    needed(context, &|context| model.on_gpu(context, room), |_| model.heap_beside_gpu())
}

#[cfg(not(feature = "webgpu"))]
fn on_gpu(_: &Model, _: &crate::backend::DecoderSpec, _: usize, _: &Question) -> Result<MemoryNeeded> {
    Err(Error::NoWebGpu("this build has none".into()))
}

fn needed(
    context_length: usize,
    of: &dyn Fn(usize) -> Result<Memory>,
    heap: impl FnOnce(&Memory) -> u64,
) -> Result<MemoryNeeded> {
    /// Positions of a whole number of blocks, whatever the backend's.
    const SOME: usize = 1024;
    let memory = of(context_length)?;
    Ok(MemoryNeeded {
        weights: memory.weights,
        kv_cache: memory.kv_cache,
        kv_cache_per_position: of(SOME)?.kv_cache / SOME as u64,
        scratch: memory.scratch,
        context_length,
        total: memory.total(),
        heap: heap(&memory),
    })
}

/// The model floor's error is its first one; the types it would stumble over next follow, one tensor for each.
fn problems(checkpoint: &Checkpoint, first: &Error) -> Vec<String> {
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

fn row(tensor: &TensorInfo) -> Tensor {
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
        writeln!(f, "chat template {}", if self.chat_template { "its own" } else { "none" })?;
        for (label, memory) in [("memory, CPU", self.memory), ("memory, GPU", self.gpu_memory)] {
            let Some(memory) = memory else { continue };
            let [total, weights, cache, scratch, heap] =
                [memory.total, memory.weights, memory.kv_cache, memory.scratch, memory.heap].map(megabytes);
            write!(f, "{label:<14}{total} = weights {weights} + KV cache {cache} ")?;
            write!(f, "({} tokens of {} bytes) ", memory.context_length, memory.kv_cache_per_position)?;
            writeln!(f, "+ scratch {scratch}; a page's heap {heap}")?;
        }
        if let Some(problem) = &self.gpu_problem {
            writeln!(f, "GPU           no: {problem}")?;
        }
        if let Some(fits) = &self.fits {
            let limit = megabytes(fits.limit);
            match (&fits.nearest, fits.cpu) {
                (_, true) => writeln!(f, "fits          yes, into {limit}")?,
                (Some(choice), false) => writeln!(f, "fits          not on the CPU, into {limit}; {choice}")?,
                (None, false) => writeln!(f, "fits          not on the CPU, into {limit}")?,
            }
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
