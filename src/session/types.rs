//! What goes into a session and what comes out of it.

pub use crate::clock::Clock;
#[cfg(not(target_arch = "wasm32"))]
use crate::clock::system as system_clock;
use crate::generate::{AnswerSignals, CallPiece, FinishReason, GenerateOptions, Signals, TokenLogprob};
use crate::model::memory;
use crate::text::Message;
use crate::text::chat_template::Arguments;
use serde::{Deserialize, Serialize};

/// Seconds since 1970 of local time, as a calendar on the wall has it; None where there is no such clock.
pub type WallClock = fn() -> Option<i64>;

#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Default: min(the file's, 4096). More than the file's is allowed.
    pub context_length: Option<usize>,
    /// See [`crate::backend::DecoderSpec::kv_int8`].
    pub kv_int8: bool,
    /// `file` (the default): the file's own; else see [`crate::text::ChatTemplate::chosen`].
    pub chat_template: Option<String>,
    /// Bytes that model, cache and scratch may take. Default: what wasm32 can address; no limit elsewhere.
    pub memory_limit: Option<u64>,
    /// wasm32-unknown-unknown has no clock of its own: without one the times of [`Stats`] are 0 there.
    pub clock: Clock,
    /// What chat templates call today (`strftime_now`). Default: UTC, for std knows no time zone; nothing on
    /// wasm32-unknown-unknown.
    pub wall_clock: WallClock,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            context_length: None,
            kv_int8: false,
            chat_template: None,
            memory_limit: memory::default_limit(),
            clock: system_clock,
            wall_clock,
        }
    }
}

#[cfg(target_arch = "wasm32")]
fn system_clock() -> f64 {
    0.0
}

#[cfg(not(target_arch = "wasm32"))]
fn wall_clock() -> Option<i64> {
    use std::time::{SystemTime, UNIX_EPOCH};
    SystemTime::now().duration_since(UNIX_EPOCH).ok().map(|passed| passed.as_secs() as i64)
}

#[cfg(target_arch = "wasm32")]
fn wall_clock() -> Option<i64> {
    None
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Info {
    pub architecture: String,
    pub name: Option<String>,
    pub parameters: u64,
    /// The format that holds most weights, "Q4_0" and the like.
    pub quantization: String,
    /// Of this session; the model may allow more.
    pub context_length: usize,
    pub vocabulary: usize,
    pub backend: &'static str,
    /// What the GPU is called.
    pub adapter: Option<String>,
    /// Of this machine, that compute: 1 beside a GPU.
    pub threads: usize,
    /// The name of the draft model, where there is one.
    pub draft: Option<String>,
    /// Why the CPU could not go on where the GPU is lost: the model is too large for it.
    pub no_fallback: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct Request {
    /// A conversation, or ...
    #[serde(default)]
    pub messages: Option<Vec<Message>>,
    #[serde(default)]
    pub tools: Option<serde_json::Value>,
    /// ... raw text.
    #[serde(default)]
    pub prompt: Option<String>,
    /// Goes with a prompt: what follows the text that is to be filled in.
    #[serde(default)]
    pub suffix: Option<String>,
    /// What the answer will be like, for the most part: it is written faster where that is right, and the same where it is not.
    #[serde(default)]
    pub prediction: Option<String>,
    /// Goes with messages: what the chat template is given beside them, such as `enable_thinking`.
    #[serde(default)]
    pub chat_template_kwargs: Arguments,
    /// Goes with messages; "none" is `enable_thinking: false`, anything else the model's own way.
    #[serde(default)]
    pub reasoning_effort: Option<String>,
    /// Goes with messages, the last of which is an answer that goes on where it ends.
    #[serde(default)]
    pub continue_final_message: bool,
    #[serde(flatten)]
    pub options: GenerateOptions,
}

impl Request {
    /// Nobody told the model not to, or has begun its answer.
    pub(super) fn thinks(&self) -> bool {
        self.messages.is_some()
            && !self.continue_final_message
            && self.template_arguments().get("enable_thinking") != Some(&false.into())
    }

    pub(super) fn template_arguments(&self) -> Arguments {
        let mut arguments = self.chat_template_kwargs.clone();
        if self.reasoning_effort.as_deref() == Some("none") {
            arguments.entry("enable_thinking").or_insert(false.into());
        }
        arguments
    }
}

#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Step {
    /// A chunk of the prompt is done; `done` counts reused tokens too. The last chunk yields the first token instead.
    Prefill { done: usize, total: usize },
    /// `text`: what this token completes (may be empty), stop strings held back.
    /// `reasoning`: the same of the thoughts before the answer.
    Token {
        id: u32,
        text: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        reasoning: String,
        /// The same of calls of tools.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        calls: Vec<CallPiece>,
        signals: Signals,
        top_logprobs: Vec<TokenLogprob>,
        special: bool,
        /// Of the answer so far, after 1, 8, 16, 32, ... tokens.
        #[serde(skip_serializing_if = "Option::is_none")]
        so_far: Option<Box<AnswerSignals>>,
    },
    /// `text`: what was held back and is shown after all. `signals`: of the whole answer.
    Done {
        text: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        reasoning: String,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        calls: Vec<CallPiece>,
        reason: FinishReason,
        stop: Option<String>,
        stats: Stats,
        signals: Box<AnswerSignals>,
    },
}

/// Of the last run; see `engine.stats()` in `api.md`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    pub prompt_tokens: usize,
    pub cached_tokens: usize,
    pub prefill_ms: f64,
    /// An end token counts.
    pub completion_tokens: usize,
    pub decode_ms: f64,
    /// Tokens that were guessed and checked several at a time, and those of them that were right.
    pub drafted_tokens: usize,
    pub accepted_tokens: usize,
    /// The same of those that came from the request's prediction.
    pub predicted_drafted_tokens: usize,
    pub predicted_accepted_tokens: usize,
    /// The same of those that came from a draft model, and the time that it took, which is among `decode_ms`.
    pub model_drafted_tokens: usize,
    pub model_accepted_tokens: usize,
    pub draft_ms: f64,
    pub dispatches_per_token: usize,
    pub backend: &'static str,
}
