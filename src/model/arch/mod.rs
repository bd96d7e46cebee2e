//! One small file per architecture: metadata -> [`DecoderSpec`] and the tensors that it needs.

mod gemma3;
mod llama;
mod phi3;
mod qwen2;
mod qwen3;
mod smollm3;

use crate::backend::spec::{Activation, LayerKind, Rope, RopePairs, RopeScaling};
use crate::backend::{DecoderSpec, LayerSlot, Slot};
use crate::formats::{Checkpoint, Metadata};
use crate::text::Tokenizer;
use crate::{Error, Result};

type Describe = fn(&Keys, &Checkpoint) -> Result<DecoderSpec>;

/// A further architecture of the usual kind is one file and one line here.
const ARCHITECTURES: &[(&str, Describe)] = &[
    ("llama", llama::describe),
    ("qwen2", qwen2::describe),
    ("qwen3", qwen3::describe),
    ("phi3", phi3::describe),
    ("gemma3", gemma3::describe),
    ("smollm3", smollm3::describe),
];

/// A model as its file describes it: every switch, and where each tensor goes.
#[derive(Clone, Debug)]
pub struct Blueprint {
    pub spec: DecoderSpec,
    pub tensors: Vec<TensorPlan>,
}

/// One tensor of the file, `[sum of the parts' rows, cols]`; a vector has one row.
#[derive(Clone, Debug)]
pub struct TensorPlan {
    pub name: String,
    pub cols: usize,
    /// Row ranges in order: one slot and its rows, or several where the file fuses matrices (Phi's `attn_qkv`).
    pub parts: Vec<(Slot, usize)>,
}

impl TensorPlan {
    pub fn rows(&self) -> usize {
        self.parts.iter().map(|(_, rows)| rows).sum()
    }
}

/// Names of the supported architectures, for messages.
pub fn supported() -> String {
    ARCHITECTURES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// Errors: unknown architecture, missing or senseless metadata, a missing tensor, a wrong shape, an unsupported type.
pub fn describe(checkpoint: &Checkpoint) -> Result<Blueprint> {
    let metadata = &checkpoint.metadata;
    let name = metadata
        .string("general.architecture")?
        .ok_or_else(|| Error::NotAModel("the key general.architecture is missing".into()))?;
    let Some((_, describe)) = ARCHITECTURES.iter().find(|(known, _)| *known == name) else {
        return Err(unsupported(name.into()));
    };
    let keys = Keys { metadata, architecture: name };
    let spec = describe(&keys, checkpoint)?;
    check(&keys, &spec, checkpoint)?;
    let tensors = tensor_plans(&spec, checkpoint);
    for plan in &tensors {
        check_tensor(plan, checkpoint, name)?;
    }
    check_unused(&tensors, checkpoint, name)?;
    Ok(Blueprint { spec, tensors })
}

/// Errors: [`Error::Tokenizer`] where ids and rows of the embedding would not be the same.
pub fn check_vocabulary(tokenizer: &Tokenizer, spec: &DecoderSpec) -> Result<()> {
    match (tokenizer.vocab_size(), spec.vocab) {
        (tokens, rows) if tokens == rows => Ok(()),
        (tokens, rows) => Err(Error::Tokenizer(format!(
            "it has {tokens} tokens, but the model embeds {rows}; convert the model again with its own tokenizer"
        ))),
    }
}

fn unsupported(name: String) -> Error {
    Error::UnsupportedArchitecture { name, supported: supported() }
}

/// Metadata under the architecture's prefix.
struct Keys<'a> {
    metadata: &'a Metadata,
    architecture: &'a str,
}

impl Keys<'_> {
    fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    fn usize(&self, key: &str) -> Result<Option<usize>> {
        self.metadata.usize(&self.name(key))
    }

    fn f32(&self, key: &str) -> Result<Option<f32>> {
        self.metadata.f32(&self.name(key))
    }

    fn string(&self, key: &str) -> Result<Option<&str>> {
        self.metadata.string(&self.name(key))
    }

    fn required<T>(&self, key: &str, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| self.error(key, "is missing".into()))
    }

    fn required_usize(&self, key: &str) -> Result<usize> {
        self.required(key, self.usize(key)?)
    }

    fn error(&self, key: &str, problem: String) -> Error {
        Error::Metadata { key: self.name(key), problem }
    }
}

