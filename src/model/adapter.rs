//! Fits an adapter to a model: its names and rows to slots.

use super::arch::TensorPlan;
use crate::backend::lora::LowRank;
use crate::backend::spec::RopePairs;
use crate::backend::{DecoderSpec, LayerSlot, Slot};
use crate::formats::lora::{AdapterFile, Dialect, Factor, Pair};
use crate::{Error, Result};
use std::collections::HashSet;

/// Modules of a layer as transformers names them, and GGUF's tensors. Phi's `gate_up_proj` is a twice as high `ffn_up`.
const MODULES: [(&str, &str); 9] = [
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.qkv_proj", "attn_qkv"),
    ("self_attn.o_proj", "attn_output"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.gate_up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

/// What stands before a layer's number: in text models, and in those whose text model is a part.
const LAYERS: [&str; 3] = ["model.layers.", "model.language_model.layers.", "language_model.model.layers."];

/// Errors: [`Error::Adapter`] where the adapter was made for another model, or for what no step adds.
pub fn fit(file: AdapterFile, spec: &DecoderSpec, plans: &[TensorPlan]) -> Result<Vec<LowRank>> {
    if let Dialect::Gguf { architecture } = &file.dialect
        && *architecture != spec.architecture
    {
        let ours = &spec.architecture;
        return Err(Error::Adapter(format!(
            "it is for a model of architecture {architecture}, and this one is {ours}"
        )));
    }
    let (mut fitted, mut places) = (Vec::new(), HashSet::new());
    for Pair { target, a, b, scale } in file.pairs {
        let name = match file.dialect {
            Dialect::Gguf { .. } => target.clone(),
            Dialect::Peft => gguf_name(&target)?,
        };
        let plan = plans.iter().find(|plan| plan.name == name).ok_or_else(|| unknown(&target, &name, spec))?;
        let (rows, cols) = (plan.rows(), plan.cols);
        if (b.rows, a.cols) != (rows, cols) {
            return Err(Error::Adapter(format!(
                "{target} is {} x {} in its base model and {rows} x {cols} in this one; load the model it was trained for",
                b.rows, a.cols
            )));
        }
        let mut first = 0;
        for &(slot, rows) in &plan.parts {
            let Slot::Layer(layer, slot) = slot else { return Err(not_adapted(&target)) };
            let range = first..first + rows;
            first += rows;
            let turned = file.dialect == Dialect::Peft && spec.rope.pairs == RopePairs::Neighbours;
            let b = match slot {
                LayerSlot::Query | LayerSlot::Key if turned => neighbours(&b, range.start, rows, spec.head_dim),
                slot if is_matrix(slot) => b.rows(range),
                _ => return Err(not_adapted(&target)),
            };
            if !places.insert((layer, slot)) {
                return Err(Error::Adapter(format!("{target} is adapted twice")));
            }
            fitted.push(LowRank { layer, slot, a: a.clone(), b, scale });
        }
    }
    Ok(fitted)
}

fn is_matrix(slot: LayerSlot) -> bool {
    use LayerSlot::*;
    matches!(slot, Query | Key | Value | AttentionOutput | Gate | Up | Down)
}

/// Files whose RoPE turns neighbours have the rows of Q and K reordered for it; transformers' turn the halves of a head.
fn neighbours(b: &Factor, first: usize, rows: usize, head_dim: usize) -> Factor {
    let half = head_dim / 2;
    b.rows((0..rows).map(|row| {
        let (head, i) = (row / head_dim, row % head_dim);
        first + head * head_dim + i % 2 * half + i / 2
    }))
}

fn gguf_name(target: &str) -> Result<String> {
    let Some(rest) = LAYERS.iter().find_map(|prefix| target.strip_prefix(prefix)) else {
        return Err(not_adapted(target));
    };
    let layer = rest.split_once('.').and_then(|(layer, module)| Some((layer.parse::<usize>().ok()?, module)));
    let module = layer.and_then(|(layer, module)| Some((layer, MODULES.iter().find(|known| known.0 == module)?.1)));
    module.map(|(layer, tensor)| format!("blk.{layer}.{tensor}.weight")).ok_or_else(|| not_adapted(target))
}

fn not_adapted(target: &str) -> Error {
    Error::Adapter(format!(
        "{target} cannot be adapted, only the matrices of attention (q, k, v, o) and of feed-forward (gate, up, down)"
    ))
}

fn unknown(target: &str, name: &str, spec: &DecoderSpec) -> Error {
    let layer = name.strip_prefix("blk.").and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
    match layer {
        Some(layer) if layer >= spec.layers => Error::Adapter(format!(
            "it adapts layer {layer}, and this model has {} layers; load the model it was trained for",
            spec.layers
        )),
        Some(_) => Error::Adapter(format!("it adapts {target}, which this model lacks (there is no tensor {name})")),
        None => not_adapted(target),
    }
}
