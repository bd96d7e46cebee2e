//! From a request to the tokens of its prompt.

use super::Session;
use super::run::has_calls;
use super::types::Request;
use crate::backend::Backend;
use crate::text::tokenizer::Special;
use crate::{Error, Result};

impl<B: Backend> Session<B> {
    /// The tokens, and whether the answer begins a text.
    pub(super) fn prompt_of(&mut self, request: &Request) -> Result<(Vec<u32>, bool)> {
        Ok(match (&request.messages, &request.prompt) {
            (Some(messages), None) => {
                let template = self.template.as_mut().map_err(|error| error.clone())?;
                if let Some(now) = (self.wall_clock)() {
                    template.set_clock(now);
                }
                let tools = request.tools.as_ref();
                let arguments = request.template_arguments();
                let continued = request.continue_final_message;
                let encoded = match tools.is_some() || messages.iter().any(has_calls) {
                    true => template.encode_tools(&self.tokenizer, messages, tools, &arguments, continued),
                    false => template.encode_with(&self.tokenizer, messages, None, &arguments, continued),
                };
                (encoded?, !continued)
            }
            (None, Some(prompt)) => match &request.suffix {
                None => (self.raw_prompt(prompt)?, prompt.is_empty()),
                Some(suffix) => (self.tokenizer.fill_in_middle(prompt, suffix).ok_or_else(cannot_fill)?, false),
            },
            _ => return Err(Error::BadRequest("give either messages or a prompt".into())),
        })
    }

    /// An empty prompt is BOS alone.
    pub(super) fn raw_prompt(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = self.tokenizer.encode(text, Special::Parse);
        let wanted = self.tokenizer.add_bos() || ids.is_empty();
        match self.tokenizer.bos() {
            Some(bos) if wanted && ids.first() != Some(&bos) => ids.insert(0, bos),
            None if ids.is_empty() => {
                return Err(Error::BadRequest(
                    "the prompt is empty, and this model has no BOS token to begin with".into(),
                ));
            }
            _ => {}
        }
        Ok(ids)
    }
}

fn cannot_fill() -> Error {
    Error::BadRequest(
        "suffix: this model has no tokens to fill in the middle; use a model of code such as Qwen2.5-Coder".into(),
    )
}
