//! The wasm-bindgen faces: what `pkg/src/worker.ts` calls, and, in a binary of its own, what `pkg/src/router/` does.

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

#[cfg(feature = "router-web")]
pub use router::Router;
#[cfg(feature = "web")]
pub use wasm::Engine;
