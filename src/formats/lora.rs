//! LoRA adapters: PEFT's `adapter_model.safetensors` with its `adapter_config.json`, and llama.cpp's GGUF adapters. A pair
//! of factors changes what a matrix W does to x: W x + scale * B (A x).

use super::reader::Reader;
use super::safetensors::{self, Entry, InOrder};
use super::{Checkpoint, Format, TensorInfo};
use crate::source::ByteSource;
use crate::{Error, Result};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Whose names the targets are.
#[derive(Clone, Debug, PartialEq)]
pub enum Dialect {
    /// `blk.0.attn_q.weight`, in files for one architecture.
    Gguf { architecture: String },
    /// `model.layers.0.self_attn.q_proj`, the modules of Hugging Face transformers.
    Peft,
}

#[derive(Clone, Debug, PartialEq)]
pub struct AdapterFile {
    pub dialect: Dialect,
    /// At least one.
    pub pairs: Vec<Pair>,
}

/// The two factors of one matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    pub target: String,
    /// `[rank, columns of the matrix]`
    pub a: Factor,
    /// `[rows of the matrix, rank]`
    pub b: Factor,
    /// alpha / rank, or what else the file says.
    pub scale: f32,
}

/// A matrix of floats, `[rows, cols]`, rows contiguous.
#[derive(Clone, Debug, PartialEq)]
pub struct Factor {
    /// F32, F16 or BF16.
    pub format: Format,
    pub rows: usize,
    pub cols: usize,
    pub bytes: Vec<u8>,
}

impl Factor {
    pub fn row(&self, row: usize) -> &[u8] {
        let bytes = self.format.row_bytes(self.cols);
        &self.bytes[row * bytes..][..bytes]
    }

    /// These rows, in this order.
    pub fn rows(&self, rows: impl ExactSizeIterator<Item = usize>) -> Factor {
        let (count, mut bytes) = (rows.len(), Vec::with_capacity(rows.len() * self.format.row_bytes(self.cols)));
        rows.for_each(|row| bytes.extend_from_slice(self.row(row)));
        Factor { rows: count, bytes, ..*self }
    }

    pub fn values(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.rows * self.cols];
        self.format.dequantize(&self.bytes, &mut values);
        values
    }
}

/// Reads an adapter: PEFT's, if `config` is given, which is the text of its `adapter_config.json`, else llama.cpp's.
///
/// Errors: [`Error::Adapter`] for whatever is wrong with the file; [`Error::Source`], [`Error::Aborted`].
pub async fn read<S: ByteSource>(source: &mut S, config: Option<&str>) -> Result<AdapterFile> {
    let read = match config {
        Some(config) => read_peft(source, config).await,
        None => read_gguf(source).await,
    };
    read.map_err(of_an_adapter)
}

/// What a model's file would be told, told of an adapter's.
fn of_an_adapter(error: Error) -> Error {
    match error {
        Error::Source(_) | Error::Aborted | Error::OutOfMemory { .. } | Error::Adapter(_) => error,
        Error::NotAModel(why) => {
            let what = why.split("; ").next().unwrap_or_default();
            Error::Adapter(format!(
                "{what}; it has to be llama.cpp's GGUF, or PEFT's adapter_model.safetensors with its adapter_config.json"
            ))
        }
        other => Error::Adapter(other.to_string()),
    }
}

/// The first tensor of a pair waits for the second.
#[derive(Default)]
struct Pairing(BTreeMap<String, (Option<Factor>, Option<Factor>)>);

impl Pairing {
    fn insert(&mut self, target: &str, half: Half, factor: Factor) -> Result<()> {
        let (a, b) = self.0.entry(target.into()).or_default();
        let place = if half == Half::A { a } else { b };
        match place.replace(factor) {
            Some(_) => Err(Error::Adapter(format!("{target} has two factors {half:?}"))),
            None => Ok(()),
        }
    }

