//! From logits to an answer: which token comes next, what it says, and when to end.

pub mod answer;
pub mod answer_signals;
pub mod constraint;
pub mod drafts;
pub mod sampler;
pub mod signals;
pub mod stop;
pub mod thinking;
pub mod tool_calls;
pub mod trust;

pub use answer::{Answer, Token};
pub use answer_signals::{AnswerSignals, SignalSum};
pub use constraint::{Constraint, Mask};
pub use drafts::Drafting;
pub use tool_calls::CallPiece;

use crate::{Error, Result};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

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
    #[serde(deserialize_with = "ids_as_strings")]
    pub logit_bias: BTreeMap<u32, f32>,
    pub seed: Option<u64>,
    pub stop: Vec<String>,
    pub ignore_eos: bool,
    /// Reuse the KV cache up to the longest common prefix.
    pub cache_prompt: bool,
    pub logprobs: bool,
    pub top_logprobs: usize,
    /// Loaded LoRA adapters that take part, each once; they add up.
    pub adapters: Vec<AdapterUse>,
    pub drafts: Drafting,
}

/// An adapter, and how much of it.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub struct AdapterUse {
    pub id: u32,
    #[serde(default = "full_scale")]
    pub scale: f32,
}

fn full_scale() -> f32 {
    1.0
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
            adapters: Vec::new(),
            drafts: Drafting::Auto,
        }
    }
}

/// Keys of JSON objects are strings, and within a flattened struct serde no longer turns them into numbers itself.
fn ids_as_strings<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<u32, f32>, D::Error> {
    let entries = BTreeMap::<String, f32>::deserialize(deserializer)?;
    let parse = |(id, bias): (String, f32)| match id.parse() {
        Ok(id) => Ok((id, bias)),
        Err(_) => Err(serde::de::Error::custom(format!("logit_bias: \"{id}\" is not a token id"))),
    };
    entries.into_iter().map(parse).collect()
}

/// OpenAI's limit; more would make every step's report large.
pub const MAX_TOP_LOGPROBS: usize = 20;

impl GenerateOptions {
    /// Always the best token, no random number.
    pub fn is_greedy(&self) -> bool {
        self.temperature <= 0.0 || self.top_k == 1
    }

    /// Errors: [`Error::BadRequest`] naming the first option outside its range.
    pub fn check(&self, vocab: usize) -> Result<()> {
        let within = |name: &str, value: f32, low: f32, high: f32| match value >= low && value <= high {
            true => Ok(()),
            false => Err(Error::BadRequest(format!("{name} is {value}; it must be from {low} to {high}"))),
        };
        within("temperature", self.temperature, 0.0, 100.0)?;
        within("top_p", self.top_p, 0.0, 1.0)?;
        within("min_p", self.min_p, 0.0, 1.0)?;
        within("repeat_penalty", self.repeat_penalty, 0.01, 100.0)?;
        within("presence_penalty", self.presence_penalty, -100.0, 100.0)?;
        within("frequency_penalty", self.frequency_penalty, -100.0, 100.0)?;
        within("top_logprobs", self.top_logprobs as f32, 0.0, MAX_TOP_LOGPROBS as f32)?;
        for adapter in &self.adapters {
            within("an adapter's scale", adapter.scale, -100.0, 100.0)?;
        }
        for (&id, &bias) in &self.logit_bias {
            if id as usize >= vocab {
                return Err(Error::BadRequest(format!("logit_bias: the model has no token {id}, only {vocab}")));
            }
            within("logit_bias", bias, -1000.0, 1000.0)?;
        }
        Ok(())
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TokenLogprob {
    pub id: u32,
    pub logprob: f32,
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
    /// An end token, after calls of tools.
    ToolCalls,
}
