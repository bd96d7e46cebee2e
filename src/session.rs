//! A loaded model in conversation: prompt building, context window, prefix reuse, usage. One request at a time; the
//! caller queues.

use crate::backend::{Backend, Memory};
use crate::generate::{FinishReason, GenerateOptions, Signals};
use crate::source::ByteSource;
use crate::text::Message;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// Default: min(the model's, 4096).
    pub context_length: Option<usize>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Info {
    pub architecture: String,
    pub name: Option<String>,
    pub parameters: u64,
    /// The format that holds most weights, "Q4_0" and the like.
    pub quantization: String,
    pub context_length: usize,
    pub vocabulary: usize,
    pub backend: &'static str,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Request {
    /// A conversation, or ...
    #[serde(default)]
    pub messages: Option<Vec<Message>>,
    #[serde(default)]
    pub tools: Option<serde_json::Value>,
    /// ... raw text.
    #[serde(default)]
    pub prompt: Option<String>,
    #[serde(flatten)]
    pub options: GenerateOptions,
}

#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Step {
    /// A chunk of the prompt is done.
    Prefill { done: usize, total: usize },
    /// `text`: what this token completes (may be empty), stop strings held back.
    Token { id: u32, text: String, signals: Signals, top_logprobs: Vec<TokenLogprob>, special: bool },
    /// `text`: what was held back and is shown after all.
    Done { text: String, reason: FinishReason, stop: Option<String>, stats: Stats },
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TokenLogprob {
    pub id: u32,
    pub logprob: f32,
}

/// Of the last run; see `engine.stats()` in `api.md`.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    pub prompt_tokens: usize,
    pub cached_tokens: usize,
    pub prefill_ms: f64,
    pub completion_tokens: usize,
    pub decode_ms: f64,
    pub dispatches_per_token: usize,
    pub backend: &'static str,
}

pub struct Session<B> {
    backend: B,
}

impl<B: Backend> Session<B> {
    /// `progress(bytes done, bytes in all)`.
    pub async fn load<S: ByteSource>(
        _shards: &mut [S],
        _options: LoadOptions,
        _progress: impl FnMut(u64, u64),
    ) -> Result<Self> {
        Err(Error::BadRequest("not yet".into()))
    }

    pub fn info(&self) -> Info {
        todo!()
    }

    pub fn memory(&self) -> Memory {
        self.backend.memory()
    }

    /// Tokenizes and checks; the work is done by [`Session::step`]. A running request is dropped.
    pub fn start(&mut self, _request: &Request) -> Result<()> {
        todo!()
    }

    /// One chunk of the prompt, or one token. After [`Step::Done`] there is no running request.
    pub async fn step(&mut self) -> Result<Step> {
        todo!()
    }

    /// Ends the running request between two tokens; the cache stays valid.
    pub fn abort(&mut self) -> Option<Stats> {
        todo!()
    }

    pub fn tokenize(&self, _text: &str) -> Vec<u32> {
        todo!()
    }

    pub fn detokenize(&self, _ids: &[u32]) -> String {
        todo!()
    }
}