    /// `scale(target, rank)`.
    fn finish(self, scale: impl Fn(&str, usize) -> Result<f32>) -> Result<Vec<Pair>> {
        if self.0.is_empty() {
            return Err(Error::Adapter("it has no LoRA factors".into()));
        }
        let pair = |(target, (a, b)): (String, (Option<Factor>, Option<Factor>))| {
            let lacking = |half| Error::Adapter(format!("{target} lacks its factor {half:?}"));
            let (a, b) = (a.ok_or_else(|| lacking(Half::A))?, b.ok_or_else(|| lacking(Half::B))?);
            if a.rows != b.cols {
                let ([ar, ac], [br, bc]) = ([a.rows, a.cols], [b.rows, b.cols]);
                return Err(Error::Adapter(format!(
                    "the ranks of {target} differ: A is [{ar}, {ac}], B is [{br}, {bc}]"
                )));
            }
            let scale = scale(&target, a.rows)?;
            if !scale.is_finite() {
                return Err(Error::Adapter(format!("{target} has the scale {scale}")));
            }
            Ok(Pair { target, a, b, scale })
        };
        self.0.into_iter().map(pair).collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Half {
    A,
    B,
}

fn two_dimensions(name: &str, shape: &[usize]) -> Result<[usize; 2]> {
    match *shape {
        [rows, cols] if rows > 0 && cols > 0 => Ok([rows, cols]),
        _ => Err(Error::Adapter(format!("{name} has the shape {shape:?}; factors have two dimensions"))),
    }
}

async fn read_gguf<S: ByteSource>(source: &mut S) -> Result<AdapterFile> {
    let shards = std::slice::from_mut(source);
    let file = Checkpoint::open(shards).await?;
    let metadata = &file.metadata;
    let expect = |key: &str, expected: &str| match metadata.string(key)? {
        Some(found) if found == expected => Ok(()),
        found => {
            let found = found.map_or("missing".into(), |found| format!("\"{found}\""));
            Err(Error::Adapter(format!("{key} is {found}, not \"{expected}\"; is it a whole model?")))
        }
    };
    expect("general.type", "adapter")?;
    expect("adapter.type", "lora")?;
    if metadata.get("adapter.alora.invocation_tokens").is_some() {
        return Err(unsupported("activated LoRA (adapter.alora.invocation_tokens)"));
    }
    let architecture = metadata.string("general.architecture")?;
    let architecture = architecture.ok_or_else(|| Error::Adapter("general.architecture is missing".into()))?.into();
    let alpha = metadata.f32("adapter.lora.alpha")?.unwrap_or(0.0);

    let mut pairing = Pairing::default();
    for tensor in &file.tensors {
        let (target, half) = match (tensor.name.strip_suffix(".lora_a"), tensor.name.strip_suffix(".lora_b")) {
            (Some(target), _) => (target, Half::A),
            (_, Some(target)) => (target, Half::B),
            _ => return Err(unsupported(&format!("the tensor {}", tensor.name))),
        };
        pairing.insert(target, half, gguf_factor(&file, shards, tensor).await?)?;
    }
    // As llama.cpp: no alpha, no division by the rank either.
    let pairs = pairing.finish(|_, rank| Ok(if alpha == 0.0 { 1.0 } else { alpha / rank as f32 }))?;
    Ok(AdapterFile { dialect: Dialect::Gguf { architecture }, pairs })
}

/// What is read at once, so that no more is allocated than arrives.
const PIECE: u64 = 1 << 20;

async fn gguf_factor<S: ByteSource>(file: &Checkpoint, shards: &mut [S], tensor: &TensorInfo) -> Result<Factor> {
    let format = tensor.format()?;
    // ggml drops outer dimensions of one, such as a rank of 1.
    let [rows, cols] = match *tensor.shape {
        [cols] => [1, cols],
        _ => two_dimensions(&tensor.name, &tensor.shape)?,
    };
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < tensor.bytes {
        let at = bytes.len();
        bytes.resize(at + PIECE.min(tensor.bytes - at as u64) as usize, 0);
        file.read(shards, tensor, at as u64, &mut bytes[at..]).await?;
    }
    if format.block_len() == 1 {
        return Ok(Factor { format, rows, cols, bytes });
    }
    // llama.cpp's converter writes A in Q8_0 when asked to.
    let mut values = vec![0.0; rows * cols];
    format.dequantize(&bytes, &mut values);
    let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    Ok(Factor { format: Format::F32, rows, cols, bytes })
}

/// What of `adapter_config.json` bears on the result.
#[derive(Deserialize)]
struct PeftConfig {
    peft_type: Option<String>,
    r: usize,
    lora_alpha: f32,
    #[serde(default)]
    use_rslora: Option<bool>,
    #[serde(default)]
    rank_pattern: Option<InOrder<usize>>,
    #[serde(default)]
    alpha_pattern: Option<InOrder<f32>>,
    #[serde(default)]
    use_dora: Option<bool>,
    #[serde(default)]
    use_qalora: Option<bool>,
    #[serde(default)]
    lora_bias: Option<bool>,
    bias: Option<String>,
    modules_to_save: Option<Vec<String>>,
    init_lora_weights: Option<Value>,
    alora_invocation_tokens: Option<Value>,
    trainable_token_indices: Option<Value>,
    target_parameters: Option<Value>,
    layer_replication: Option<Value>,
    megatron_config: Option<Value>,
    arrow_config: Option<Value>,
    kasa_config: Option<Value>,
    use_bdlora: Option<Value>,
}

fn unsupported(what: &str) -> Error {
    Error::Adapter(format!("{what} is not supported; train a plain LoRA of the attention and feed-forward matrices"))
}

impl PeftConfig {
    fn parse(json: &str) -> Result<PeftConfig> {
        let config: PeftConfig = serde_json::from_str(json)
            .map_err(|error| Error::Adapter(format!("adapter_config.json cannot be read: {error}")))?;
        if let Some(kind) = config.peft_type.as_deref().filter(|&kind| kind != "LORA") {
            return Err(unsupported(&format!("the method {kind}")));
        }
        for (given, what) in [
            (config.use_dora, "DoRA (use_dora)"),
            (config.use_qalora, "QALoRA (use_qalora)"),
            (config.lora_bias, "a bias of the factors (lora_bias)"),
        ] {
            if given == Some(true) {
                return Err(unsupported(what));
            }
        }
        if let Some(bias) = config.bias.as_deref().filter(|&bias| bias != "none") {
            return Err(unsupported(&format!("training biases (bias: \"{bias}\")")));
        }
        if let Some(modules) = config.modules_to_save.as_ref().filter(|modules| !modules.is_empty()) {
            return Err(unsupported(&format!("training whole modules (modules_to_save: {})", modules.join(", "))));
        }
        for (given, what) in [
            (&config.alora_invocation_tokens, "activated LoRA (alora_invocation_tokens)"),
            (&config.trainable_token_indices, "training tokens (trainable_token_indices)"),
            (&config.target_parameters, "training experts (target_parameters)"),
            (&config.layer_replication, "replicating layers (layer_replication)"),
            (&config.megatron_config, "Megatron's layout (megatron_config)"),
            (&config.arrow_config, "Arrow (arrow_config)"),
            (&config.kasa_config, "KaSA (kasa_config)"),
            (&config.use_bdlora, "block-diagonal LoRA (use_bdlora)"),
        ] {
            let unset = [json!(false), json!([]), json!({})];
            if given.as_ref().is_some_and(|given| !unset.contains(given)) {
                return Err(unsupported(what));
            }
        }
        // Others (PiSSA, OLoRA, CorDA, LoftQ) take something away from the base's weights.
        if let Some(Value::String(method)) = &config.init_lora_weights
            && !["gaussian", "eva", "orthogonal"].contains(&method.as_str())
        {
            return Err(unsupported(&format!(
                "the initialization \"{method}\", which changes the base model's weights,"
            )));
        }
        if config.r == 0 {
            return Err(Error::Adapter("adapter_config.json: r is 0".into()));
        }
        Ok(config)
    }

    /// Of a pair whose factors have this rank.
    fn scale(&self, target: &str, rank: usize) -> Result<f32> {
        let expected = by_pattern(&self.rank_pattern, "rank_pattern", target)?.unwrap_or(self.r);
        if rank != expected {
            return Err(Error::Adapter(format!(
                "{target} has the rank {rank}, but adapter_config.json says {expected}"
            )));
        }
        let alpha = by_pattern(&self.alpha_pattern, "alpha_pattern", target)?.unwrap_or(self.lora_alpha);
        let divisor = rank as f32;
        Ok(alpha / if self.use_rslora == Some(true) { divisor.sqrt() } else { divisor })
    }
}

/// The first of the keys that PEFT would match by `(.*\.)?(KEY)$`, with keys that are regular expressions; here they are names, dots escaped or not.
fn by_pattern<T: Copy>(patterns: &Option<InOrder<T>>, option: &str, target: &str) -> Result<Option<T>> {
    for (key, value) in patterns.iter().flat_map(|InOrder(all)| all) {
        let (anchored, name) = key.strip_prefix('^').map_or((false, key.as_str()), |name| (true, name));
        let name = name.strip_suffix('$').unwrap_or(name).replace("\\.", ".");
        if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.') {
            return Err(unsupported(&format!("the regular expression {key:?} in {option}")));
        }
        let before = target.strip_suffix(name.as_str());
        if before.is_some_and(|before| before.is_empty() || !anchored && before.ends_with('.')) {
            return Ok(Some(*value));
        }
    }
    Ok(None)
}

async fn read_peft<S: ByteSource>(source: &mut S, config: &str) -> Result<AdapterFile> {
    let config = PeftConfig::parse(config)?;
    let mut reader = Reader::new(source);
    let entries = safetensors::read_header(&mut reader).await?;
    let start = reader.position();
    let mut pairing = Pairing::default();
    for entry in entries {
        let Entry { name, format, shape, begin, bytes: length } = entry;
        let (target, half) = peft_target(&name)?;
        let [rows, cols] = two_dimensions(&name, &shape)?;
        reader.skip_to(start + begin, &name).await?;
        let mut bytes = Vec::new();
        reader.append(length, &mut bytes, &format_args!("tensor {name}")).await?;
        pairing.insert(target, half, Factor { format, rows, cols, bytes })?;
    }
    Ok(AdapterFile { dialect: Dialect::Peft, pairs: pairing.finish(|target, rank| config.scale(target, rank))? })
}

/// `base_model.model.TARGET.lora_A.weight`, or `.lora_A.NAME.weight` in states that were saved by hand.
fn peft_target(name: &str) -> Result<(&str, Half)> {
    let path = name.strip_prefix("base_model.model.").unwrap_or(name);
    for (mark, half) in [(".lora_A.", Half::A), (".lora_B.", Half::B)] {
        if let Some((target, rest)) = path.split_once(mark) {
            let weight = rest == "weight" || rest.strip_suffix(".weight").is_some_and(|adapter| !adapter.contains('.'));
            return if weight { Ok((target, half)) } else { Err(unsupported(&format!("the tensor {name}"))) };
        }
    }
    let why = match path {
        _ if path.contains(".lora_embedding_") => "an adapter of the embedding",
        _ if path.contains(".lora_magnitude_vector") => "DoRA",
        _ => "it",
    };
    Err(unsupported(&format!("the tensor {name} ({why})")))
}
