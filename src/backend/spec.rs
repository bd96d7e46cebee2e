//! DecoderSpec: every switch in which the families differ. It stands on this floor because both backends read it;
//! `model/arch/*.rs` make one from a file's metadata.

use super::RopeFactors;

#[derive(Clone, Debug, PartialEq)]
pub struct DecoderSpec {
    /// GGUF's `general.architecture`.
    pub architecture: String,
    pub layers: usize,
    pub hidden: usize,
    pub ffn: usize,
    pub heads: usize,
    pub kv_heads: usize,
    /// Not always `hidden / heads` (Gemma 3).
    pub head_dim: usize,
    pub vocab: usize,
    /// The most positions: the file's, or what a session was asked to hold.
    pub context_length: usize,
    /// Keys and values are kept as signed bytes with a scale a head and position, a little over half the memory of the 16 bits
    /// they have else. A session's wish too.
    pub kv_int8: bool,
    pub norm_eps: f32,
    pub rope: Rope,
    /// RoPE of the local layers where it differs (Gemma 3).
    pub local_rope: Option<Rope>,
    /// Window of the local layers, in positions.
    pub sliding_window: Option<usize>,
    /// One entry per layer.
    pub layer_kinds: Vec<LayerKind>,
    pub activation: Activation,
    /// Multiplies the embedding (Gemma: sqrt(hidden)); 1 elsewhere.
    pub embedding_scale: f32,
    /// Multiplies q.k; usually 1 / sqrt(head_dim).
    pub attention_scale: f32,
    pub tied_head: bool,
    /// Biases on Q, K and V (Qwen2).
    pub qkv_bias: bool,
    /// RMSNorm on each head of Q and K before RoPE (Gemma 3, Qwen3).
    pub qk_norm: bool,
    /// Norms after attention and after the feed-forward block (Gemma 3).
    pub post_norms: bool,
}

impl DecoderSpec {
    /// The longest sequence that turns by the short factors, where a model has two sets of them.
    pub fn original_context(&self) -> Option<usize> {
        match self.rope.scaling {
            RopeScaling::Factors { original_context, .. } => original_context,
            _ => None,
        }
    }

    /// Which RoPE factors a sequence of so many positions turns by.
    pub fn rope_factors(&self, positions: usize) -> RopeFactors {
        match self.original_context() {
            Some(original) if positions > original => RopeFactors::Long,
            _ => RopeFactors::Short,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerKind {
    Global,
    /// Sliding window, `local_rope` where there is one.
    Local,
    /// Global without RoPE (SmolLM3).
    NoRope,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    Silu,
    /// The tanh form.
    Gelu,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    pub base: f32,
    /// Leading elements of each head that turn (Phi-4-mini: 96 of 128).
    pub dim: usize,
    pub pairs: RopePairs,
    pub scaling: RopeScaling,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopePairs {
    /// (0,1), (2,3), ...: Llama files, whose Q and K rows are permuted for it.
    Neighbours,
    /// (0, dim/2), (1, dim/2 + 1), ...: Qwen, Phi, Gemma.
    Halves,
}

#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    None,
    /// Positions divided by the factor.
    Linear(f32),
    /// Frequencies divided by a tensor of the file (`rope_freqs`, `rope_factors_short/long`); cos and sin times `attention_factor`.
    Factors {
        /// The longest sequence that turns by the short factors; beyond it the long ones count (longrope). `None`: the
        /// file has one tensor (Llama 3).
        original_context: Option<usize>,
        attention_factor: f32,
    },
}
