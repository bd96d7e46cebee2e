//! Time that passes. wasm32-unknown-unknown has no clock of its own; there the page lends one.

/// Milliseconds from any fixed moment on.
pub type Clock = fn() -> f64;

/// The platform's own.
#[cfg(not(target_arch = "wasm32"))]
pub fn system() -> f64 {
    use std::sync::LazyLock;
    use std::time::Instant;
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed().as_secs_f64() * 1e3
}