/// The decoder that Llama's family has in common: RMSNorm, grouped queries, full RoPE, SwiGLU. An architecture starts from
/// it and says what differs.
fn usual(keys: &Keys, checkpoint: &Checkpoint, pairs: RopePairs) -> Result<DecoderSpec> {
    if let experts @ 1.. = keys.usize("expert_count")?.unwrap_or(0) {
        return Err(unsupported(format!("{} with {experts} experts", keys.architecture)));
    }
    let layers = keys.required_usize("block_count")?;
    let hidden = keys.required_usize("embedding_length")?;
    let heads = keys.required_usize("attention.head_count")?;
    let head_dim = keys.usize("attention.key_length")?.unwrap_or(hidden / heads.max(1));
    if let Some(value_length) = keys.usize("attention.value_length")?
        && value_length != head_dim
    {
        return Err(keys.error("attention.value_length", format!("is {value_length}, while keys have {head_dim}")));
    }
    let vocab = match checkpoint.tensor("token_embd.weight").map(|tensor| tensor.shape.as_slice()) {
        Some(&[rows, _]) => rows,
        _ => {
            let architecture = keys.architecture.into();
            return Err(Error::MissingTensor { name: "token_embd.weight".into(), architecture });
        }
    };
    Ok(DecoderSpec {
        architecture: keys.architecture.into(),
        layers,
        hidden,
        ffn: keys.required_usize("feed_forward_length")?,
        heads,
        kv_heads: keys.usize("attention.head_count_kv")?.unwrap_or(heads),
        head_dim,
        vocab,
        context_length: keys.required_usize("context_length")?,
        norm_eps: keys.required("attention.layer_norm_rms_epsilon", keys.f32("attention.layer_norm_rms_epsilon")?)?,
        rope: Rope {
            base: keys.f32("rope.freq_base")?.unwrap_or(10_000.0),
            dim: keys.usize("rope.dimension_count")?.unwrap_or(head_dim),
            pairs,
            scaling: rope_scaling(keys, checkpoint)?,
        },
        local_rope: None,
        sliding_window: None,
        // `check` bounds the number of layers before anything of that length is used.
        layer_kinds: vec![LayerKind::Global; layers.min(checkpoint.tensors.len())],
        activation: Activation::Silu,
        embedding_scale: 1.0,
        attention_scale: keys.f32("attention.scale")?.unwrap_or(1.0 / (head_dim as f32).sqrt()),
        kv_int8: false,
        tied_head: checkpoint.tensor("output.weight").is_none(),
        qkv_bias: checkpoint.tensor("blk.0.attn_q.bias").is_some(),
        qk_norm: false,
        post_norms: false,
    })
}

/// Llama 3.1 and later carry their frequency divisors as a tensor, longrope two of them; older long-context files divide
/// the positions.
fn rope_scaling(keys: &Keys, checkpoint: &Checkpoint) -> Result<RopeScaling> {
    let has = |name| checkpoint.tensor(name).is_some();
    if has("rope_factors_long.weight") || has("rope_factors_short.weight") {
        let key = "rope.scaling.original_context_length";
        let original = keys.required(key, keys.usize(key)?.filter(|&original| original > 1))?;
        let attention_factor = match keys.f32("rope.scaling.attn_factor")? {
            Some(factor) => factor,
            // Phi3Config's rule, which converters follow.
            None => {
                let stretch = keys.required_usize("context_length")? as f32 / original as f32;
                if stretch <= 1.0 { 1.0 } else { (1.0 + stretch.ln() / (original as f32).ln()).sqrt() }
            }
        };
        return Ok(RopeScaling::Factors { original_context: Some(original), attention_factor });
    }
    if has("rope_freqs.weight") {
        return Ok(RopeScaling::Factors { original_context: None, attention_factor: 1.0 });
    }
    let factor = keys.f32("rope.scaling.factor")?.or(keys.f32("rope.scale_linear")?).unwrap_or(1.0);
    match keys.string("rope.scaling.type")? {
        None | Some("linear") if factor.is_finite() && factor > 0.0 => {
            Ok(if factor == 1.0 { RopeScaling::None } else { RopeScaling::Linear(factor) })
        }
        Some("none") => Ok(RopeScaling::None),
        None | Some("linear") => Err(keys.error("rope.scaling.factor", format!("is {factor}"))),
        Some(kind) => Err(unsupported(format!("{} with {kind} RoPE scaling", keys.architecture))),
    }
}

