//! The engine of one worker.

use super::constraint::JsConstraint;
#[cfg(feature = "threads")]
use super::pool::pool;
use super::types::{JsBackend, JsEmbedding, JsLoadOptions, JsMemory, JsRequest, from_json, to_error, to_js};
use crate::backend::any::AnyBackend;
use crate::backend::cpu::reserve;
use crate::backend::webgpu::WebGpuBackend;
use crate::formats::Checkpoint;
use crate::generate::Constraint;
use crate::model::inspect::Question;
use crate::router::artifact::MadeFor;
use crate::session::{Request, Session};
use crate::source::{JsSource, MemorySource, WebSource};
use crate::text::packed;
use js_sys::{Function, Uint8Array};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    /// The worker's: a trap itself says nothing, so the panic's message goes ahead of it.
    #[wasm_bindgen(js_name = kingletPanic)]
    fn report_panic(message: &str);
}

#[cfg(not(feature = "threads"))]
fn pool() -> crate::backend::cpu::pool::Pool {
    crate::backend::cpu::pool::Pool::single()
}

#[wasm_bindgen(start)]
fn start() {
    std::panic::set_hook(Box::new(|info| report_panic(&info.to_string())));
}

/// A real trap, for tests of what follows one.
#[wasm_bindgen]
pub fn trap() {
    #[cfg(target_arch = "wasm32")]
    core::arch::wasm32::unreachable();
}

/// Which of the binaries this is: "simd" or "relaxed".
#[wasm_bindgen]
pub fn level() -> String {
    if cfg!(target_feature = "relaxed-simd") { "relaxed" } else { "simd" }.to_string()
}

/// What the header says of a model, which is not read further. `question`: JSON, see [`Question`]; the answer is a
/// [`crate::model::inspect::Report`] as JSON, whose numbers JavaScript may round.
#[wasm_bindgen]
pub async fn inspect(sources: Vec<JsSource>, question: &str) -> Result<String, JsValue> {
    let question: Question = from_json(question)?;
    let checkpoint = Checkpoint::open(&mut open(sources)).await.map_err(to_error)?;
    let report = crate::model::inspect::inspect(&checkpoint, &question);
    Ok(serde_json::to_string(&report).expect("plain data"))
}

#[wasm_bindgen]
pub struct Engine {
    session: Session<AnyBackend>,
}

/// Errors are plain objects `{ code, message, details }`.
#[wasm_bindgen]
impl Engine {
    /// `sources`: the parts of one model in order, each read once, forward. `options`: JSON, see [`JsLoadOptions`].
    /// `progress(bytes done, bytes in all)`.
    pub async fn load(sources: Vec<JsSource>, options: &str, progress: &Function) -> Result<Engine, JsValue> {
        let options: JsLoadOptions = from_json(options)?;
        let backend = async |spec, _context| match options.backend {
            JsBackend::Cpu => Ok(AnyBackend::cpu(spec, pool())),
            JsBackend::WebGpu => Ok(AnyBackend::WebGpu(Box::new(WebGpuBackend::new(spec, &options.gpu()).await?))),
        };
        let mut shards = open(sources);
        let session = Session::load_on(backend, &mut shards, options.session(), report(progress)).await;
        let session = session.map_err(to_error)?;
        verify(&mut shards).await?;
        Ok(Engine { session })
    }

    /// Reads the same model again, onto the CPU, after the GPU was lost. A running request goes on there with the next
    /// [`Engine::step`].
    pub async fn fall_back(&mut self, sources: Vec<JsSource>, progress: &Function) -> Result<(), JsValue> {
        let backend = async |spec| Ok(AnyBackend::cpu(spec, pool()));
        let mut shards = open(sources);
        self.session.reload_on(backend, &mut shards, report(progress)).await.map_err(to_error)?;
        verify(&mut shards).await
    }

    /// See [`Session::load_draft`]. `sources`, `progress`: as in [`Engine::load`].
    pub async fn load_draft(&mut self, sources: Vec<JsSource>, progress: &Function) -> Result<(), JsValue> {
        self.session.load_draft(&mut open(sources), report(progress)).await.map_err(to_error)
    }

    /// `request`: JSON, see [`JsRequest`]. `constraint`: what the answer has to look like. Checks it; [`Engine::step`] does
    /// the work.
    pub fn start(&mut self, request: &str, constraint: Option<JsConstraint>) -> Result<(), JsValue> {
        let request: JsRequest = from_json(request)?;
        let constraint = constraint.map(|constraint| Box::new(constraint) as Box<dyn Constraint>);
        self.session.start_constrained(&Request::from(request), constraint).map_err(to_error)
    }

    /// What the tokens say, for the grammar's binary: see [`packed::pack`].
    pub fn vocabulary(&self) -> Vec<u8> {
        packed::pack(self.session.tokenizer())
    }

    /// The tokens that end an answer.
    pub fn end_ids(&self) -> Vec<u32> {
        self.session.tokenizer().end_ids().to_vec()
    }

    /// The name of a [`crate::text::ToolFormat`].
    pub fn tool_format(&self) -> Result<String, JsValue> {
        Ok(self.session.tool_format().map_err(to_error)?.name().into())
    }

