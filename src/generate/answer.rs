//! One answer under way: the prompt's tokens, those chosen so far, and the text they make.

use super::sampler::Sampler;
use super::signals::summarize;
use super::stop::StopStrings;
use super::{FinishReason, GenerateOptions, Signals, TokenLogprob};
use crate::text::{Detokenizer, Tokenizer};

/// One step of an answer.
#[derive(Clone, Debug)]
pub struct Token {
    pub id: u32,
    /// What this token completes: whole characters, without what may become a stop string.
    pub text: String,
    pub signals: Signals,
    /// `top_logprobs` of them, best first.
    pub top_logprobs: Vec<TokenLogprob>,
    /// A control token; end tokens are such.
    pub special: bool,
}

pub struct Answer {
    /// Prompt and answer.
    tokens: Vec<u32>,
    prompt: usize,
    /// The most tokens the answer may have.
    limit: usize,
    options: GenerateOptions,
    sampler: Sampler,
    detokenizer: Detokenizer,
    stops: StopStrings,
    finish: Option<(FinishReason, Option<String>)>,
}

impl Answer {
    /// `at_start`: the answer begins a text rather than continues one.
    pub fn new(prompt: Vec<u32>, limit: usize, options: GenerateOptions, seed: u64, at_start: bool) -> Self {
        Self {
            prompt: prompt.len(),
            tokens: prompt,
            limit,
            sampler: Sampler::new(seed),
            detokenizer: Detokenizer::new(at_start),
            stops: StopStrings::new(&options.stop),
            finish: (limit == 0).then_some((FinishReason::Length, None)),
            options,
        }
    }

    /// Prompt and answer so far.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Tokens of the prompt.
    pub fn prompt_len(&self) -> usize {
        self.prompt
    }

    /// Tokens of the answer so far.
    pub fn len(&self) -> usize {
        self.tokens.len() - self.prompt
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Why the answer is complete, and the stop string that ended it; `None` while it goes on.
    pub fn finished(&self) -> Option<&(FinishReason, Option<String>)> {
        self.finish.as_ref()
    }

    /// Chooses the next token from `logits`, `[vocab]`.
    pub fn push(&mut self, logits: &[f32], tokenizer: &Tokenizer) -> Token {
        // Two for the margin.
        let summary = summarize(logits, self.options.top_logprobs.max(2));
        let id = self.sampler.choose(logits, &summary, &self.tokens, &self.options);
        self.tokens.push(id);

        let mut text = String::new();
        self.detokenizer.push(tokenizer, id, &mut text);
        let (text, stop) = self.stops.push(&text);
        let ends = !self.options.ignore_eos && tokenizer.end_ids().contains(&id);
        if ends || stop.is_some() {
            self.finish = Some((FinishReason::Stop, stop));
        } else if self.len() >= self.limit {
            self.finish = Some((FinishReason::Length, None));
        }
        let best = summary.top.iter().take(self.options.top_logprobs);
        Token {
            id,
            text,
            signals: summary.signals(logits, id),
            top_logprobs: best.map(|&(id, logit)| TokenLogprob { id, logprob: summary.logprob(logit) }).collect(),
            special: tokenizer.is_special(id),
        }
    }

    /// The text held back, which is shown after all unless a stop string has ended the answer.
    pub fn take_held_text(&mut self) -> String {
        if matches!(self.finish, Some((_, Some(_)))) {
            return String::new();
        }
        let mut rest = String::new();
        self.detokenizer.finish(&mut rest);
        let (mut text, stop) = self.stops.push(&rest);
        match stop {
            Some(stop) => self.finish = Some((FinishReason::Stop, Some(stop))),
            None => text += &self.stops.finish(),
        }
        text
    }
}
