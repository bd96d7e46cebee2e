//! Panel: the activations of a batch as the kernels read them, made once for all matrices of a fused group.
//!
//! Tokens stand in groups of 4, then 2, then 1. Within a group of T tokens everything is interleaved: the n-th four bytes
//! of token t at `n * T + t`, block b (columns 32b..32b+32) at `b * T + t`.

use super::memory::{Line, reserve};
use super::pool::{Parts, Pool};
use crate::Result;
use crate::num::v128::*;
use std::ops::Range;

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
    minus_sum16: Vec<u32>,
    minus_sum32: Vec<u32>,
    i8: Vec<u8>,
    i16: Vec<u8>,
    /// Where the products unpack weights.
    scratch: Vec<Line>,
}

/// One group of tokens, for the kernels.
#[derive(Clone, Copy)]
pub struct Group {
    pub data: *const u8,
    pub scale: *const f32,
    pub scaled_sum: *const f32,
    pub half_scale: *const f32,
    pub half_scaled_sum: *const f32,
    /// For the zero points the negated sums of the integers over 16 columns: two i16, of columns 0-1 and of 2-3 of all quads.
    pub minus_sum16: *const u32,
    /// Over 32.
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
    /// `row(t)`: the `cols` floats of token `t`. Only the forms in `inputs` are made.
    pub fn fill<'a>(
        &mut self,
        pool: &mut Pool,
        tokens: usize,
        cols: usize,
        inputs: &[Input],
        row: impl Fn(usize) -> &'a [f32] + Sync,
    ) -> Result<()> {
        let forms = self.prepare(tokens, cols, inputs)?;
        // Groups of four, and then the rest.
        pool.divide(tokens.div_ceil(4), 4 * cols * QUANTIZING, |fours, _| {
            for (first, size) in groups(tokens.min(4 * fours.end) - 4 * fours.start) {
                // SAFETY: each group is given out once.
                let mut group = unsafe { forms.group(4 * fours.start + first, size, 0..cols) };
                for t in 0..size {
                    let row = row(4 * fours.start + first + t);
                    assert_eq!(row.len(), cols);
                    group.put(t, row);
                }
            }
        });
        Ok(())
    }

    /// Room for these forms of a batch, whose columns then come by [`Forms::put`].
    pub fn prepare(&mut self, tokens: usize, cols: usize, inputs: &[Input]) -> Result<Forms<'_>> {
        (self.tokens, self.cols) = (tokens, cols);
        let wants = |input| inputs.contains(&input);
        if wants(Input::F32) {
            resize(&mut self.floats, tokens * cols)?;
        }
        if wants(Input::I8) || wants(Input::I16) {
            assert_eq!(cols % 32, 0, "quantized rows are whole blocks");
            let blocks = tokens * cols / 32;
            for floats in [&mut self.scale, &mut self.scaled_sum, &mut self.half_scale, &mut self.half_scaled_sum] {
                resize(floats, blocks)?;
            }
            resize(&mut self.minus_sum16, blocks * 2)?;
            resize(&mut self.minus_sum32, blocks)?;
            for (ints, needed, bytes) in [(&mut self.i8, wants(Input::I8), 1), (&mut self.i16, wants(Input::I16), 2)] {
                if needed {
                    resize(ints, tokens * cols * bytes)?;
                }
            }
        }
        Ok(Forms {
            tokens,
            cols,
            floats: wants(Input::F32).then(|| Parts::of(&mut self.floats)),
            scales: [&mut self.scale, &mut self.scaled_sum, &mut self.half_scale, &mut self.half_scaled_sum]
                .map(|floats| Parts::of(floats)),
            minus_sums: [&mut self.minus_sum16, &mut self.minus_sum32].map(|sums| Parts::of(sums)),
            i8: wants(Input::I8).then(|| Parts::of(&mut self.i8)),
            i16: wants(Input::I16).then(|| Parts::of(&mut self.i16)),
        })
    }

    pub fn group(&self, input: Input, first: usize) -> Group {
        let base = first * self.cols / 32;
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
        let data = if input == Input::I16 { &self.i16[base * 64..] } else { &self.i8[base * 32..] };
        Group {
            data: data.as_ptr(),
            scale: self.scale[base..].as_ptr(),
            scaled_sum: self.scaled_sum[base..].as_ptr(),
            half_scale: self.half_scale[base..].as_ptr(),
            half_scaled_sum: self.half_scaled_sum[base..].as_ptr(),
            minus_sum16: self.minus_sum16[base * 2..].as_ptr(),
            minus_sum32: self.minus_sum32[base..].as_ptr(),
        }
    }

    /// At least so many lines for a product to unpack weights into; to be given back.
    pub fn take_scratch(&mut self, lines: usize) -> Result<Vec<Line>> {
        resize(&mut self.scratch, lines)?;
        Ok(std::mem::take(&mut self.scratch))
    }

    pub fn give_scratch(&mut self, scratch: Vec<Line>) {
        self.scratch = scratch;
    }

    /// Of a panel that has held `tokens` rows of these widths, each in its form.
    pub fn bytes_of(tokens: usize, inputs: &[(Input, usize)]) -> u64 {
        let widest = |wanted: &[Input]| {
            inputs.iter().filter(|(input, _)| wanted.contains(input)).map(|(_, cols)| *cols).max().unwrap_or(0)
        };
        let scales_and_sums = 4 * (4 + 2 + 1) * widest(&[Input::I8, Input::I16]) / 32;
        let columns = 4 * widest(&[Input::F32]) + widest(&[Input::I8]) + 2 * widest(&[Input::I16]);
        (tokens * (columns + scales_and_sums)) as u64
    }

    pub fn bytes(&self) -> u64 {
        let floats = self.floats.capacity()
            + self.scale.capacity()
            + self.scaled_sum.capacity()
            + self.half_scale.capacity()
            + self.half_scaled_sum.capacity();
        let sums = self.minus_sum16.capacity() + self.minus_sum32.capacity();
        let scratch = self.scratch.capacity() * size_of::<Line>();
        (4 * (floats + sums) + self.i8.capacity() + self.i16.capacity() + scratch) as u64
    }
}

