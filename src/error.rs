//! The one error type. Each variant carries what a message needs (names, shapes, offsets); its [`ErrorCode`] is
//! stable and survives into JavaScript as `KingletError.code`.

use serde::Serialize;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The stable codes of `api.md`; serialized as `NOT_A_MODEL` and the like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ErrorCode {
    NoSimd,
    NoWebgpu,
    GpuUntrusted,
    DeviceLost,
    OutOfMemory,
    StorageFull,
    NotAModel,
    CorruptFile,
    UnsupportedArchitecture,
    UnsupportedType,
    BadTokenizer,
    BadTemplate,
    BadAdapter,
    BadRequest,
    ContextExceeded,
    DownloadFailed,
    Integrity,
    Aborted,
    EngineCrashed,
    Disposed,
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// The file is not GGUF at all (wrong magic, an HTML error page, safetensors, an unknown version, ...).
    #[error("not a GGUF model: {0}")]
    NotAModel(String),

    /// The file ends before what its header promises.
    #[error("the file is truncated: {what} needs bytes up to {need}, but it ends at {have}; download it again")]
    Truncated { what: String, need: u64, have: u64 },

    /// The header contradicts itself or the limits of the format.
    #[error("the file is corrupt: {what} at byte {offset}; download it again")]
    Corrupt { what: String, offset: u64 },

    #[error("architecture \"{name}\" is not supported; supported are {supported}")]
    UnsupportedArchitecture { name: String, supported: String },

    #[error(
        "tensor {tensor} has the type {format}, which is not supported; use a file in Q4_0, Q8_0, Q4_K_M or F16 instead"
    )]
    UnsupportedType { tensor: String, format: String },

    #[error(
        "the file lacks the tensor {name}, which architecture \"{architecture}\" needs; it may be incomplete or made for another program"
    )]
    MissingTensor { name: String, architecture: String },

    /// Shapes are [rows, columns], the row being contiguous.
    #[error("tensor {name} has the shape {found:?}, expected {expected:?}")]
    WrongShape { name: String, found: Vec<u64>, expected: Vec<u64> },

    #[error("the file's metadata: {key} {problem}")]
    Metadata { key: String, problem: String },

    #[error("the tokenizer cannot be used: {0}")]
    Tokenizer(String),

    #[error("the chat template failed: {0}")]
    Template(String),

    /// A LoRA adapter that cannot be read, or that is not for this model.
    #[error("the adapter cannot be used: {0}")]
    Adapter(String),

    #[error("{0}")]
    BadRequest(String),

    #[error("the prompt has {prompt} tokens, but the context holds {context}; shorten it, or load the model with a contextLength of at least {}", prompt + 1)]
    ContextExceeded { prompt: usize, context: usize },

    /// No adapter, or no device of it: why.
    #[error(
        "WebGPU cannot be used: {0}; use the CPU (backend: \"cpu\", --backend cpu), or a browser and driver with WebGPU"
    )]
    NoWebGpu(String),

    /// The model has something that only the CPU backend does.
    #[error("the GPU backend does not support {0}; use backend \"cpu\"")]
    UnsupportedOnGpu(String),

    /// A kernel's results are not the CPU's, or the device refused it.
    #[error("the GPU is not to be trusted: {0}; use backend \"cpu\"")]
    GpuUntrusted(String),

    #[error("the GPU was lost: {0}")]
    DeviceLost(String),

    #[error("the GPU has too little memory; choose a smaller model or contextLength, or the CPU (backend: \"cpu\")")]
    GpuOutOfMemory,

    /// `advice`: what to choose instead.
    #[error("not enough memory: {what} needs {need_bytes} bytes, {available_bytes} are available; {advice}")]
    OutOfMemory { what: String, need_bytes: u64, available_bytes: u64, advice: String },

    /// Reading the source failed (disk, network).
    #[error("reading the model failed: {0}")]
    Source(String),

    /// Hex digests (SHA-256).
    #[error(
        "the file is not the one expected: its SHA-256 is {found}, not {expected}; download it again, or check where it comes from"
    )]
    Integrity { expected: String, found: String },

    #[error("aborted")]
    Aborted,
}

impl Error {
    pub fn code(&self) -> ErrorCode {
        match self {
            Error::NotAModel(_) => ErrorCode::NotAModel,
            Error::Truncated { .. }
            | Error::Corrupt { .. }
            | Error::MissingTensor { .. }
            | Error::WrongShape { .. }
            | Error::Metadata { .. } => ErrorCode::CorruptFile,
            Error::UnsupportedArchitecture { .. } => ErrorCode::UnsupportedArchitecture,
            Error::UnsupportedType { .. } => ErrorCode::UnsupportedType,
            Error::Tokenizer(_) => ErrorCode::BadTokenizer,
            Error::Template(_) => ErrorCode::BadTemplate,
            Error::Adapter(_) => ErrorCode::BadAdapter,
            Error::BadRequest(_) => ErrorCode::BadRequest,
            Error::ContextExceeded { .. } => ErrorCode::ContextExceeded,
            Error::NoWebGpu(_) | Error::UnsupportedOnGpu(_) => ErrorCode::NoWebgpu,
            Error::GpuUntrusted(_) => ErrorCode::GpuUntrusted,
            Error::DeviceLost(_) => ErrorCode::DeviceLost,
            Error::OutOfMemory { .. } | Error::GpuOutOfMemory => ErrorCode::OutOfMemory,
            Error::Source(_) => ErrorCode::DownloadFailed,
            Error::Integrity { .. } => ErrorCode::Integrity,
            Error::Aborted => ErrorCode::Aborted,
        }
    }
}
