//! A pass step by step, at any position: `steps.mjs` times each.

use kinglet::backend::spec::*;
use kinglet::backend::{Backend, HeadRows};

use crate::{MODEL, format, load};

/// A model with a tied head, all matrices in one format; of `period` layers, all but one see `window` positions (0: all
/// see all). Returns the bytes of its weights.
#[unsafe(no_mangle)]
pub extern "C" fn shape(
    ggml: u32,
    hidden: usize,
    ffn: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    layers: usize,
    vocab: usize,
    context_length: usize,
    window: usize,
    period: usize,
    kv_int8: bool,
) -> f64 {
    let kind =
        |i: usize| if period > 0 && !(i + 1).is_multiple_of(period) { LayerKind::Local } else { LayerKind::Global };
    let spec = DecoderSpec {
        architecture: "llama".to_string(),
        layers,
        hidden,
        ffn,
        heads,
        kv_heads,
        head_dim,
        vocab,
        context_length,
        norm_eps: 1e-5,
        rope: Rope { base: 1e5, dim: head_dim, pairs: RopePairs::Neighbours, scaling: RopeScaling::None },
        local_rope: None,
        sliding_window: (window > 0).then_some(window),
        layer_kinds: (0..layers).map(kind).collect(),
        activation: Activation::Silu,
        embedding_scale: 1.0,
        attention_scale: 1.0 / (head_dim as f32).sqrt(),
        kv_int8,
        tied_head: true,
        qkv_bias: false,
        qk_norm: false,
        post_norms: false,
    };
    load(format(ggml), spec)
}

/// Tokens into the residual stream at `start`; what lies before and was never computed is zeros.
#[unsafe(no_mangle)]
pub extern "C" fn embed(tokens: usize, start: usize) {
    MODEL.with_borrow_mut(|m| {
        let backend = m.as_mut().expect("a model was made");
        let ids: Vec<u32> = (0..tokens as u32).map(|i| (i * 31 + start as u32) % 1000).collect();
        backend.embed(&ids, start).expect("a valid batch");
    });
}

/// 0: qkv, 1: attention, 2: attention_out, 3: gate_up, 4: down; 5: the head of the last token.
#[unsafe(no_mangle)]
pub extern "C" fn step(kind: usize, layer: usize) {
    MODEL.with_borrow_mut(|m| {
        let backend = m.as_mut().expect("a model was made");
        let done = match kind {
            0 => backend.qkv(layer),
            1 => backend.attention(layer),
            2 => backend.attention_out(layer),
            3 => backend.gate_up(layer),
            4 => backend.down(layer),
            _ => backend.head(HeadRows::Last),
        };
        done.expect("a batch was embedded");
    });
}

/// Bytes of keys and values held.
#[unsafe(no_mangle)]
pub extern "C" fn cache_bytes() -> f64 {
    MODEL.with_borrow(|m| m.as_ref().map_or(0.0, |backend| backend.memory().kv_cache as f64))
}