/// Multiply-adds that take as long as quantizing one column.
const QUANTIZING: usize = 8;

/// What a panel is made of, while several threads write it.
pub struct Forms<'a> {
    tokens: usize,
    cols: usize,
    floats: Option<Parts<'a, f32>>,
    scales: [Parts<'a, f32>; 4],
    minus_sums: [Parts<'a, u32>; 2],
    i8: Option<Parts<'a, u8>>,
    i16: Option<Parts<'a, u8>>,
}

impl<'a> Forms<'a> {
    /// `row(t)`: these columns of token `t`, whole blocks.
    ///
    /// # Safety
    /// Nobody else has them.
    pub unsafe fn put<'b>(&self, columns: Range<usize>, row: impl Fn(usize) -> &'b [f32]) {
        for (first, size) in groups(self.tokens) {
            // SAFETY: the caller's.
            let mut group = unsafe { self.group(first, size, columns.clone()) };
            (0..size).for_each(|t| group.put(t, row(first + t)));
        }
    }

    /// The places of these columns of the `size` tokens from `first` on.
    ///
    /// # Safety
    /// Nobody else has them.
    unsafe fn group(&self, first: usize, size: usize, columns: Range<usize>) -> GroupMut<'a> {
        let quantized = self.i8.is_some() || self.i16.is_some();
        assert!(!quantized || (columns.start % 32 == 0 && columns.end % 32 == 0), "quantized rows are whole blocks");
        let at = |column: usize| first * self.cols + column * size;
        let columns = at(columns.start)..at(columns.end);
        let blocks = columns.start / 32..columns.end / 32;
        let times = |range: &Range<usize>, n: usize| range.start * n..range.end * n;
        // SAFETY: the caller's.
        unsafe {
            let blocks = if quantized { blocks } else { 0..0 };
            GroupMut {
                size,
                floats: self.floats.map(|floats| floats.part(columns.clone())),
                scales: self.scales.map(|scales| scales.part(blocks.clone())),
                minus_sum16: self.minus_sums[0].part(times(&blocks, 2)),
                minus_sum32: self.minus_sums[1].part(blocks),
                i8: self.i8.map(|data| data.part(columns.clone())),
                i16: self.i16.map(|data| data.part(times(&columns, 2))),
            }
        }
    }
}

