//! Raw rows into the packed layout.

use super::{Dot, Ints};
use crate::backend::cpu::simd::ROWS;
use crate::backend::cpu::simd::formats::Quantized;
use crate::num::half::f16_to_f32;

impl<F: Quantized, D: Dot> Ints<F, D> {
    pub(super) fn pack_group(rows: &[&[u8]; ROWS], out: &mut [u8]) {
        let raw_bytes = F::FORMAT.block_bytes();
        let whole = Self::HEAD_BYTES + Self::SUBS * Self::BLOCK_BYTES;
        for (i, out) in out.chunks_exact_mut(whole).enumerate() {
            let raw: [&[u8]; ROWS] = rows.map(|row| &row[i * raw_bytes..][..raw_bytes]);
            let (head, blocks) = out.split_at_mut(Self::HEAD_BYTES);
            for (r, raw) in raw.iter().enumerate() {
                let (scale, min) = F::head(raw);
                for (half, place) in [scale, min].into_iter().zip(head.chunks_exact_mut(32)) {
                    place[4 * r..][..4].copy_from_slice(&f16_to_f32(half).to_le_bytes());
                }
            }
            for (sub, block) in blocks.chunks_exact_mut(Self::BLOCK_BYTES).enumerate() {
                Self::pack_block(&raw, sub, block);
            }
        }
    }

    fn pack_block(raw: &[&[u8]; ROWS], sub: usize, out: &mut [u8]) {
        let (scales, codes) = out.split_at_mut(Self::SCALE_BYTES);
        for (r, raw) in raw.iter().enumerate() {
            for part in 0..Self::PARTS {
                let (scale, min) = F::scales(raw, sub, part);
                if Self::HALVES {
                    scales[2 * r..][..2].copy_from_slice(&scale.to_le_bytes());
                    if Self::HAS_MIN {
                        scales[16 + 2 * r..][..2].copy_from_slice(&min.to_le_bytes());
                    }
                } else {
                    scales[8 * part + r] = scale as u8;
                    if Self::HAS_MIN {
                        scales[8 + r] = min as u8;
                    }
                }
            }
        }
        if F::HIGH == 4 {
            for q in 0..8 {
                for (r, raw) in raw.iter().enumerate() {
                    let quad = F::quad(raw, sub, q).to_le_bytes();
                    for (i, code) in quad.into_iter().enumerate() {
                        codes[Self::byte_at(q, r, i)] = code.wrapping_add(Self::BYTE_ZERO);
                    }
                }
            }
            return;
        }
        let (codes, rest) = codes.split_at_mut(128);
        rest.fill(0);
        for q in 0..8 {
            for r in 0..4 {
                let upper = F::quad(raw[r + 4], sub, q);
                let low = u32::from_le_bytes([(1 << Self::TOP) - 1; 4]);
                let word = F::quad(raw[r], sub, q) | ((upper & low) << (4 + F::HIGH));
                codes[16 * q + 4 * r..][..4].copy_from_slice(&word.to_le_bytes());
                if F::HIGH > 0 {
                    let bits = ((upper & !low) >> Self::TOP) << (Self::REST * (q % Self::REST_QUADS));
                    let place = &mut rest[16 * (q / Self::REST_QUADS) + 4 * r..][..4];
                    for (place, bits) in place.iter_mut().zip(bits.to_le_bytes()) {
                        *place |= bits;
                    }
                }
            }
        }
    }

    /// Where a block of whole bytes has that of column 4q + i of row r.
    pub(super) fn byte_at(q: usize, r: usize, i: usize) -> usize {
        let half = 32 * q + 16 * (r / 4);
        half + if Self::PAIRED { 8 * (i % 2) + 2 * (r % 4) + i / 2 } else { 4 * (r % 4) + i }
    }
}
