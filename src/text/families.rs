//! The chat templates that come with the crate, for apps that run no template out of a file that was downloaded. They render
//! what the templates of the models' own files render (`tests/chat_template.rs`), but for tools in `qwen3` and `llama-3`, which
//! are told to those models as to one whose template knows none.

use super::Tokenizer;
use crate::formats::Metadata;
use crate::{Error, Result};

pub struct Family {
    pub name: &'static str,
    /// Jinja.
    pub source: &'static str,
    /// GGUF's `general.architecture`; empty: any.
    architecture: &'static str,
    /// What the template writes has to be in the vocabulary, and what tells the family from its neighbours. Empty: for files
    /// without a template, which were hardly trained to chat.
    tokens: &'static [&'static str],
    /// GGUF's `tokenizer.ggml.pre`; empty: any.
    pre: &'static str,
}

macro_rules! family {
    ($name:literal, $architecture:literal, $pre:literal, $tokens:expr) => {
        Family {
            name: $name,
            source: include_str!(concat!("templates/", $name, ".jinja")).trim_ascii_end(),
            architecture: $architecture,
            pre: $pre,
            tokens: $tokens,
        }
    };
}

/// The first that fits is a model's.
pub const FAMILIES: [Family; 9] = [
    family!("smollm2", "llama", "smollm", &["<|im_start|>", "<|im_end|>"]),
    family!("qwen2.5", "qwen2", "", &["<|im_start|>", "<|im_end|>", "<tool_call>"]),
    family!("qwen3", "qwen3", "", &["<|im_start|>", "<|im_end|>", "<think>"]),
    family!("phi-4-mini", "phi3", "", &["<|user|>", "<|assistant|>", "<|end|>", "<|tool|>"]),
    family!("phi-3", "phi3", "", &["<|user|>", "<|assistant|>", "<|end|>"]),
    family!("gemma-3", "gemma3", "", &["<start_of_turn>", "<end_of_turn>"]),
    family!("llama-3", "llama", "", &["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]),
    family!("chatml", "", "", &["<|im_start|>", "<|im_end|>"]),
    family!("plain", "", "", &[]),
];

impl Family {
    pub fn named(name: &str) -> Option<&'static Family> {
        FAMILIES.iter().find(|family| family.name == name)
    }

    /// The family of the model with this header.
    ///
    /// Errors: [`Error::Template`] where it is of none and has a template of its own.
    #[cold]
    pub fn of(metadata: &Metadata, tokenizer: &Tokenizer) -> Result<&'static Family> {
        let text = |key| metadata.string(key).ok().flatten().unwrap_or_default();
        let (architecture, pre) = (text("general.architecture"), text("tokenizer.ggml.pre"));
        let own = metadata.get("tokenizer.chat_template").is_some();
        let is = |wanted: &str, found: &str| wanted.is_empty() || wanted == found;
        let fits = |family: &&Family| {
            is(family.architecture, architecture)
                && is(family.pre, pre)
                && !(own && family.tokens.is_empty())
                && family.tokens.iter().all(|token| tokenizer.id(token).is_some())
        };
        FAMILIES.iter().find(fits).ok_or_else(|| {
            let problem = format!("none that comes with Kinglet is for this model (architecture {architecture})");
            Error::Template(format!("{problem}; {}", choices()))
        })
    }
}

/// What `chatTemplate` can be, for messages of errors.
#[cold]
pub(super) fn choices() -> String {
    let names = FAMILIES.map(|family| family.name).join(", ");
    format!("name a family ({names}), give a template in Jinja, or take the file's own (\"file\")")
}
