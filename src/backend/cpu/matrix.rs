//! Matrix: a weight tensor packed in groups of eight rows, and its products.

use std::ops::Range;

use super::memory::{Line, bytes_of, bytes_of_mut, reserve};
use super::panel::{Group, Input, Panel, groups};
use super::pool::{Parts, Pool};
use super::simd::{Kernels, ROWS, STREAMS, Streams, kernels};
use crate::formats::Format;
use crate::num::v128::{ByteDot, byte_dot};
use crate::{Error, Result};

/// Unpacked weights that stay in the second-level cache while all tokens pass over them. What fits into the first makes no
/// faster products, and is read from memory in pieces too short for the processor to read ahead.
const STRIP_BYTES: usize = 64 << 10;

/// Packed weights that stay in the first-level cache while a few tokens pass over them.
const FEW_BYTES: usize = 64 << 10;

/// Unpacked groups whose products are made by one call, which has as much to set up as some blocks take.
const TILES: usize = 8;

/// Tokens whose products are made together.
const MOST_AT_ONCE: usize = 4;

/// Batches of no more tokens are multiplied by weights as they stand, which are unpacked for each four tokens: reading them
/// from memory goes on meanwhile, and the sums are bit by bit those of single tokens. Attention splits them over their positions,
/// with the same effect.
pub const FEW: usize = 8;

/// Of as many whole groups as fit, at least one.
fn strip_bytes(group: usize) -> usize {
    (STRIP_BYTES / group).max(1) * group
}

/// Of a row that is quantized.
const BLOCK: usize = 32;

/// So that no vector of it lies across two cache lines.
#[repr(align(16))]
struct Aligned<T>(T);

pub struct Matrix {
    pub format: Format,
    pub rows: usize,
    pub cols: usize,
    group_bytes: usize,
    lines: Vec<Line>,
    /// Raw rows that do not make a group yet.
    tail: Vec<u8>,
    uploaded: usize,
    /// Groups packed.
    groups: usize,
    kernels: &'static Kernels,
}

impl Matrix {
    /// Room for `[rows, cols]`. Errors: [`Error::OutOfMemory`].
    pub fn new(format: Format, rows: usize, cols: usize) -> Result<Matrix> {
        Self::multiplied_by(byte_dot(), format, rows, cols)
    }

    /// As `new`, whatever the engine has; tests compare them.
    pub fn multiplied_by(dot: ByteDot, format: Format, rows: usize, cols: usize) -> Result<Matrix> {
        if rows == 0 || cols == 0 || cols % format.block_len() != 0 {
            return Err(Error::BadRequest(format!(
                "a {} matrix of {rows} rows of {cols} is not possible: rows are whole blocks of {}",
                format.name(),
                format.block_len()
            )));
        }
        let kernels = kernels(format, dot);
        let group_bytes = (kernels.group_bytes)(cols);
        let mut lines = Vec::new();
        let count = Self::lines_of(rows, group_bytes);
        reserve(&mut lines, count, &format!("a {} matrix of {rows} x {cols}", format.name()))?;
        Ok(Matrix { format, rows, cols, group_bytes, lines, tail: Vec::new(), uploaded: 0, groups: 0, kernels })
    }

    /// Packs raw rows; they come in order.
    pub fn upload(&mut self, first_row: usize, bytes: &[u8]) -> Result<()> {
        let row_bytes = self.format.row_bytes(self.cols);
        let count = bytes.len() / row_bytes;
        if bytes.len() % row_bytes != 0 || first_row != self.uploaded || first_row + count > self.rows {
            return Err(Error::BadRequest(format!(
                "rows {first_row}..{} ({} bytes of {row_bytes} a row) cannot follow row {} of {}",
                first_row + count,
                bytes.len(),
                self.uploaded,
                self.rows
            )));
        }
        self.uploaded += count;
        let mut bytes = bytes;
        let group = ROWS * row_bytes;
        if !self.tail.is_empty() {
            let (head, rest) = bytes.split_at(bytes.len().min(group - self.tail.len()));
            self.tail.extend_from_slice(head);
            bytes = rest;
            if self.tail.len() == group {
                let tail = std::mem::take(&mut self.tail);
                self.pack(&tail);
            }
        }
        let mut whole = bytes.chunks_exact(group);
        whole.by_ref().for_each(|group| self.pack(group));
        if !whole.remainder().is_empty() {
            self.tail = whole.remainder().to_vec();
        }
        if self.uploaded == self.rows && !self.tail.is_empty() {
            let mut tail = std::mem::take(&mut self.tail);
            tail.resize(group, 0);
            self.pack(&tail);
        }
        Ok(())
    }

    pub fn is_complete(&self) -> bool {
        self.uploaded == self.rows
    }

    fn lines_of(rows: usize, group_bytes: usize) -> usize {
        (rows.div_ceil(ROWS) * group_bytes).div_ceil(size_of::<Line>())
    }