    /// One chunk of the prompt, or one token: a [`crate::session::Step`].
    pub async fn step(&mut self) -> Result<JsValue, JsValue> {
        Ok(to_js(&self.session.step().await.map_err(to_error)?))
    }

    /// See [`Session::prefix_of`]. `request`: as in [`Engine::start`].
    pub fn prefix_of(&mut self, request: &str) -> Result<Vec<u32>, JsValue> {
        let request: JsRequest = from_json(request)?;
        self.session.prefix_of(&Request::from(request)).map_err(to_error)
    }

    /// See [`Session::read_prefix`]. Between two requests only.
    pub async fn read_prefix(&mut self, tokens: Vec<u32>) -> Result<bool, JsValue> {
        self.session.read_prefix(&tokens).await.map_err(to_error)
    }

    /// See [`Session::save_prefix`].
    pub fn save_prefix(&self, model: &str, tokens: Vec<u32>) -> Result<Option<Vec<u8>>, JsValue> {
        self.session.save_prefix(model, &tokens).map_err(to_error)
    }

    /// See [`Session::load_prefix`]. Between two requests only.
    pub fn load_prefix(&mut self, model: &str, tokens: Vec<u32>, bytes: &Uint8Array) -> Result<(), JsValue> {
        let len = bytes.length() as usize;
        let mut copy = Vec::new();
        reserve(&mut copy, len, "a saved prefix").map_err(to_error)?;
        copy.resize(len, 0);
        bytes.copy_to(&mut copy);
        self.session.load_prefix(model, &tokens, &copy).map_err(to_error)
    }

    /// The stats of the run that was ended, if one was.
    pub fn abort(&mut self) -> JsValue {
        self.session.abort().map_or(JsValue::UNDEFINED, |stats| to_js(&stats))
    }

    /// See [`Session::load_adapter`]. Between two steps only.
    pub fn load_adapter(&mut self, id: u32, weights: Vec<u8>, config: Option<String>) -> Result<(), JsValue> {
        let mut source = MemorySource(weights);
        let load = pin!(self.session.load_adapter(id, &mut source, config.as_deref()));
        match load.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(loaded) => loaded.map_err(to_error),
            Poll::Pending => unreachable!("memory is read at once"),
        }
    }

    pub fn unload_adapter(&mut self, id: u32) -> Result<(), JsValue> {
        self.session.unload_adapter(id).map_err(to_error)
    }

    pub fn tokenize(&self, text: &str) -> Vec<u32> {
        self.session.tokenize(text)
    }

    /// `{ embedding: number[], tokens }` of a text: see [`Session::embed`]. Between two requests only.
    pub async fn embed(&mut self, text: &str) -> Result<JsValue, JsValue> {
        let (embedding, tokens) = self.session.embed(text).await.map_err(to_error)?;
        Ok(to_js(&JsEmbedding { embedding, tokens }))
    }

    /// The same of tokens as they are.
    pub async fn embed_tokens(&mut self, tokens: Vec<u32>) -> Result<JsValue, JsValue> {
        let embedding = self.session.embed_tokens(&tokens).await.map_err(to_error)?;
        Ok(to_js(&JsEmbedding { embedding, tokens: tokens.len() }))
    }

    pub fn detokenize(&self, ids: &[u32]) -> Result<String, JsValue> {
        self.session.detokenize(ids).map_err(to_error)
    }

    /// See [`crate::text::Tokenizer::token_bytes`].
    pub fn token_bytes(&self, id: u32) -> Vec<u8> {
        self.session.tokenizer().token_bytes(id).to_vec()
    }

    /// What a calibration has to be made for to speak of an answer with `options` (of a [`JsRequest`], JSON). `model`: the
    /// file's SHA-256, empty where it is not known.
    pub fn made_for(&self, options: &str, model: &str) -> Result<JsValue, JsValue> {
        let options = from_json(options)?;
        Ok(to_js(&MadeFor::new(model, self.session.template_text(), &options, self.session.info().backend)))
    }

    pub fn info(&self) -> JsValue {
        to_js(self.session.info())
    }

    /// What the GPU was measured to be best at, for the `gpu.tuning` of its next load; undefined on the CPU.
    pub fn tuning(&self) -> JsValue {
        self.session.backend().tuning().map_or(JsValue::UNDEFINED, to_js)
    }

    pub fn memory(&self) -> JsValue {
        let memory = self.session.memory();
        to_js(&JsMemory {
            weights: memory.weights as f64,
            kv_cache: memory.kv_cache as f64,
            scratch: memory.scratch as f64,
        })
    }
}

fn open(sources: Vec<JsSource>) -> Vec<WebSource> {
    sources.into_iter().map(WebSource::new).collect()
}

/// Where digests were given.
async fn verify(shards: &mut [WebSource]) -> Result<(), JsValue> {
    for shard in shards {
        shard.verify().await.map_err(to_error)?;
    }
    Ok(())
}

fn report(progress: &Function) -> impl FnMut(u64, u64) {
    |done, total| {
        // What a callback throws is no reason to stop loading.
        let _ = progress.call2(&JsValue::NULL, &(done as f64).into(), &(total as f64).into());
    }
}
