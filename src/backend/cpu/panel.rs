//! Panel: the activations of a batch as the kernels read them, made once for all matrices of a fused group.
//!
//! Tokens stand in groups of 4, then 2, then 1. Within a group of T tokens everything is interleaved: the n-th four bytes
//! of token t at `n * T + t`, block b (columns 32b..32b+32) at `b * T + t`.

use crate::Result;
use crate::backend::cpu::memory::reserve;
use crate::num::v128::*;

/// What a kernel reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    F32,
    /// int8 per 32 columns.
    I8,
    /// The same numbers as i16; of four columns first the even ones, then the odd ones.
    I16,
}

/// 2^112 repairs the exponent of a half whose bits were only shifted into an f32.
pub const HALF_BIAS: f32 = f32::from_bits((127 + 112) << 23);

#[derive(Default)]
pub struct Panel {
    pub tokens: usize,
    pub cols: usize,
    floats: Vec<f32>,
    scale: Vec<f32>,
    scaled_sum: Vec<f32>,
    half_scale: Vec<f32>,
    half_scaled_sum: Vec<f32>,
    i8: Ints,
    i16: Ints,
    /// Where the products unpack weights.
    scratch: Vec<u8>,
}

/// Quantized columns and, for the zero points, their negated sums over 16 and over 32 columns, as the accumulators
/// start: I8: two i16, of columns 0-1 and of 2-3 of all quads; I16: one i32.
#[derive(Default)]
struct Ints {
    data: Vec<u8>,
    minus_sum16: Vec<u32>,
    minus_sum32: Vec<u32>,
}

/// One group of tokens, for the kernels.
#[derive(Clone, Copy)]
pub struct Group {
    pub data: *const u8,
    pub scale: *const f32,
    pub scaled_sum: *const f32,
    pub half_scale: *const f32,
    pub half_scaled_sum: *const f32,
    pub minus_sum16: *const u32,
    pub minus_sum32: *const u32,
}

/// (first token, size) of each group.
pub fn groups(tokens: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut first = 0;
    std::iter::from_fn(move || {
        let size = match tokens - first {
            0 => return None,
            1 => 1,
            2 | 3 => 2,
            _ => 4,
        };
        first += size;
        Some((first - size, size))
    })
}

impl Panel {
    /// `rows`: `[tokens, cols]`. Only the forms in `inputs` are made.
    pub fn fill(&mut self, rows: &[f32], tokens: usize, cols: usize, inputs: &[Input]) -> Result<()> {
        assert_eq!(rows.len(), tokens * cols);
        (self.tokens, self.cols) = (tokens, cols);
        if inputs.contains(&Input::F32) {
            resize(&mut self.floats, tokens * cols)?;
            for (first, size) in groups(tokens) {
                let group = &mut self.floats[first * cols..][..size * cols];
                if size == 1 {
                    group.copy_from_slice(&rows[first * cols..][..cols]);
                    continue;
                }
                for t in 0..size {
                    let row = &rows[(first + t) * cols..][..cols];
                    for (out, &x) in group[t..].iter_mut().step_by(size).zip(row) {
                        *out = x;
                    }
                }
            }
        }
        let (need_i8, need_i16) = (inputs.contains(&Input::I8), inputs.contains(&Input::I16));
        if need_i8 || need_i16 {
            assert_eq!(cols % 32, 0, "quantized rows are whole blocks");
            let blocks = tokens * cols / 32;
            for floats in [&mut self.scale, &mut self.scaled_sum, &mut self.half_scale, &mut self.half_scaled_sum] {
                resize(floats, blocks)?;
            }
            for (ints, needed, bytes) in [(&mut self.i8, need_i8, 1), (&mut self.i16, need_i16, 2)] {
                if needed {
                    resize(&mut ints.data, tokens * cols * bytes)?;
                    resize(&mut ints.minus_sum16, blocks * 2)?;
                    resize(&mut ints.minus_sum32, blocks)?;
                }
            }
            for (first, size) in groups(tokens) {
                for t in 0..size {
                    let row = &rows[(first + t) * cols..][..cols];
                    self.quantize(row, first, size, t, need_i8, need_i16);
                }
            }
        }
        Ok(())
    }

