//! A loaded model in conversation: prompt building, context window, prefix reuse, usage. One request at a time; the
//! caller queues.

use crate::backend::cpu::CpuBackend;
use crate::backend::lora::{Active, LowRank};
use crate::backend::{Backend, DecoderSpec, HeadRows, Memory};
use crate::formats::{Checkpoint, Format, TensorInfo, lora};
pub use crate::generate::TokenLogprob;
use crate::generate::sampler::SplitMix64;
use crate::generate::thinking::Said;
use crate::generate::{AdapterUse, Answer, AnswerSignals, FinishReason, GenerateOptions, Signals};
use crate::model::{adapter, arch, decoder, memory, weights};
use crate::source::ByteSource;
use crate::text::chat_template::Arguments;
use crate::text::tokenizer::Special;
use crate::text::{ChatTemplate, Message, Tokenizer};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// Milliseconds from any fixed moment on.
pub type Clock = fn() -> f64;

/// Seconds since 1970 of local time, as a calendar on the wall has it; None where there is no such clock.
pub type WallClock = fn() -> Option<i64>;

#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Default: min(the file's, 4096). More than the file's is allowed.
    pub context_length: Option<usize>,
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
        Self { context_length: None, memory_limit: memory::default_limit(), clock: system_clock, wall_clock }
    }
}

#[cfg(not(target_arch = "wasm32"))]
fn system_clock() -> f64 {
    use std::sync::LazyLock;
    use std::time::Instant;
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed().as_secs_f64() * 1e3
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
    /// Goes with messages: what the chat template is given beside them, such as `enable_thinking`.
    #[serde(default)]
    pub chat_template_kwargs: Arguments,
    /// Goes with messages; "none" is `enable_thinking: false`, anything else the model's own way.
    #[serde(default)]
    pub reasoning_effort: Option<String>,
    #[serde(flatten)]
    pub options: GenerateOptions,
}