/// A group of `size` tokens.
struct GroupMut<'a> {
    size: usize,
    floats: Option<&'a mut [f32]>,
    scales: [&'a mut [f32]; 4],
    minus_sum16: &'a mut [u32],
    minus_sum32: &'a mut [u32],
    i8: Option<&'a mut [u8]>,
    i16: Option<&'a mut [u8]>,
}

impl GroupMut<'_> {
    /// Token `t` of the group.
    fn put(&mut self, t: usize, row: &[f32]) {
        match &mut self.floats {
            Some(floats) if self.size == 1 => floats.copy_from_slice(row),
            Some(floats) => {
                for (out, &x) in floats[t..].iter_mut().step_by(self.size).zip(row) {
                    *out = x;
                }
            }
            None => {}
        }
        if self.i8.is_some() || self.i16.is_some() {
            self.quantize(t, row);
        }
    }

    fn quantize(&mut self, t: usize, row: &[f32]) {
        let size = self.size;
        let [scales, scaled_sums, half_scales, half_scaled_sums] = &mut self.scales;
        let (ones, rounder) = (kept(i32x4_splat(0x0001_0001)), Rounder::kept());
        for (b, block) in row.chunks_exact(32).enumerate() {
            // SAFETY: `block` is 32 floats.
            let x: [v128; 8] = std::array::from_fn(|i| unsafe { v128_load(block[4 * i..][..4].as_ptr().cast()) });
            let mut max = f32x4_abs(x[0]);
            for &x in &x[1..] {
                max = f32x4_max(max, f32x4_abs(x));
            }
            let max = f32x4_greatest(max);
            let inverse = f32x4_splat(if max > 0.0 { 127.0 / max } else { 0.0 });
            let q = |i: usize| rounder.integers(f32x4_mul(x[i], inverse));
            let q: [v128; 4] = std::array::from_fn(|i| i16x8_narrow_i32x4(q(2 * i), q(2 * i + 1)));
            // Sums of columns (0-1, 2-3) of the quads, over each half of the block.
            let pairs: [[i32; 2]; 2] = std::array::from_fn(|half| {
                let s = i32x4_add(i32x4_dot_i16x8(q[2 * half], ones), i32x4_dot_i16x8(q[2 * half + 1], ones));
                [
                    i32x4_extract_lane::<0>(s) + i32x4_extract_lane::<2>(s),
                    i32x4_extract_lane::<1>(s) + i32x4_extract_lane::<3>(s),
                ]
            });
            let sum: i32 = pairs.iter().flatten().sum();

            let at = b * size + t;
            let scale = max / 127.0;
            let scaled_sum = scale * sum as f32;
            scales[at] = scale;
            scaled_sums[at] = scaled_sum;
            half_scales[at] = scale * HALF_BIAS;
            half_scaled_sums[at] = scaled_sum * HALF_BIAS;

            let at16 = b * 2 * size + t;
            let packed = |[a, b]: [i32; 2]| u32::from((-a) as u16) | (u32::from((-b) as u16) << 16);
            self.minus_sum16[at16] = packed(pairs[0]);
            self.minus_sum16[at16 + size] = packed(pairs[1]);
            self.minus_sum32[at] = packed([pairs[0][0] + pairs[1][0], pairs[0][1] + pairs[1][1]]);
            if let Some(data) = &mut self.i8 {
                let mut bytes = [0; 32];
                // SAFETY: `bytes` is two vectors.
                unsafe {
                    v128_store(bytes.as_mut_ptr(), i8x16_narrow_i16x8(q[0], q[1]));
                    v128_store(bytes[16..].as_mut_ptr(), i8x16_narrow_i16x8(q[2], q[3]));
                }
                scatter(data, &bytes, b, size, t);
            }
            if let Some(data) = &mut self.i16 {
                let mut bytes = [0; 64];
                for (bytes, &q) in bytes.chunks_exact_mut(16).zip(&q) {
                    // SAFETY: 16 bytes.
                    unsafe { v128_store(bytes.as_mut_ptr(), i16x8_even_odd(q)) };
                }
                scatter(data, &bytes, b, size, t);
            }
        }
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