    fn quantize(&mut self, row: &[f32], first: usize, size: usize, t: usize, need_i8: bool, need_i16: bool) {
        let base = first * self.cols / 32;
        let ones = i32x4_splat(0x0001_0001);
        for (b, block) in row.chunks_exact(32).enumerate() {
            // SAFETY: `block` is 32 floats.
            let x: [v128; 8] = std::array::from_fn(|i| unsafe { v128_load(block[4 * i..][..4].as_ptr().cast()) });
            let mut max = f32x4_abs(x[0]);
            for &x in &x[1..] {
                max = f32x4_max(max, f32x4_abs(x));
            }
            let max = f32x4_greatest(max);
            let inverse = f32x4_splat(if max > 0.0 { 127.0 / max } else { 0.0 });
            let q = |i: usize| f32x4_round_i32x4(f32x4_mul(x[i], inverse)).1;
            let q: [v128; 4] = std::array::from_fn(|i| i16x8_narrow_i32x4(q(2 * i), q(2 * i + 1)));
            // Sums of columns (0-1, 2-3) of the quads, over each half of the block.
            let pairs: [[i32; 2]; 2] = std::array::from_fn(|half| {
                let s = i32x4_add(i32x4_dot_i16x8(q[2 * half], ones), i32x4_dot_i16x8(q[2 * half + 1], ones));
                [
                    i32x4_extract_lane::<0>(s) + i32x4_extract_lane::<2>(s),
                    i32x4_extract_lane::<1>(s) + i32x4_extract_lane::<3>(s),
                ]
            });
            let sums = pairs.map(|[a, b]| a + b);

            let at = base + b * size + t;
            let scale = max / 127.0;
            let scaled_sum = scale * (sums[0] + sums[1]) as f32;
            self.scale[at] = scale;
            self.scaled_sum[at] = scaled_sum;
            self.half_scale[at] = scale * HALF_BIAS;
            self.half_scaled_sum[at] = scaled_sum * HALF_BIAS;

            let at16 = base * 2 + b * 2 * size + t;
            if need_i8 {
                let packed = |[a, b]: [i32; 2]| u32::from((-a) as u16) | (u32::from((-b) as u16) << 16);
                self.i8.minus_sum16[at16] = packed(pairs[0]);
                self.i8.minus_sum16[at16 + size] = packed(pairs[1]);
                self.i8.minus_sum32[at] = packed([pairs[0][0] + pairs[1][0], pairs[0][1] + pairs[1][1]]);
                let mut bytes = [0; 32];
                // SAFETY: `bytes` is two vectors.
                unsafe {
                    v128_store(bytes.as_mut_ptr(), i8x16_narrow_i16x8(q[0], q[1]));
                    v128_store(bytes[16..].as_mut_ptr(), i8x16_narrow_i16x8(q[2], q[3]));
                }
                scatter(&mut self.i8.data[base * 32..], &bytes, b, size, t);
            }
            if need_i16 {
                self.i16.minus_sum16[at16] = -sums[0] as u32;
                self.i16.minus_sum16[at16 + size] = -sums[1] as u32;
                self.i16.minus_sum32[at] = -(sums[0] + sums[1]) as u32;
                let mut bytes = [0; 64];
                for (bytes, &q) in bytes.chunks_exact_mut(16).zip(&q) {
                    // SAFETY: 16 bytes.
                    unsafe { v128_store(bytes.as_mut_ptr(), i16x8_even_odd(q)) };
                }
                scatter(&mut self.i16.data[base * 64..], &bytes, b, size, t);
            }
        }
    }

    pub fn group(&self, input: Input, first: usize) -> Group {
        let base = first * self.cols / 32;
        let ints = if input == Input::I16 { &self.i16 } else { &self.i8 };
        if input == Input::F32 {
            let none = std::ptr::null();
            return Group {
                data: self.floats[first * self.cols..].as_ptr().cast(),
                scale: none,
                scaled_sum: none,
                half_scale: none,
                half_scaled_sum: none,
                minus_sum16: std::ptr::null(),
                minus_sum32: std::ptr::null(),
            };
        }
        Group {
            data: ints.data[base * if input == Input::I16 { 64 } else { 32 }..].as_ptr(),
            scale: self.scale[base..].as_ptr(),
            scaled_sum: self.scaled_sum[base..].as_ptr(),
            half_scale: self.half_scale[base..].as_ptr(),
            half_scaled_sum: self.half_scaled_sum[base..].as_ptr(),
            minus_sum16: ints.minus_sum16[base * 2..].as_ptr(),
            minus_sum32: ints.minus_sum32[base..].as_ptr(),
        }
    }

    /// `len` bytes for a product to unpack weights into; to be given back.
    pub fn take_scratch(&mut self, len: usize) -> Vec<u8> {
        let mut scratch = std::mem::take(&mut self.scratch);
        if scratch.len() < len {
            scratch.resize(len, 0);
        }
        scratch
    }

    pub fn give_scratch(&mut self, scratch: Vec<u8>) {
        self.scratch = scratch;
    }

    /// Of a panel that has held `tokens` rows of these widths, each in its form.
    pub fn bytes_of(tokens: usize, inputs: &[(Input, usize)]) -> u64 {
        let widest = |wanted: &[Input]| {
            inputs.iter().filter(|(input, _)| wanted.contains(input)).map(|(_, cols)| *cols).max().unwrap_or(0)
        };
        let blocks = |cols: usize| tokens * cols / 32;
        let ints = |input, bytes| {
            let cols = widest(&[input]);
            tokens * cols * bytes + 4 * 3 * blocks(cols)
        };
        let floats = 4 * tokens * widest(&[Input::F32]);
        let scales = 4 * 4 * blocks(widest(&[Input::I8, Input::I16]));
        (floats + scales + ints(Input::I8, 1) + ints(Input::I16, 2)) as u64
    }

    pub fn bytes(&self) -> u64 {
        let floats = self.floats.capacity()
            + self.scale.capacity()
            + self.scaled_sum.capacity()
            + self.half_scale.capacity()
            + self.half_scaled_sum.capacity();
        let ints = |i: &Ints| i.data.capacity() + 4 * (i.minus_sum16.capacity() + i.minus_sum32.capacity());
        (floats * 4 + ints(&self.i8) + ints(&self.i16) + self.scratch.capacity()) as u64
    }
}

/// One block of one token to its interleaved place, four bytes at a time.
fn scatter<const BYTES: usize>(group: &mut [u8], bytes: &[u8; BYTES], block: usize, size: usize, t: usize) {
    let place = &mut group[block * BYTES * size..][..BYTES * size];
    if size == 1 {
        place.copy_from_slice(bytes);
        return;
    }
    for (place, four) in place.chunks_exact_mut(4 * size).zip(bytes.chunks_exact(4)) {
        place[4 * t..][..4].copy_from_slice(four);
    }
}

fn resize<T: Copy + Default>(v: &mut Vec<T>, len: usize) -> Result<()> {
    if v.len() < len {
        reserve(v, len - v.len(), "a batch's activations")?;
        v.resize(len, T::default());
    }
    Ok(())
}
