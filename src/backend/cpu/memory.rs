//! Allocation that fails with an error instead of an abort.

use crate::{Error, Result};

/// Room for exactly `additional` more elements.
pub fn reserve<T>(v: &mut Vec<T>, additional: usize, what: &str) -> Result<()> {
    v.try_reserve_exact(additional).map_err(|_| Error::OutOfMemory {
        what: what.to_string(),
        need_bytes: additional as u64 * size_of::<T>() as u64,
        available_bytes: available(),
        advice: "choose a smaller model, a smaller quantization (Q4_0, Q4_K_M) or a shorter contextLength".to_string(),
    })
}

/// A zeroed vector.
pub fn zeros<T: Clone + Default>(len: usize, what: &str) -> Result<Vec<T>> {
    let mut v = Vec::new();
    reserve(&mut v, len, what)?;
    v.resize(len, T::default());
    Ok(v)
}

/// How far the heap can still grow; 0 where that is unknown.
fn available() -> u64 {
    #[cfg(target_arch = "wasm32")]
    return (1 << 32) - core::arch::wasm32::memory_size(0) as u64 * 65536;
    #[cfg(not(target_arch = "wasm32"))]
    0
}
