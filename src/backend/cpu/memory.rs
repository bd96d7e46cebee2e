//! Allocation that fails with an error instead of an abort, and memory in whole cache lines.

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

/// A cache line. In an array of them no vector lies across two, if it stands at a multiple of 16 bytes.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct Line([u8; 64]);

impl Default for Line {
    fn default() -> Self {
        Line([0; 64])
    }
}

pub fn bytes_of(lines: &[Line]) -> &[u8] {
    // SAFETY: a Line is plain bytes.
    unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), size_of_val(lines)) }
}

pub fn bytes_of_mut(lines: &mut [Line]) -> &mut [u8] {
    // SAFETY: as above.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), size_of_val(lines)) }
}