    /// Of a matrix with `[rows, cols]`: bytes held, what its products read, and the bytes that they unpack into.
    pub fn needs(format: Format, rows: usize, cols: usize) -> (u64, Input, usize) {
        let kernels = kernels(format, byte_dot());
        let lines = Self::lines_of(rows, (kernels.group_bytes)(cols));
        (
            (lines * size_of::<Line>()) as u64,
            kernels.input,
            strip_bytes((kernels.expanded_bytes)(cols)).next_multiple_of(size_of::<Line>()),
        )
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        (self.lines.capacity() * size_of::<Line>()) as u64
    }

    /// What the products read.
    pub fn input(&self) -> Input {
        self.kernels.input
    }

    fn pack(&mut self, raw: &[u8]) {
        let row_bytes = raw.len() / ROWS;
        let rows: [&[u8]; ROWS] = std::array::from_fn(|r| &raw[r * row_bytes..][..row_bytes]);
        let at = self.groups * self.group_bytes;
        self.groups += 1;
        self.lines.resize((at + self.group_bytes).div_ceil(size_of::<Line>()), Line::default());
        let out = &mut bytes_of_mut(&mut self.lines)[at..at + self.group_bytes];
        (self.kernels.pack)(&rows, out);
    }

    fn packed(&self) -> &[u8] {
        bytes_of(&self.lines)
    }

    /// Row `row` as floats.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        let group = &self.packed()[row / ROWS * self.group_bytes..][..self.group_bytes];
        (self.kernels.unpack)(group, row % ROWS, out);
    }

    /// Groups that are given to a thread together: where there are many tokens a strip, which is unpacked at once.
    fn unit(&self, tokens: usize) -> usize {
        let expanded = self.expanded_bytes();
        if tokens > FEW { strip_bytes(expanded) / expanded } else { 1 }
    }

    /// Of a group.
    fn expanded_bytes(&self) -> usize {
        (self.kernels.expanded_bytes)(self.cols)
    }

    fn groups(&self) -> usize {
        self.rows.div_ceil(ROWS)
    }

    /// out[t * self.rows + r] = row r . token t, for the rows of these groups; `expanded` has room for a strip.
    ///
    /// # Safety
    /// Nobody else has these rows of `out`.
    unsafe fn product_of(&self, of: Range<usize>, x: &Panel, expanded: &mut [u8], out: Parts<f32>) {
        let few = x.tokens <= FEW;
        let strip_groups = match x.tokens {
            1 => of.len(),
            _ if few => (FEW_BYTES / self.group_bytes).max(1),
            _ => strip_bytes(self.expanded_bytes()) / self.expanded_bytes(),
        };
        for start in of.clone().step_by(strip_groups.max(1)) {
            let end = of.end.min(start + strip_groups);
            let strip = &self.packed()[start * self.group_bytes..end * self.group_bytes];
            let rows = start * ROWS..self.rows.min(end * ROWS);
            if !few {
                self.expand(strip, expanded);
            }
            for (token, size) in groups(x.tokens) {
                let group = x.group(self.kernels.input, token);
                // SAFETY: the caller's.
                let out = |t: usize| unsafe {
                    let first = (token + t) * self.rows;
                    out.part(first + rows.start..first + rows.end)
                };
                if few || size == 1 {
                    self.multiply_packed(strip, group, size, out);
                } else {
                    self.multiply_expanded(expanded, end - start, group, size, out);
                }
            }
        }
    }

    /// `out(t)`: where the results of the strip's rows stand for token t of the `size` of `x`.
    fn multiply_packed<'a>(&self, strip: &[u8], x: Group, size: usize, out: impl Fn(usize) -> &'a mut [f32]) {
        let groups = strip.len() / self.group_bytes;
        let each = groups.div_ceil(STREAMS);
        let mut totals = Aligned([[0.0; ROWS]; STREAMS * MOST_AT_ONCE]);
        for i in 0..each {
            let count = (groups - i).div_ceil(each);
            let first = strip[i * self.group_bytes..].as_ptr();
            // SAFETY: group i + (count - 1) * each is one of these; the panel has as many columns; there is room for the sums.
            unsafe {
                let groups = Streams { first, apart: each * self.group_bytes, count };
                self.kernels.packed[size / 2](groups, x, self.cols, totals.0.as_mut_ptr().cast());
            }
            for (s, totals) in totals.0.chunks_exact(size).take(count).enumerate() {
                put(totals, i + s * each, &out);
            }
        }
    }

    fn expand(&self, strip: &[u8], expanded: &mut [u8]) {
        for (group, out) in strip.chunks_exact(self.group_bytes).zip(expanded.chunks_exact_mut(self.expanded_bytes())) {
            // SAFETY: a whole group, and the room it needs.
            unsafe { (self.kernels.expand)(group.as_ptr(), self.cols, out.as_mut_ptr()) };
        }
    }

    /// As `multiply_packed`, of the first `count` of these groups and two or four tokens.
    fn multiply_expanded<'a>(
        &self,
        expanded: &[u8],
        count: usize,
        x: Group,
        size: usize,
        out: impl Fn(usize) -> &'a mut [f32],
    ) {
        let mut totals = Aligned([[0.0; ROWS]; TILES * MOST_AT_ONCE]);
        for first in (0..count).step_by(TILES) {
            let some = (count - first).min(TILES);
            let groups = expanded[first * self.expanded_bytes()..].as_ptr();
            // SAFETY: so many whole groups, as many tokens, and room for their sums.
            unsafe { self.kernels.tiles[size / 4](groups, some, x, self.cols, totals.0.as_mut_ptr().cast()) };
            for (i, totals) in totals.0.chunks_exact(size).take(some).enumerate() {
                put(totals, first + i, &out);
            }
        }
    }
}

