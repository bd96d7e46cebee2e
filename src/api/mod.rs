//! The wasm-bindgen face: what `pkg/src/worker.ts` calls.

mod types;
mod wasm;

pub use wasm::Engine;
