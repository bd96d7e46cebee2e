//! Kinglet runs small language models from GGUF files, in a web page and natively.
//!
//! Data takes one way through the crate, and a floor imports only lower floors:
//!
//! ```text
//! bytes -> Checkpoint -> Weights -> forward -> logits -> Sampler -> text -> Session -> JavaScript
//! source   formats       backend    model      generate             text    session    api
//! ```

#![cfg_attr(all(target_arch = "wasm32", target_feature = "atomics"), feature(stdarch_wasm_atomic_wait))]

pub mod clock;
pub mod error;
pub mod num;

pub mod source;

pub mod formats;
pub mod text;

pub mod backend;

pub mod model;

pub mod generate;

#[cfg(feature = "grammar")]
pub mod grammar;

pub mod session;

pub mod router;

#[cfg(any(feature = "web", feature = "router-web", feature = "grammar-web"))]
pub mod api;

pub use error::{Error, ErrorCode, Result};