/// Relations between the numbers on which the backends rely.
fn check(keys: &Keys, spec: &DecoderSpec, checkpoint: &Checkpoint) -> Result<()> {
    let ensure = |holds: bool, key: &str, problem: String| if holds { Ok(()) } else { Err(keys.error(key, problem)) };
    let DecoderSpec { layers, heads, kv_heads, head_dim, .. } = *spec;
    // Each layer has tensors of its own: this bounds the work below by the size of the file.
    let tensors = checkpoint.tensors.len();
    ensure((1..=tensors).contains(&layers), "block_count", format!("is {layers}, with {tensors} tensors in the file"))?;
    ensure(spec.hidden > 0, "embedding_length", "is 0".into())?;
    ensure(spec.ffn > 0, "feed_forward_length", "is 0".into())?;
    ensure(spec.context_length > 0, "context_length", "is 0".into())?;
    ensure(
        kv_heads > 0 && heads > 0 && heads.is_multiple_of(kv_heads),
        "attention.head_count_kv",
        format!("is {kv_heads}, which does not divide the {heads} heads"),
    )?;
    ensure(
        head_dim > 0 && head_dim.is_multiple_of(2) && heads.checked_mul(head_dim).is_some(),
        "attention.key_length",
        format!("is {head_dim}; heads need an even size"),
    )?;
    ensure(
        spec.norm_eps >= 0.0 && spec.norm_eps < 1.0,
        "attention.layer_norm_rms_epsilon",
        format!("is {}", spec.norm_eps),
    )?;
    for rope in [Some(&spec.rope), spec.local_rope.as_ref()].into_iter().flatten() {
        ensure(
            rope.dim > 0 && rope.dim.is_multiple_of(2) && rope.dim <= head_dim,
            "rope.dimension_count",
            format!("is {}, with heads of {head_dim}", rope.dim),
        )?;
        ensure(rope.base.is_finite() && rope.base > 0.0, "rope.freq_base", format!("is {}", rope.base))?;
    }
    Ok(())
}

/// GGUF's names are the same for all architectures; which tensors there are follows from the spec.
fn tensor_plans(spec: &DecoderSpec, checkpoint: &Checkpoint) -> Vec<TensorPlan> {
    use crate::backend::RopeFactors::*;
    let plan = |name: &str, slot, rows, cols| TensorPlan { name: name.into(), cols, parts: vec![(slot, rows)] };
    let mut plans = vec![
        plan("token_embd.weight", Slot::TokenEmbedding, spec.vocab, spec.hidden),
        plan("output_norm.weight", Slot::OutputNorm, 1, spec.hidden),
    ];
    if !spec.tied_head {
        plans.push(plan("output.weight", Slot::Head, spec.vocab, spec.hidden));
    }
    let factors: &[_] = match spec.rope.scaling {
        RopeScaling::Factors { original_context: Some(_), .. } => {
            &[("rope_factors_short.weight", Short), ("rope_factors_long.weight", Long)]
        }
        RopeScaling::Factors { original_context: None, .. } => &[("rope_freqs.weight", Short)],
        _ => &[],
    };
    plans.extend(factors.iter().map(|&(name, factors)| plan(name, Slot::RopeFactors(factors), 1, spec.rope.dim / 2)));
    plans.extend((0..spec.layers).flat_map(|layer| layer_tensors(spec, layer, checkpoint)));
    plans
}