/// The sums of a group's rows with each token; the last group may have fewer rows.
#[inline(always)]
fn put<'a>(totals: &[[f32; ROWS]], group: usize, out: impl Fn(usize) -> &'a mut [f32]) {
    for (t, sums) in totals.iter().enumerate() {
        let out = &mut out(t)[group * ROWS..];
        match out.first_chunk_mut::<ROWS>() {
            Some(all) => *all = *sums,
            // In wasm a copy of unknown length is a call that takes as long as a hundred products.
            None => out.copy_from_slice(&sums[..out.len()]),
        }
    }
}

/// The products of several matrices with the same panel, each into its own `[tokens, rows]`.
pub fn products<const N: usize>(pool: &mut Pool, x: &mut Panel, of: [(&Matrix, &mut [f32]); N]) -> Result<()> {
    let unit = of.each_ref().map(|(m, _)| m.unit(x.tokens));
    // Where the units of each begin.
    let (mut first, mut units) = ([0; N], 0);
    for (i, (m, _)) in of.iter().enumerate() {
        first[i] = units;
        units += m.groups().div_ceil(unit[i]);
    }
    let least = unit.into_iter().min().unwrap_or(1);
    let part = |given: &Range<usize>, i: usize| {
        let at = |unit_at: usize| unit_at.saturating_sub(first[i]) * unit[i];
        at(given.start)..at(given.end)
    };
    divide_rows(pool, x, of, units, least, part, |_, _| {})
}

/// As [`products`], of matrices with the same number of rows: `then(rows, outs)` follows where the rows of all are there, whole
/// blocks but for the last.
pub fn products_then<const N: usize>(
    pool: &mut Pool,
    x: &mut Panel,
    of: [(&Matrix, &mut [f32]); N],
    then: impl Fn(Range<usize>, &[Parts<f32>; N]) + Sync,
) -> Result<()> {
    let rows = of[0].0.rows;
    assert!(of.iter().all(|(m, _)| m.rows == rows));
    let unit = of.iter().map(|(m, _)| m.unit(x.tokens)).max().unwrap_or(1).next_multiple_of(BLOCK / ROWS);
    let units = of[0].0.groups().div_ceil(unit);
    let part = |given: &Range<usize>, _| given.start * unit..given.end * unit;
    divide_rows(pool, x, of, units, N * unit, part, |given, outs| {
        then(given.start * unit * ROWS..rows.min(given.end * unit * ROWS), outs);
    })
}

/// Gives out `units`, of at least `least` groups; `part(units, i)`: which groups of matrix i they are.
fn divide_rows<const N: usize>(
    pool: &mut Pool,
    x: &mut Panel,
    of: [(&Matrix, &mut [f32]); N],
    units: usize,
    least: usize,
    part: impl Fn(&Range<usize>, usize) -> Range<usize> + Sync,
    then: impl Fn(&Range<usize>, &[Parts<f32>; N]) + Sync,
) -> Result<()> {
    let tokens = x.tokens;
    // Lines of unpacked weights.
    let mut strip = 0;
    for (m, out) in &of {
        assert!(m.is_complete() && x.cols == m.cols && out.len() >= tokens * m.rows);
        if tokens > FEW {
            strip = strip.max(strip_bytes(m.expanded_bytes()).div_ceil(size_of::<Line>()));
        }
    }
    let mut scratch = x.take_scratch(strip * pool.threads())?;
    let strips = Parts::of(&mut scratch);
    let matrices = of.each_ref().map(|(m, _)| *m);
    let outs = of.map(|(_, out)| Parts::of(out));
    let panel = &*x;
    pool.divide(units, least * ROWS * x.cols * tokens, |given, thread| {
        // SAFETY: each thread has a strip of its own.
        let expanded = bytes_of_mut(unsafe { strips.part(thread * strip..(thread + 1) * strip) });
        for (i, m) in matrices.iter().enumerate() {
            let Range { start, end } = part(&given, i);
            let groups = start.min(m.groups())..end.min(m.groups());
            if !groups.is_empty() {
                // SAFETY: groups are given out once, and each has its own rows.
                unsafe { m.product_of(groups, panel, expanded, outs[i]) };
            }
        }
        then(&given, &outs);
    });
    x.give_scratch(scratch);
    Ok(())
}

/// What a group of matrices reads together.
pub fn inputs<const N: usize>(matrices: [&Matrix; N]) -> [Input; N] {
    matrices.map(|m| m.input())
}