impl Request {
    fn template_arguments(&self) -> Arguments {
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
        signals: Signals,
        top_logprobs: Vec<TokenLogprob>,
        special: bool,
    },
    /// `text`: what was held back and is shown after all. `signals`: of the whole answer.
    Done {
        text: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        reasoning: String,
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
    pub dispatches_per_token: usize,
    pub backend: &'static str,
}

pub struct Session<B = CpuBackend> {
    backend: B,
    tokenizer: Tokenizer,
    /// A template that does not compile spoils chat, not the model.
    template: Result<ChatTemplate>,
    info: Info,
    clock: Clock,
    wall_clock: WallClock,
    memory_limit: Option<u64>,
    /// The tokens whose keys and values the cache holds, which the active adapters had a part in.
    cached: Vec<u32>,
    active: Vec<Active>,
    /// Kept for another backend: see [`Session::reload_on`].
    adapters: BTreeMap<u32, Vec<LowRank>>,
    /// Which rows of which tensor an adapter's names mean.
    tensors: Vec<arch::TensorPlan>,
    run: Option<Run>,
    stats: Stats,
    seeds: SplitMix64,
}

struct Run {
    answer: Answer,
    /// The backend chooses the tokens.
    on_device: bool,
    /// How many more it will choose.
    device_tokens: usize,
    started: f64,
    first_token: f64,
}

impl Session<CpuBackend> {
    /// Loads a model onto the CPU. `progress(bytes done, bytes in all)`.
    pub async fn load<S: ByteSource>(
        shards: &mut [S],
        options: LoadOptions,
        progress: impl FnMut(u64, u64),
    ) -> Result<Self> {
        Self::load_on(async |spec, _| Ok(CpuBackend::new(spec)), shards, options, progress).await
    }
}

impl<B: Backend> Session<B> {
    /// `new_backend(spec, context length)` makes the backend once the header is read.
    pub async fn load_on<S: ByteSource>(
        new_backend: impl AsyncFnOnce(DecoderSpec, usize) -> Result<B>,
        shards: &mut [S],
        options: LoadOptions,
        progress: impl FnMut(u64, u64),
    ) -> Result<Self> {
        let mut checkpoint = Checkpoint::open(shards).await?;
        let mut blueprint = arch::describe(&checkpoint)?;
        // More than the file states is allowed: some state less than the model was trained for (stories260K: 128 of 512).
        let context_length = options.context_length.unwrap_or_else(|| memory::default_context(&blueprint.spec));
        if context_length == 0 {
            return Err(Error::BadRequest("contextLength is 0".into()));
        }
        blueprint.spec.context_length = context_length;
        let spec = &blueprint.spec;
        let tokenizer = Tokenizer::from_gguf(&mut checkpoint.metadata)?;
        arch::check_vocabulary(&tokenizer, spec)?;
        let mut backend = new_backend(spec.clone(), context_length).await?;
        let fits = on_cpu(&blueprint, &checkpoint, options.memory_limit);
        if backend.adapter().is_none() {
            fits.clone()?;
        }
        weights::stream(shards, &checkpoint, &blueprint, &mut backend, progress).await?;

        let clock = options.clock;
        Ok(Self {
            template: ChatTemplate::from_gguf(&checkpoint.metadata, &tokenizer),
            info: Info {
                architecture: spec.architecture.clone(),
                name: checkpoint.metadata.string("general.name").ok().flatten().map(String::from),
                parameters: checkpoint.tensors.iter().map(TensorInfo::elements).sum(),
                quantization: main_format(&checkpoint).into(),
                context_length,
                vocabulary: spec.vocab,
                backend: backend.name(),
                adapter: backend.adapter(),
                no_fallback: fits.err().map(|error| error.to_string()),
            },
            memory_limit: options.memory_limit,
            stats: Stats { backend: backend.name(), ..Stats::default() },
            seeds: SplitMix64(clock().to_bits()),
            backend,
            tokenizer,
            clock,
            wall_clock: options.wall_clock,
            cached: Vec::new(),
            active: Vec::new(),
            adapters: BTreeMap::new(),
            tensors: blueprint.tensors,
            run: None,
        })
    }

    /// Moves to another backend (after [`Error::DeviceLost`], say), which reads the model again. The running request and
    /// its text stay; its tokens are evaluated again by the next steps. After an error the session is as it was.
    pub async fn reload_on<S: ByteSource>(
        &mut self,
        new_backend: impl AsyncFnOnce(DecoderSpec) -> Result<B>,
        shards: &mut [S],
        progress: impl FnMut(u64, u64),
    ) -> Result<()> {
        let checkpoint = Checkpoint::open(shards).await?;
        let mut blueprint = arch::describe(&checkpoint)?;
        blueprint.spec.context_length = self.info.context_length;
        if blueprint.spec != *self.backend.spec() {
            return Err(Error::Source("it is not the model that was loaded before".into()));
        }
        let mut backend = new_backend(blueprint.spec.clone()).await?;
        if backend.adapter().is_none() {
            on_cpu(&blueprint, &checkpoint, self.memory_limit)?;
        }
        weights::stream(shards, &checkpoint, &blueprint, &mut backend, progress).await?;
        for (&id, pairs) in &self.adapters {
            backend.load_adapter(id, pairs)?;
        }
        backend.use_adapters(&self.active)?;
        self.backend = backend;
        self.info.backend = self.backend.name();
        self.info.adapter = self.backend.adapter();
        self.stats.backend = self.info.backend;
        self.cached.clear();
        if let Some(run) = &mut self.run {
            run.on_device = false;
        }
        Ok(())
    }

