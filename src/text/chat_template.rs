//! Chat templates as files carry them (Jinja), with the extras that Hugging Face templates use.

use crate::Result;
use crate::formats::Metadata;
use crate::text::Tokenizer;
use serde::{Deserialize, Serialize};

/// One message of a conversation, OpenAI's shape; fields beyond role and content (tool_calls, name, ...) are kept for the template.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    pub role: String,
    #[serde(default)]
    pub content: serde_json::Value,
    #[serde(flatten)]
    pub rest: serde_json::Map<String, serde_json::Value>,
}

pub struct ChatTemplate {}

impl ChatTemplate {
    /// The file's own template, else ChatML where its tokens exist, else a plain "User: ..." form.
    pub fn from_gguf(_metadata: &Metadata, _tokenizer: &Tokenizer) -> Result<ChatTemplate> {
        todo!()
    }

    /// The ids of the rendered conversation, ready for an answer. Special tokens of the template become control
    /// tokens, the same text inside messages does not. BOS is there once if the file wants it.
    pub fn encode(
        &self,
        _tokenizer: &Tokenizer,
        _messages: &[Message],
        _tools: Option<&serde_json::Value>,
    ) -> Result<Vec<u32>> {
        todo!()
    }

    /// As text, as `transformers`' `apply_chat_template(tokenize=False, add_generation_prompt=...)`.
    pub fn render(
        &self,
        _messages: &[Message],
        _tools: Option<&serde_json::Value>,
        _add_generation_prompt: bool,
    ) -> Result<String> {
        todo!()
    }
}
