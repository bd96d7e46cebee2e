//! The wasm-bindgen faces: what `pkg/src/worker.ts` calls, and, in binaries of their own, what `pkg/src/router/` and
//! `pkg/src/grammar.ts` do.

#[cfg(feature = "web")]
mod constraint;
#[cfg(feature = "grammar-web")]
mod grammar;
#[cfg(all(feature = "web", target_arch = "wasm32"))]
mod heap;
#[cfg(feature = "threads")]
mod pool;
#[cfg(feature = "router-web")]
mod router;
#[cfg(feature = "web")]
mod types;
#[cfg(feature = "web")]
mod wasm;

#[cfg(feature = "grammar-web")]
pub use grammar::{Guide, Vocabulary};
#[cfg(feature = "router-web")]
pub use router::Router;
#[cfg(feature = "web")]
pub use wasm::Engine;