    /// Reads a LoRA adapter and keeps it under a number of the caller's choice, for [`GenerateOptions::adapters`]. `config`:
    /// the text of `adapter_config.json` where it is PEFT's; without, it is llama.cpp's GGUF.
    ///
    /// Errors: [`Error::Adapter`] where the file is broken, for another model or beyond what is supported.
    pub async fn load_adapter<S: ByteSource>(&mut self, id: u32, source: &mut S, config: Option<&str>) -> Result<()> {
        if self.adapters.contains_key(&id) {
            return Err(Error::Adapter(format!("there is an adapter {id} already")));
        }
        let file = lora::read(source, config).await?;
        let pairs = adapter::fit(file, self.backend.spec(), &self.tensors)?;
        self.backend.load_adapter(id, &pairs)?;
        self.adapters.insert(id, pairs);
        Ok(())
    }

    /// Errors: [`Error::Adapter`] where there is none, or where the running request uses it.
    pub fn unload_adapter(&mut self, id: u32) -> Result<()> {
        self.check_adapter(id)?;
        if self.active.iter().any(|active| active.0 == id) {
            if self.run.is_some() {
                return Err(Error::Adapter(format!("the running request uses adapter {id}; wait for its end")));
            }
            self.use_adapters(&[])?;
        }
        self.backend.unload_adapter(id);
        self.adapters.remove(&id);
        Ok(())
    }

    /// The adapters of what follows ([`Session::logits`]; a request brings its own). A change drops the running request and
    /// the cache.
    ///
    /// Errors: [`Error::Adapter`] where one is not loaded or given twice.
    pub fn use_adapters(&mut self, adapters: &[AdapterUse]) -> Result<()> {
        let mut active: Vec<Active> = Vec::new();
        for &AdapterUse { id, scale } in adapters {
            self.check_adapter(id)?;
            if active.iter().any(|active| active.0 == id) {
                return Err(Error::Adapter(format!("{id} is given twice; add up the scales")));
            }
            active.push((id, scale));
        }
        active.retain(|active| active.1 != 0.0);
        active.sort_by_key(|active| active.0);
        if active != self.active {
            self.abort();
            self.backend.use_adapters(&active)?;
            self.active = active;
            self.cached.clear();
        }
        Ok(())
    }

    fn check_adapter(&self, id: u32) -> Result<()> {
        match self.adapters.contains_key(&id) {
            true => Ok(()),
            false => Err(Error::Adapter(format!("there is no adapter {id}; load it first"))),
        }
    }

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

    pub fn memory(&self) -> Memory {
        self.backend.memory()
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
        self.abort();
        if request.suffix.is_some() && request.prompt.is_none() {
            return Err(Error::BadRequest("suffix goes with a prompt, not with messages".into()));
        }
        let (tokens, at_start) = match (&request.messages, &request.prompt) {
            (Some(messages), None) => {
                let template = self.template.as_mut().map_err(|error| error.clone())?;
                if let Some(now) = (self.wall_clock)() {
                    template.set_clock(now);
                }
                let tools = request.tools.as_ref();
                (template.encode_with(&self.tokenizer, messages, tools, &request.template_arguments())?, true)
            }
            (None, Some(prompt)) => match &request.suffix {
                None => (self.raw_prompt(prompt)?, prompt.is_empty()),
                Some(suffix) => (self.tokenizer.fill_in_middle(prompt, suffix).ok_or_else(cannot_fill)?, false),
            },
            _ => return Err(Error::BadRequest("give either messages or a prompt".into())),
        };
        let thinks = request.messages.is_some() && self.knows_thoughts();
        let opened = thinks && self.ends_with_tag(&tokens);
        self.start_tokens(tokens, &request.options, at_start)?;
        if let Some(run) = self.run.as_mut().filter(|_| thinks) {
            run.answer.sort_thoughts(opened);
        }
        Ok(())
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
        // At least the last token of the prompt is run again: its logits are wanted.
        let reusable =
            if options.cache_prompt { common_prefix(&self.cached, &tokens).min(tokens.len() - 1) } else { 0 };
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
        self.run = Some(Run { answer, on_device: false, device_tokens: 0, started: (self.clock)(), first_token: 0.0 });
        Ok(())
    }

