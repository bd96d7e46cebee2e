//! Prefill and decode: tokens in, tokens out, one step at a time.

pub mod sampler;
pub mod signals;
pub mod stop;

use serde::{Deserialize, Serialize};

/// What a request may set; OpenAI's names, and llama.cpp's where OpenAI has none.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct GenerateOptions {
    /// Default: what fits into the context.
    #[serde(alias = "max_completion_tokens")]
    pub max_tokens: Option<usize>,
    /// 0: greedy.
    pub temperature: f32,
    /// 0: off.
    pub top_k: usize,
    pub top_p: f32,
    pub min_p: f32,
    pub repeat_penalty: f32,
    pub presence_penalty: f32,
    pub frequency_penalty: f32,
    /// id -> added to its logit.
    pub logit_bias: std::collections::BTreeMap<u32, f32>,
    pub seed: Option<u64>,
    pub stop: Vec<String>,
    pub ignore_eos: bool,
    /// Reuse the KV cache up to the longest common prefix.
    pub cache_prompt: bool,
    pub logprobs: bool,
    pub top_logprobs: usize,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            max_tokens: None,
            temperature: 0.7,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.0,
            repeat_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Default::default(),
            seed: None,
            stop: Vec::new(),
            ignore_eos: false,
            cache_prompt: true,
            logprobs: false,
            top_logprobs: 0,
        }
    }
}

/// Of one sampled token, from the raw logits (before penalties and masks).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Signals {
    pub logprob: f32,
    /// Nats.
    pub entropy: f32,
    /// Best logit minus the second.
    pub margin: f32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// An end token or a stop string.
    Stop,
    /// max_tokens, or the context is full.
    Length,
}
