//! The wasm-bindgen face: what `pkg/src/worker.ts` calls.

#[cfg(target_arch = "wasm32")]
mod heap;
mod types;
mod wasm;

pub use wasm::Engine;
