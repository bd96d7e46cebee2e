//! One small file per architecture: metadata -> [`DecoderSpec`] and the tensors that it needs.

mod llama;

use crate::backend::{DecoderSpec, LayerSlot, Slot};
use crate::formats::{Checkpoint, Metadata};
use crate::{Error, Result};

type Describe = fn(&Keys, &Checkpoint) -> Result<DecoderSpec>;

/// A further architecture of the usual kind is one file and one line here.
const ARCHITECTURES: &[(&str, Describe)] = &[("llama", llama::describe)];

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
    for (name, factors) in
        [("rope_freqs.weight", Short), ("rope_factors_short.weight", Short), ("rope_factors_long.weight", Long)]
    {
        if checkpoint.tensor(name).is_some() {
            plans.push(plan(name, Slot::RopeFactors(factors), 1, spec.rope.dim / 2));
        }
    }
    for layer in 0..spec.layers {
        plans.extend(layer_tensors(spec).into_iter().map(|(name, slot, rows, cols)| TensorPlan {
            name: format!("blk.{layer}.{name}"),
            cols,
            parts: vec![(Slot::Layer(layer, slot), rows)],
        }));
    }
    plans
}

fn layer_tensors(spec: &DecoderSpec) -> Vec<(&'static str, LayerSlot, usize, usize)> {
    use LayerSlot::*;
    let DecoderSpec { hidden, ffn, head_dim, .. } = *spec;
    let (queries, keys) = (spec.heads * head_dim, spec.kv_heads * head_dim);
    let mut tensors = vec![
        ("attn_norm.weight", AttentionNorm, 1, hidden),
        ("attn_q.weight", Query, queries, hidden),
        ("attn_k.weight", Key, keys, hidden),
        ("attn_v.weight", Value, keys, hidden),
        ("attn_output.weight", AttentionOutput, hidden, queries),
        ("ffn_norm.weight", FfnNorm, 1, hidden),
        ("ffn_gate.weight", Gate, ffn, hidden),
        ("ffn_up.weight", Up, ffn, hidden),
        ("ffn_down.weight", Down, hidden, ffn),
    ];
    if spec.qkv_bias {
        tensors.extend([
            ("attn_q.bias", QueryBias, 1, queries),
            ("attn_k.bias", KeyBias, 1, keys),
            ("attn_v.bias", ValueBias, 1, keys),
        ]);
    }
    if spec.qk_norm {
        tensors.extend([("attn_q_norm.weight", QueryNorm, 1, head_dim), ("attn_k_norm.weight", KeyNorm, 1, head_dim)]);
    }
    if spec.post_norms {
        tensors.extend([
            ("post_attention_norm.weight", PostAttentionNorm, 1, hidden),
            ("post_ffw_norm.weight", PostFfnNorm, 1, hidden),
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

/// Tensors outside the layers (a vision tower, say) may be left alone. A bias within a layer that nobody adds would make
/// the answers silently wrong.
fn check_unused(plans: &[TensorPlan], checkpoint: &Checkpoint, architecture: &str) -> Result<()> {
    let used: std::collections::HashSet<&str> = plans.iter().map(|plan| plan.name.as_str()).collect();
    let ignored = |name: &str| name.starts_with("blk.") && name.ends_with(".bias") && !used.contains(name);
    match checkpoint.tensors.iter().find(|tensor| ignored(&tensor.name)) {
        Some(tensor) => Err(unsupported(format!("{architecture} with a tensor {}", tensor.name))),
        None => Ok(()),
    }
}
