//! One answer under way: the prompt's tokens, those chosen so far, and the text they make.

use super::answer_signals::{AnswerSignals, FIRST_TOKEN_TOP, SignalSum};
use super::sampler::Sampler;
use super::signals::summarize;
use super::stop::StopStrings;
use super::thinking::{Said, Thoughts, is_tag};
use super::tool_calls::{CallPiece, ToolCalls, is_marker};
use super::{FinishReason, GenerateOptions, Mask, Signals, TokenLogprob};
use crate::Result;
use crate::backend::sampling::{PENALTY_WINDOW, Sampled, Sampling};
use crate::text::{Detokenizer, Tokenizer, ToolFormat};

/// One step of an answer.
#[derive(Clone, Debug)]
pub struct Token {
    pub id: u32,
    /// What this token completes: whole characters, without what may become a stop string.
    pub text: String,
    /// The same of what the model thinks before it answers; empty but for [`Answer::sort_thoughts`].
    pub reasoning: String,
    /// The same of calls of tools; empty but for [`Answer::sort_calls`].
    pub calls: Vec<CallPiece>,
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
    thoughts: Option<Thoughts>,
    calls: Option<ToolCalls>,
    signals: SignalSum,
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
            thoughts: None,
            calls: None,
            signals: SignalSum::default(),
            finish: (limit == 0).then_some((FinishReason::Length, None)),
            options,
        }
    }

    /// Tells thoughts from the answer. `opened`: the prompt ends with the tag that begins them.
    pub fn sort_thoughts(&mut self, opened: bool) {
        self.thoughts = Some(Thoughts::new(opened));
    }

    /// Tells calls of tools from the answer.
    pub fn sort_calls(&mut self, format: ToolFormat) {
        self.calls = Some(ToolCalls::new(format));
    }

    /// How far the thoughts are, of an answer that may have some.
    pub fn thoughts(&self) -> Option<&Thoughts> {
        self.thoughts.as_ref()
    }

    /// How many tokens the answer may still have.
    pub fn left(&self) -> usize {
        self.limit - self.len()
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

    /// Chooses the next token from `logits`, `[vocab]`, among those that `mask` allows. `confirm`: whoever made the mask hears
    /// of the choice and says which token stands, that one or another.
    ///
    /// Errors: those of `confirm`; then nothing has changed but the random numbers.
    pub fn push(
        &mut self,
        logits: &[f32],
        mask: Option<&Mask>,
        tokenizer: &Tokenizer,
        confirm: impl FnOnce(u32) -> Result<u32>,
    ) -> Result<Token> {
        let wanted = self.options.top_logprobs.max(self.first_top());
        // Two for the margin.
        let summary = summarize(logits, wanted.max(2));
        let chosen = self.sampler.choose(logits, &summary, &self.tokens, &self.options, mask);
        let id = confirm(chosen)?;
        let forced = id != chosen
            || mask.is_some_and(|mask| {
                let bytes = tokenizer.token_bytes(id);
                mask.leaves_no_choice(tokenizer.end_ids()) || !bytes.is_empty() && mask.forced.starts_with(bytes)
            });
        let best = summary.top.iter().take(wanted);
        let top_logprobs = best.map(|&(id, logit)| TokenLogprob { id, logprob: summary.logprob(logit) }).collect();
        Ok(self.accept(id, summary.signals(logits, id), top_logprobs, tokenizer, forced))
    }

    /// What a backend needs to choose the next tokens itself, so many of them at most.
    pub fn sampling(&self, at_most: usize) -> Sampling {
        let options = &self.options;
        let limit = self.left().min(at_most);
        Sampling {
            temperature: options.temperature,
            top_k: options.top_k,
            top_p: options.top_p,
            min_p: options.min_p,
            repeat_penalty: options.repeat_penalty,
            presence_penalty: options.presence_penalty,
            frequency_penalty: options.frequency_penalty,
            logit_bias: options.logit_bias.iter().map(|(&id, &bias)| (id, bias)).collect(),
            recent: self.tokens[self.tokens.len().saturating_sub(PENALTY_WINDOW)..].to_vec(),
            draws: if options.is_greedy() { Vec::new() } else { self.sampler.draws(limit) },
            limit,
            top_logprobs: options.top_logprobs,
            first_top_logprobs: self.first_top(),
        }
    }

    /// How many of the best tokens the answer's first is to report. (A later one is looked at whole: by the time it is known
    /// that the first had no text, a device has chosen others.)
    fn first_top(&self) -> usize {
        if self.is_empty() { FIRST_TOKEN_TOP } else { 0 }
    }

    /// Of the answer so far.
    pub fn signals(&self) -> AnswerSignals {
        self.signals.get()
    }

    /// Takes a token that a backend chose.
    pub fn push_sampled(&mut self, sampled: Sampled, tokenizer: &Tokenizer) -> Token {
        if !self.options.is_greedy() {
            self.sampler.skip_draw();
        }
        let Sampled { id, logprob, entropy, margin, top } = sampled;
        let top_logprobs = top.into_iter().map(|(id, logprob)| TokenLogprob { id, logprob }).collect();
        self.accept(id, Signals { logprob, entropy, margin }, top_logprobs, tokenizer, false)
    }

    /// `best`: of the tokens at this place, at least as many as were asked for. `forced`: the model had no choice.
    fn accept(
        &mut self,
        id: u32,
        signals: Signals,
        mut best: Vec<TokenLogprob>,
        tokenizer: &Tokenizer,
        forced: bool,
    ) -> Token {
        let first_top = self.first_top();
        self.tokens.push(id);
        let mut text = String::new();
        self.detokenizer.push(tokenizer, id, &mut text);
        // Some vocabularies have the tags as control tokens, which are not shown.
        let bytes = tokenizer.token_bytes(id);
        if text.is_empty() && (self.thoughts.is_some() && is_tag(bytes) || self.calls.is_some() && is_marker(bytes)) {
            text.push_str(&String::from_utf8_lossy(bytes));
        }
        let (text, stop) = self.stops.push(&text);
        let Said { reasoning, text } = match &mut self.thoughts {
            Some(thoughts) => thoughts.push(&text),
            None => Said { text, ..Said::default() },
        };
        let mut calls = Vec::new();
        let text = match &mut self.calls {
            Some(sorter) => {
                let sorted = sorter.push(&text);
                calls = sorted.calls;
                sorted.text
            }
            None => text,
        };
        let has_text = match self.thoughts {
            // A thought is not what the question is about.
            Some(_) => !text.trim().is_empty(),
            None => !tokenizer.is_special(id) && !tokenizer.token_bytes(id).trim_ascii().is_empty(),
        };
        if forced {
            self.signals.push_forced();
        } else {
            if has_text && !self.signals.has_content() {
                let best: Vec<f32> = best.iter().take(first_top).map(|top| top.logprob).collect();
                self.signals.first_content(&best, signals.entropy);
            }
            self.signals.push(signals);
        }
        best.truncate(self.options.top_logprobs);
        let ends = !self.options.ignore_eos && tokenizer.end_ids().contains(&id);
        if ends || stop.is_some() {
            self.finish = Some((FinishReason::Stop, stop));
        } else if self.len() >= self.limit {
            self.finish = Some((FinishReason::Length, None));
        }
        Token { id, text, reasoning, calls, signals, top_logprobs: best, special: tokenizer.is_special(id) }
    }

    /// The text held back, which is shown after all.
    pub fn take_held_text(&mut self) -> (Said, Vec<CallPiece>) {
        let text = self.take_unstopped();
        let mut said = Said { text, ..Said::default() };
        if let Some(thoughts) = &mut self.thoughts {
            said = thoughts.push(&said.text);
            let rest = thoughts.finish();
            said.reasoning += &rest.reasoning;
            said.text += &rest.text;
        }
        let Some(sorter) = &mut self.calls else { return (said, Vec::new()) };
        let (sorted, rest) = (sorter.push(&said.text), sorter.finish());
        if let (true, Some((reason @ FinishReason::Stop, None))) = (sorter.any(), &mut self.finish) {
            *reason = FinishReason::ToolCalls;
        }
        said.text = sorted.text + &rest.text;
        (said, [sorted.calls, rest.calls].concat())
    }

    /// What was held back as the possible beginning of a stop string; nothing where one has ended the answer.
    fn take_unstopped(&mut self) -> String {
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
