//! A loaded model in conversation: prompt building, context window, prefix reuse, usage. One request at a time; the
//! caller queues.

mod adapters;
mod draft;
mod embed;
mod load;
mod prefix;
mod prompt;
mod run;
mod types;

use crate::backend::cpu::CpuBackend;
use crate::backend::lora::{Active, LowRank};
use crate::backend::{Backend, HeadRows, Memory};
pub use crate::generate::TokenLogprob;
use crate::generate::drafts::{Chances, Costs, Drafts, Source};
use crate::generate::sampler::SplitMix64;
use crate::generate::thinking::{OPEN, Said};
use crate::generate::{Answer, Constraint, GenerateOptions};
use crate::model::{arch, decoder};
use crate::text::tokenizer::Special;
use crate::text::{ChatTemplate, Tokenizer, ToolFormat};
use crate::{Error, Result};
use draft::DraftModel;
use run::{Run, is_check};
use std::collections::BTreeMap;
pub use types::{Clock, Info, LoadOptions, Request, Stats, Step, WallClock};

pub struct Session<B = CpuBackend> {
    backend: B,
    tokenizer: Tokenizer,
    /// A template that does not compile spoils chat, not the model.
    template: Result<ChatTemplate>,
    /// As the file has it, or whoever chose another.
    template_text: String,
    info: Info,
    clock: Clock,
    wall_clock: WallClock,
    memory_limit: Option<u64>,
    /// Bytes that the model takes on the CPU.
    needs: u64,
    draft: Option<DraftModel<B>>,
    /// The tokens whose keys and values the cache holds, which the active adapters had a part in.
    cached: Vec<u32>,
    active: Vec<Active>,
    /// Kept for another backend: see [`Session::reload_on`].
    adapters: BTreeMap<u32, Vec<LowRank>>,
    /// Which rows of which tensor an adapter's names mean.
    tensors: Vec<arch::TensorPlan>,
    run: Option<Run>,
    stats: Stats,
    /// Of this machine, and of the model's answers.
    costs: Costs,
    chances: Chances,
    seeds: SplitMix64,
}

impl<B: Backend> Session<B> {
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// Ends the session.
    pub fn into_backend(self) -> B {
        self.backend
    }

    pub fn info(&self) -> &Info {
        &self.info
    }

    /// A draft model's is among it.
    pub fn memory(&self) -> Memory {
        let draft = self.draft.as_ref().map(|draft| draft.backend().memory()).unwrap_or_default();
        self.backend.memory().and(draft)
    }

    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Of the request under way, or else the last one.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Tokenizes and checks; the work is done by [`Session::step`]. A running request is dropped.
    ///
    /// Errors: [`Error::BadRequest`], [`Error::Template`], [`Error::ContextExceeded`].
    pub fn start(&mut self, request: &Request) -> Result<()> {
        self.start_constrained(request, None)
    }

    /// The answer keeps to the form that `constraint` knows; thoughts before it do not.
    ///
    /// Errors: those of [`Session::start`]; [`Error::BadRequest`] also for what does not go with a form.
    pub fn start_constrained(&mut self, request: &Request, constraint: Option<Box<dyn Constraint>>) -> Result<()> {
        self.abort();
        if constraint.is_some() && request.options.ignore_eos {
            return Err(Error::BadRequest(
                "ignore_eos does not go with response_format or tools: their answers end".into(),
            ));
        }
        if request.suffix.is_some() && request.prompt.is_none() {
            return Err(Error::BadRequest("suffix goes with a prompt, not with messages".into()));
        }
        let (tokens, at_start) = self.prompt_of(request)?;
        let thinks = request.messages.is_some() && self.knows_thoughts();
        let opened = thinks && self.ends_with_tag(&tokens);
        self.start_tokens(tokens, &request.options, at_start)?;
        let calls = request.tools.is_some().then(|| self.tool_format()).transpose()?;
        let think = self.tokenizer.id(OPEN).filter(|_| request.thinks());
        let Some(run) = self.run.as_mut() else { return Ok(()) };
        if thinks {
            run.answer.sort_thoughts(opened);
        }
        if let Some(format) = calls {
            run.answer.sort_calls(format);
        }
        if let Some(prediction) = &request.prediction {
            let prediction = self.tokenizer.encode(prediction, Special::Plain);
            run.drafts = Drafts::new(request.options.drafts, prediction, self.chances);
        }
        run.constraint = constraint;
        run.think = think;
        Ok(())
    }

    /// How the model writes calls of tools. Errors: [`Error::Template`].
    pub fn tool_format(&self) -> Result<ToolFormat> {
        Ok(self.template.as_ref().map_err(Clone::clone)?.tool_use().format)
    }

    fn knows_thoughts(&self) -> bool {
        self.template.as_ref().is_ok_and(ChatTemplate::knows_thoughts) || self.tokenizer.id("<think>").is_some()
    }

