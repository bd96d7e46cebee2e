//! The packed layout read back one number at a time: for rows of the embedding, and to say plainly what the kernels read.

use super::{Dot, Ints};
use crate::backend::cpu::simd::formats::{Quantized, Scales};
use crate::num::half::f16_to_f32;

impl<F: Quantized, D: Dot> Ints<F, D> {
    pub(super) fn unpack_row(group: &[u8], row: usize, out: &mut [f32]) {
        let whole = Self::HEAD_BYTES + Self::SUBS * Self::BLOCK_BYTES;
        for (packed, out) in group.chunks_exact(whole).zip(out.chunks_exact_mut(32 * Self::SUBS)) {
            let (head, blocks) = packed.split_at(Self::HEAD_BYTES);
            let head: Vec<f32> = head
                .chunks_exact(32)
                .map(|h| f32::from_le_bytes(h[4 * row..][..4].try_into().expect("four bytes")))
                .collect();
            for (block, out) in blocks.chunks_exact(Self::BLOCK_BYTES).zip(out.chunks_exact_mut(32)) {
                for (col, out) in out.iter_mut().enumerate() {
                    let (scale, min) = Self::scale_of(block, &head, row, col / 16);
                    *out = scale * Self::code_of(block, row, col) as f32 - min;
                }
            }
        }
    }

    /// The code less its zero point.
    fn code_of(block: &[u8], row: usize, col: usize) -> i32 {
        let codes = &block[Self::SCALE_BYTES..];
        let (q, i, h, r) = (col / 4, col % 4, row / 4, row % 4);
        if F::HIGH == 4 {
            return (codes[Self::byte_at(q, row, i)].wrapping_sub(Self::BYTE_ZERO) as i8).into();
        }
        let byte = codes[16 * q + 4 * r + i];
        let mut code = if h == 0 { byte & ((1 << (4 + F::HIGH)) - 1) } else { byte >> (4 + F::HIGH) };
        if h == 1 && F::HIGH > 0 {
            let rest = codes[128 + 16 * (q / Self::REST_QUADS) + 4 * r + i] >> (Self::REST * (q % Self::REST_QUADS));
            code |= (rest & ((1 << Self::REST) - 1)) << Self::TOP;
        }
        i32::from(code) - if Self::HAS_MIN { 0 } else { 1 << F::ZERO_SHIFT }
    }

    /// Scale, and what to subtract.
    fn scale_of(block: &[u8], head: &[f32], row: usize, part: usize) -> (f32, f32) {
        let half = |at: usize| f16_to_f32(u16::from_le_bytes([block[at + 2 * row], block[at + 2 * row + 1]]));
        match F::SCALES {
            Scales::Half => (half(0), 0.0),
            Scales::HalfMin => (half(0), -half(16)),
            Scales::SuperMin => (f32::from(block[row]) * head[0], f32::from(block[8 + row]) * head[1]),
            Scales::Super16 => (f32::from(block[8 * part + row] as i8) * head[0], 0.0),
        }
    }
}