    /// One chunk of the prompt, or one token. After [`Step::Done`] there is no running request. After an error there
    /// still is: it goes on where the cause is gone (see [`Session::reload_on`]), or ends with [`Session::abort`].
    pub async fn step(&mut self) -> Result<Step> {
        let Some(run) = &mut self.run else {
            return Err(Error::BadRequest("no request is running".into()));
        };
        if let Some((reason, stop)) = run.answer.finished().cloned() {
            let Said { reasoning, text } = run.answer.take_held_text();
            let (reason, stop) = run.answer.finished().cloned().unwrap_or((reason, stop));
            let signals = run.answer.signals().into();
            self.abort();
            return Ok(Step::Done { text, reasoning, reason, stop, stats: self.stats.clone(), signals });
        }
        let tokens = run.answer.tokens();
        let total = tokens.len();
        if !run.on_device || run.device_tokens == 0 {
            if std::mem::take(&mut run.on_device) {
                self.backend.stop_sampling();
            }
            self.backend.catch_up().await?;
            if self.backend.expect_positions(total)? {
                self.cached.clear();
            }
            let end = total.min(self.cached.len() + self.backend.max_batch());
            let last = end == total;
            let batch = &tokens[self.cached.len()..end];
            forward(&mut self.backend, &mut self.cached, batch, if last { HeadRows::Last } else { HeadRows::None })?;
            if !last {
                if run.answer.is_empty() {
                    self.stats.prefill_ms = (self.clock)() - run.started;
                }
                return Ok(Step::Prefill { done: end, total });
            }
            // Beyond the original context all is evaluated anew.
            let unturned = self.backend.spec().original_context().filter(|&original| total <= original);
            let sampling = run.answer.sampling(unturned.map_or(usize::MAX, |original| original - total + 1));
            run.device_tokens = sampling.limit;
            run.on_device = self.backend.start_sampling(&sampling)?;
        }
        let token = if run.on_device {
            let sampled = self.backend.next_sampled().await?;
            run.device_tokens -= 1;
            // What the device chose before this token is in its cache by now.
            self.cached.extend_from_slice(&tokens[self.cached.len()..]);
            run.answer.push_sampled(sampled, &self.tokenizer)
        } else {
            let logits = self.backend.logits().await?;
            run.answer.push(logits, &self.tokenizer)
        };

        let now = (self.clock)();
        self.stats.completion_tokens = run.answer.len();
        if run.answer.len() == 1 {
            run.first_token = now;
            self.stats.prefill_ms = now - run.started;
        } else {
            self.stats.decode_ms = now - run.first_token;
        }
        let crate::generate::Token { id, text, reasoning, signals, top_logprobs, special } = token;
        Ok(Step::Token { id, text, reasoning, signals, top_logprobs, special })
    }

    /// Ends the running request between two steps; the cache stays valid.
    pub fn abort(&mut self) -> Option<Stats> {
        let run = self.run.take()?;
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

    /// An empty prompt is BOS alone.
    fn raw_prompt(&self, text: &str) -> Result<Vec<u32>> {
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

/// Errors: [`Error::OutOfMemory`] where the CPU cannot hold the model.
fn on_cpu(blueprint: &arch::Blueprint, checkpoint: &Checkpoint, limit: Option<u64>) -> Result<()> {
    limit.map_or(Ok(()), |limit| memory::Model::new(blueprint, checkpoint)?.check(limit))
}

fn cannot_fill() -> Error {
    Error::BadRequest(
        "suffix: this model has no tokens to fill in the middle; use a model of code such as Qwen2.5-Coder".into(),
    )
}

fn common_prefix(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The format that holds most elements.
fn main_format(checkpoint: &Checkpoint) -> &'static str {
    let mut totals = HashMap::new();
    for tensor in &checkpoint.tensors {
        *totals.entry(tensor.ggml_type).or_insert(0) += tensor.elements();
    }
    let most = totals.into_iter().max_by_key(|&(_, elements)| elements);
    most.and_then(|(ggml_type, _)| Format::from_ggml(ggml_type)).map_or("", Format::name)
}