    /// Some templates begin the thoughts themselves.
    fn ends_with_tag(&self, prompt: &[u32]) -> bool {
        let last = &prompt[prompt.len().saturating_sub(16)..];
        self.tokenizer.decode(last, true).trim_end().ends_with("<think>")
    }

    /// As [`Session::start`], from token ids, to which nothing is added. `at_start`: the answer begins a text.
    pub fn start_tokens(&mut self, tokens: Vec<u32>, options: &GenerateOptions, at_start: bool) -> Result<()> {
        self.abort();
        options.check(self.info.vocabulary)?;
        self.check_tokens(&tokens)?;
        let room = self.info.context_length - tokens.len();
        if room == 0 {
            return Err(self.context_exceeded(tokens.len()));
        }
        self.use_adapters(&options.adapters)?;
        if let Some(draft) = &mut self.draft {
            draft.begin();
        }
        // At least the last token of the prompt is run again: its logits are wanted.
        let reusable = if options.cache_prompt {
            self.backend.reusable(common_prefix(&self.cached, &tokens).min(tokens.len() - 1))
        } else {
            0
        };
        self.cached.truncate(reusable);
        self.stats = Stats {
            prompt_tokens: tokens.len(),
            cached_tokens: reusable,
            backend: self.info.backend,
            dispatches_per_token: self.backend.dispatches_per_token(),
            ..Stats::default()
        };
        let limit = options.max_tokens.unwrap_or(room).min(room);
        let seed = options.seed.unwrap_or_else(|| self.seeds.next_u64() ^ (self.clock)().to_bits());
        let answer = Answer::new(tokens, limit, options.clone(), seed, at_start);
        self.run = Some(Run {
            answer,
            constraint: None,
            think: None,
            drafts: Drafts::new(options.drafts, Vec::new(), self.chances),
            drafting: options.drafts,
            check: None,
            on_device: false,
            device_tokens: 0,
            started: (self.clock)(),
            first_token: 0.0,
        });
        Ok(())
    }

    /// One chunk of the prompt, or one token. After [`Step::Done`] there is no running request. After an error there
    /// still is: it goes on where the cause is gone (see [`Session::reload_on`]), or ends with [`Session::abort`].
    pub async fn step(&mut self) -> Result<Step> {
        let Some(run) = &mut self.run else {
            return Err(Error::BadRequest("no request is running".into()));
        };
        if let Some((reason, stop)) = run.answer.finished().cloned() {
            let (Said { reasoning, text }, calls) = run.answer.take_held_text();
            let (reason, stop) = run.answer.finished().cloned().unwrap_or((reason, stop));
            let signals = run.answer.signals().into();
            self.abort();
            return Ok(Step::Done { text, reasoning, calls, reason, stop, stats: self.stats.clone(), signals });
        }
        let tokens = run.answer.tokens();
        let total = tokens.len();
        if !run.on_device && self.backend.checkable_batch() > 1 {
            run.drafts.look(tokens, run.answer.prompt_len());
        }
        // Some have been checked already.
        let checked = run.check.as_ref().is_some_and(|_| self.cached.get(total - 1) == tokens.last());
        if !checked && (!run.on_device || run.device_tokens == 0) {
            if std::mem::take(&mut run.on_device) {
                self.backend.stop_sampling();
            }
            run.check = None;
            // What a draft was wrong about.
            self.cached.truncate(total - 1);
            self.backend.catch_up().await?;
            if self.backend.expect_positions(total)? {
                self.cached.clear();
            }
            let end = total.min(self.cached.len() + self.backend.max_batch());
            let last = end == total;
            let batch = &tokens[self.cached.len()..end];
            let single = batch.len() == 1 && last && !run.answer.is_empty() && self.backend.checkable_batch() > 1;
            if single {
                let start = (self.clock)();
                let batch = run.batch(&self.backend, &mut self.draft, &self.costs, self.clock).await;
                if self.draft.is_none() {
                    self.info.draft = None;
                }
                let before = (self.clock)();
                self.stats.draft_ms += before - start;
                forward(&mut self.backend, &mut self.cached, &batch, HeadRows::All)?;
                self.costs.learn(batch.len(), (self.clock)() - before);
                if let Some(check) = &run.check {
                    check.count(&mut self.stats, batch.len() - 1, 0);
                }
            } else {
                forward(
                    &mut self.backend,
                    &mut self.cached,
                    batch,
                    if last { HeadRows::Last } else { HeadRows::None },
                )?;
            }
            if !last {
                if run.answer.is_empty() {
                    self.stats.prefill_ms = (self.clock)() - run.started;
                }
                return Ok(Step::Prefill { done: end, total });
            }
            if run.constraint.is_none() {
                // Beyond the original context all is evaluated anew.
                let unturned = self.backend.spec().original_context().filter(|&original| total <= original);
                let sampling = run.answer.sampling(unturned.map_or(usize::MAX, |original| original - total + 1));
                run.device_tokens = sampling.limit;
                run.on_device = self.backend.start_sampling(&sampling)?;
            }
        }
        let token = if run.on_device {
            let sampled = self.backend.next_sampled().await?;
            run.device_tokens -= 1;
            // What the device chose before this token is in its cache by now.
            self.cached.extend_from_slice(&run.answer.tokens()[self.cached.len()..]);
            run.answer.push_sampled(sampled, &self.tokenizer)
        } else {
            // Made while a device still computes the logits.
            let follows = run.follows();
            let mask = if follows { run.mask()? } else { None };
            let logits = self.backend.logits().await?;
            let row = run.check.as_ref().map_or(0, |check| total - 1 - check.start);
            let logits = logits.chunks_exact(self.info.vocabulary).nth(row).unwrap_or_default();
            let Run { answer, constraint, think, drafts, check, .. } = run;
            let left = answer.left();
            let token = answer.push(logits, mask.as_ref(), &self.tokenizer, |token| match constraint {
                Some(constraint) if follows && *think != Some(token) => constraint.commit(token, left),
                _ => Ok(token),
            })?;
            drafts.chosen(answer.tokens(), token.id);
            let accepted = check.as_ref().filter(|_| self.cached.get(total) == Some(&token.id));
            if let Some(check) = accepted {
                check.count(&mut self.stats, 0, 1);
            }
            if let Some(draft) = &mut self.draft {
                draft.chosen(total, token.id, accepted.is_some_and(|check| check.source == Source::Model));
            }
            token
        };

        let now = (self.clock)();
        self.stats.completion_tokens = run.answer.len();
        if run.answer.len() == 1 {
            run.first_token = now;
            self.stats.prefill_ms = now - run.started;
        } else {
            self.stats.decode_ms = now - run.first_token;
        }
        let crate::generate::Token { id, text, reasoning, calls, signals, top_logprobs, special } = token;
        let so_far = is_check(run.answer.len()).then(|| Box::new(run.answer.signals()));
        Ok(Step::Token { id, text, reasoning, calls, signals, top_logprobs, special, so_far })
    }

