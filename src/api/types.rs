//! What crosses into JavaScript, and how errors do.

use crate::backend::webgpu::GpuOptions;
use crate::generate::GenerateOptions;
use crate::model::memory;
use crate::session::{LoadOptions, Request};
use crate::text::Message;
use crate::text::chat_template::Arguments;
use crate::{Error, ErrorCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = performance)]
    fn now() -> f64;
}

/// Milliseconds.
fn clock() -> f64 {
    now()
}

/// The visitor's.
fn wall_clock() -> Option<i64> {
    let now = js_sys::Date::new_0();
    // Minutes that local time is behind UTC, summer time included.
    Some((now.get_time() / 1e3 - now.get_timezone_offset() * 60.0).floor() as i64)
}

/// What `pkg/src/loader.ts` asks for: one backend, "auto" being its own business.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JsLoadOptions {
    #[serde(default)]
    context_length: Option<usize>,
    #[serde(default)]
    kv_int8: bool,
    #[serde(default)]
    chat_template: Option<String>,
    /// Bytes that the heap can have, where it is less than wasm32 can address.
    #[serde(default)]
    heap_limit: Option<u64>,
    #[serde(default)]
    pub backend: JsBackend,
    /// What JavaScript knows of the GPU.
    #[serde(default)]
    pub gpu: GpuOptions,
    /// Measure which variants of its kernels are fastest.
    #[serde(default)]
    tune: bool,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JsBackend {
    #[default]
    Cpu,
    WebGpu,
}

impl JsLoadOptions {
    pub fn gpu(&self) -> GpuOptions {
        GpuOptions { tune: self.tune, clock: Some(clock), ..self.gpu.clone() }
    }

    pub fn session(&self) -> LoadOptions {
        let context_length = self.context_length;
        let memory_limit = self.heap_limit.map(memory::limit_of_heap).or_else(memory::default_limit);
        let chat_template = self.chat_template.clone();
        LoadOptions { context_length, kv_int8: self.kv_int8, chat_template, clock, wall_clock, memory_limit }
    }
}

/// `EngineRequest` of pkg/src/protocol.ts. The options stand apart because serde cannot flatten maps keyed by numbers.
#[derive(Deserialize)]
pub struct JsRequest {
    #[serde(default)]
    messages: Option<Vec<Message>>,
    #[serde(default)]
    tools: Option<Value>,
    #[serde(default)]
    prompt: Option<String>,
    #[serde(default)]
    suffix: Option<String>,
    #[serde(default)]
    chat_template_kwargs: Arguments,
    #[serde(default)]
    reasoning_effort: Option<String>,
    #[serde(default)]
    prediction: Option<String>,
    #[serde(default)]
    continue_final_message: bool,
    options: GenerateOptions,
}

impl From<JsRequest> for Request {
    fn from(request: JsRequest) -> Self {
        Request {
            messages: request.messages,
            tools: request.tools,
            prompt: request.prompt,
            suffix: request.suffix,
            chat_template_kwargs: request.chat_template_kwargs,
            reasoning_effort: request.reasoning_effort,
            prediction: request.prediction,
            continue_final_message: request.continue_final_message,
            options: request.options,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JsMemory {
    pub weights: f64,
    pub kv_cache: f64,
    pub scratch: f64,
}

#[derive(Serialize)]
pub struct JsEmbedding {
    pub embedding: Vec<f32>,
    pub tokens: usize,
}

#[derive(Serialize)]
struct JsError {
    code: ErrorCode,
    message: String,
    details: Value,
}

/// A plain object `{ code, message, details }`: what the worker tells apart from a crash.
pub fn to_error(error: Error) -> JsValue {
    let details = match &error {
        Error::Truncated { what, need, have } => json!({ "what": what, "need": need, "have": have }),
        Error::Corrupt { what, offset } => json!({ "what": what, "offset": offset }),
        Error::UnsupportedArchitecture { name, supported } => json!({ "name": name, "supported": supported }),
        Error::UnsupportedType { tensor, format } => json!({ "tensor": tensor, "format": format }),
        Error::MissingTensor { name, architecture } => json!({ "name": name, "architecture": architecture }),
        Error::WrongShape { name, found, expected } => json!({ "name": name, "found": found, "expected": expected }),
        Error::Metadata { key, .. } => json!({ "key": key }),
        Error::ContextExceeded { prompt, context } => json!({ "promptTokens": prompt, "contextLength": context }),
        Error::OutOfMemory { what, need_bytes, available_bytes, .. } => {
            json!({ "what": what, "needBytes": need_bytes, "availableBytes": available_bytes })
        }
        Error::Integrity { expected, found } => json!({ "expected": expected, "found": found }),
        _ => json!({}),
    };
    to_js(&JsError { code: error.code(), message: error.to_string(), details })
}

/// Plain objects, not Maps.
pub fn to_js(value: &impl Serialize) -> JsValue {
    let serializer = serde_wasm_bindgen::Serializer::json_compatible();
    value.serialize(&serializer).unwrap_or(JsValue::NULL)
}

/// JSON from our own TypeScript, which has checked it; what is still wrong is said as BAD_REQUEST.
pub fn from_json<T: for<'a> Deserialize<'a>>(json: &str) -> Result<T, JsValue> {
    serde_json::from_str(json).map_err(|e| to_error(Error::BadRequest(format!("the request cannot be read: {e}"))))
}