/// Some files hold Q, K and V, or gate and up, as one matrix (Phi).
fn layer_tensors(spec: &DecoderSpec, layer: usize, checkpoint: &Checkpoint) -> Vec<TensorPlan> {
    use LayerSlot::*;
    let DecoderSpec { hidden, ffn, head_dim, .. } = *spec;
    let (queries, keys) = (spec.heads * head_dim, spec.kv_heads * head_dim);
    let has = |name: &str| checkpoint.tensor(&format!("blk.{layer}.{name}")).is_some();
    let fused = |name: &str, cols, parts: &[(LayerSlot, usize)]| TensorPlan {
        name: format!("blk.{layer}.{name}"),
        cols,
        parts: parts.iter().map(|&(slot, rows)| (Slot::Layer(layer, slot), rows)).collect(),
    };
    let one = |name, slot, rows, cols| fused(name, cols, &[(slot, rows)]);
    let vector = |name, slot, len| one(name, slot, 1, len);
    let mut tensors = vec![vector("attn_norm.weight", AttentionNorm, hidden)];
    if has("attn_qkv.weight") && !has("attn_q.weight") {
        tensors.push(fused("attn_qkv.weight", hidden, &[(Query, queries), (Key, keys), (Value, keys)]));
    } else {
        tensors.extend([
            one("attn_q.weight", Query, queries, hidden),
            one("attn_k.weight", Key, keys, hidden),
            one("attn_v.weight", Value, keys, hidden),
        ]);
    }
    tensors.push(one("attn_output.weight", AttentionOutput, hidden, queries));
    tensors.push(vector("ffn_norm.weight", FfnNorm, hidden));
    if has("ffn_gate.weight") || spec.architecture != "phi3" {
        tensors.push(one("ffn_gate.weight", Gate, ffn, hidden));
        tensors.push(one("ffn_up.weight", Up, ffn, hidden));
    } else {
        tensors.push(fused("ffn_up.weight", hidden, &[(Gate, ffn), (Up, ffn)]));
    }
    tensors.push(one("ffn_down.weight", Down, hidden, ffn));
    if spec.qkv_bias {
        tensors.extend([
            vector("attn_q.bias", QueryBias, queries),
            vector("attn_k.bias", KeyBias, keys),
            vector("attn_v.bias", ValueBias, keys),
        ]);
    }
    if spec.qk_norm {
        tensors.extend([
            vector("attn_q_norm.weight", QueryNorm, head_dim),
            vector("attn_k_norm.weight", KeyNorm, head_dim),
        ]);
    }
    if spec.post_norms {
        tensors.extend([
            vector("post_attention_norm.weight", PostAttentionNorm, hidden),
            vector("post_ffw_norm.weight", PostFfnNorm, hidden),
        ]);
    }
    tensors
}

fn check_tensor(plan: &TensorPlan, checkpoint: &Checkpoint, architecture: &str) -> Result<()> {
    let Some(tensor) = checkpoint.tensor(&plan.name) else {
        return Err(Error::MissingTensor { name: plan.name.clone(), architecture: architecture.into() });
    };
    let block = tensor.format()?.block_len();
    if !plan.cols.is_multiple_of(block) {
        let problem =
            format!("is {}, whose blocks of {block} do not divide its rows of {}", tensor.format()?.name(), plan.cols);
        return Err(Error::Metadata { key: plan.name.clone(), problem });
    }
    let rows = plan.rows();
    let vector = rows == 1 && tensor.shape == [plan.cols];
    if vector || tensor.shape == [rows, plan.cols] {
        return Ok(());
    }
    let expected = if rows == 1 { vec![plan.cols as u64] } else { vec![rows as u64, plan.cols as u64] };
    let found = tensor.shape.iter().map(|&n| n as u64).collect();
    Err(Error::WrongShape { name: plan.name.clone(), found, expected })
}

/// Tensors outside the layers (a vision tower, say) may be left alone. A bias or a norm within a layer that nobody applies
/// would make the answers silently wrong.
fn check_unused(plans: &[TensorPlan], checkpoint: &Checkpoint, architecture: &str) -> Result<()> {
    let used: std::collections::HashSet<&str> = plans.iter().map(|plan| plan.name.as_str()).collect();
    let matters = |name: &str| name.ends_with(".bias") || name.ends_with("_norm.weight");
    let ignored = |name: &str| name.starts_with("blk.") && matters(name) && !used.contains(name);
    match checkpoint.tensors.iter().find(|tensor| ignored(&tensor.name)) {
        Some(tensor) => Err(unsupported(format!("{architecture} with a tensor {}", tensor.name))),
        None => Ok(()),
    }
}