    /// The chat template as the file has it, empty where it has none; or the one chosen instead.
    pub fn template_text(&self) -> &str {
        &self.template_text
    }

    /// Ends the running request between two steps; the cache stays valid.
    pub fn abort(&mut self) -> Option<Stats> {
        let run = self.run.take()?;
        self.chances = run.drafts.text();
        if run.on_device {
            self.backend.stop_sampling();
        }
        Some(self.stats.clone())
    }

    /// The logits of every position of `tokens`, handed to `each` as `[positions of a chunk, vocabulary]`.
    pub async fn logits(&mut self, tokens: &[u32], mut each: impl FnMut(&[f32]) -> Result<()>) -> Result<()> {
        self.abort();
        self.check_tokens(tokens)?;
        self.cached.clear();
        self.backend.expect_positions(tokens.len())?;
        for batch in tokens.chunks(self.backend.max_batch()) {
            forward(&mut self.backend, &mut self.cached, batch, HeadRows::All)?;
            each(self.backend.logits().await?)?;
        }
        Ok(())
    }

    /// Special tokens in the text count as such; none are added.
    pub fn tokenize(&self, text: &str) -> Vec<u32> {
        self.tokenizer.encode(text, Special::Parse)
    }

    /// Special tokens show their names. Errors: an id that is not in the vocabulary.
    pub fn detokenize(&self, ids: &[u32]) -> Result<String> {
        self.check_ids(ids)?;
        Ok(self.tokenizer.decode(ids, true))
    }

    fn check_tokens(&self, tokens: &[u32]) -> Result<()> {
        if tokens.is_empty() {
            return Err(Error::BadRequest("the prompt has no tokens".into()));
        }
        if tokens.len() > self.info.context_length {
            return Err(self.context_exceeded(tokens.len()));
        }
        self.check_ids(tokens)
    }

    fn check_ids(&self, ids: &[u32]) -> Result<()> {
        let vocab = self.info.vocabulary;
        match ids.iter().find(|&&id| id as usize >= vocab) {
            Some(id) => Err(Error::BadRequest(format!("the model has no token {id}, only 0 to {}", vocab - 1))),
            None => Ok(()),
        }
    }

    fn context_exceeded(&self, prompt: usize) -> Error {
        Error::ContextExceeded { prompt, context: self.info.context_length }
    }
}

/// Runs `batch` after what is cached, and keeps the account of the cache: when a step fails, what it wrote does not count.
fn forward<B: Backend>(backend: &mut B, cached: &mut Vec<u32>, batch: &[u32], rows: HeadRows) -> Result<()> {
    decoder::forward(backend, batch, cached.len(), rows)?;
    cached.extend_from_slice(batch);
    Ok(())
}

fn common_prefix(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
