//! Loading a model, and moving to another backend with it.

use super::{Info, LoadOptions, Session, Stats};
use crate::backend::cpu::CpuBackend;
use crate::backend::{Backend, DecoderSpec};
use crate::formats::{Checkpoint, Format, TensorInfo};
use crate::generate::drafts::{Chances, Costs};
use crate::generate::sampler::SplitMix64;
use crate::model::{arch, memory, weights};
use crate::source::ByteSource;
use crate::text::{ChatTemplate, Tokenizer};
use crate::{Error, Result};
use std::collections::{BTreeMap, HashMap};

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
        blueprint.spec.kv_int8 = options.kv_int8;
        let spec = &blueprint.spec;
        let tokenizer = Tokenizer::from_gguf(&mut checkpoint.metadata)?;
        arch::check_vocabulary(&tokenizer, spec)?;
        let chosen = options.chat_template.as_deref().filter(|choice| *choice != "file");
        let chosen = chosen.map(|choice| ChatTemplate::chosen(choice, &checkpoint.metadata, &tokenizer)).transpose()?;
        let mut backend = new_backend(spec.clone(), context_length).await?;
        let needs = memory::Model::new(&blueprint, &checkpoint)?;
        let fits = options.memory_limit.map_or(Ok(()), |limit| needs.check(limit));
        let needs = needs.on_cpu(context_length).total();
        if backend.adapter().is_none() {
            fits.clone()?;
        }
        weights::stream(shards, &checkpoint, &blueprint, &mut backend, progress).await?;

        let clock = options.clock;
        let (template, template_text) = match chosen {
            Some((template, text)) => (Ok(template), text),
            None => {
                let text = checkpoint.metadata.string("tokenizer.chat_template").ok().flatten().unwrap_or_default();
                (ChatTemplate::from_gguf(&checkpoint.metadata, &tokenizer), text.into())
            }
        };
        Ok(Self {
            template_text,
            template,
            info: Info {
                architecture: spec.architecture.clone(),
                name: checkpoint.metadata.string("general.name").ok().flatten().map(String::from),
                parameters: checkpoint.tensors.iter().map(TensorInfo::elements).sum(),
                quantization: main_format(&checkpoint).into(),
                context_length,
                vocabulary: spec.vocab,
                backend: backend.name(),
                adapter: backend.adapter(),
                threads: backend.threads(),
                draft: None,
                no_fallback: fits.err().map(|error| error.to_string()),
            },
            memory_limit: options.memory_limit,
            needs,
            draft: None,
            stats: Stats { backend: backend.name(), ..Stats::default() },
            costs: Costs::default(),
            chances: Chances::default(),
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
        blueprint.spec.kv_int8 = self.backend.spec().kv_int8;
        if blueprint.spec != *self.backend.spec() {
            return Err(Error::Source("it is not the model that was loaded before".into()));
        }
        let mut backend = new_backend(blueprint.spec.clone()).await?;
        if backend.adapter().is_none() {
            self.memory_limit.map_or(Ok(()), |limit| memory::Model::new(&blueprint, &checkpoint)?.check(limit))?;
        }
        weights::stream(shards, &checkpoint, &blueprint, &mut backend, progress).await?;
        for (&id, pairs) in &self.adapters {
            backend.load_adapter(id, pairs)?;
        }
        backend.use_adapters(&self.active)?;
        self.backend = backend;
        self.info.backend = self.backend.name();
        self.info.adapter = self.backend.adapter();
        self.info.threads = self.backend.threads();
        self.stats.backend = self.info.backend;
        self.cached.clear();
        self.costs = Costs::default();
        if let Some(run) = &mut self.run {
            run.on_device = false;
        }
        Ok(())
    }
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
