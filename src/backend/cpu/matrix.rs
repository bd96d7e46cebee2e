//! Matrix: a weight tensor packed in groups of eight rows, and its products.

use std::ops::Range;

use super::memory::reserve;
use super::panel::{Group, Input, Panel, groups};
use super::pool::{Parts, Pool};
use super::simd::{Kernel, ROWS, STREAMS, Streams, with_kernel};
use crate::formats::Format;
use crate::num::v128::RELAXED;
use crate::{Error, Result};

/// Unpacked weights that stay in the second-level cache while all tokens pass over them. What fits into the first makes no
/// faster products, and is read from memory in pieces too short for the processor to read ahead.
const STRIP_BYTES: usize = 64 << 10;

/// Packed weights that stay in the first-level cache while a few tokens pass over them.
const FEW_BYTES: usize = 16 << 10;

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

/// A cache line; groups are multiples of 16 bytes.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

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
    relaxed: bool,
}

impl Matrix {
    /// Room for `[rows, cols]`. Errors: [`Error::OutOfMemory`].
    pub fn new(format: Format, rows: usize, cols: usize) -> Result<Matrix> {
        Self::with_flavour(format, rows, cols, RELAXED)
    }

    /// As `new`, with or without the relaxed dot product; tests compare the two.
    pub fn with_flavour(format: Format, rows: usize, cols: usize, relaxed: bool) -> Result<Matrix> {
        if rows == 0 || cols == 0 || cols % format.block_len() != 0 {
            return Err(Error::BadRequest(format!(
                "a {} matrix of {rows} rows of {cols} is not possible: rows are whole blocks of {}",
                format.name(),
                format.block_len()
            )));
        }
        let group_bytes = with_kernel!(format, relaxed, |K| K::group_bytes(cols));
        let mut lines = Vec::new();
        let count = Self::lines_of(rows, group_bytes);
        reserve(&mut lines, count, &format!("a {} matrix of {rows} x {cols}", format.name()))?;
        Ok(Matrix { format, rows, cols, group_bytes, lines, tail: Vec::new(), uploaded: 0, groups: 0, relaxed })
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
        with_kernel!(format, RELAXED, |K| {
            let lines = Self::lines_of(rows, K::group_bytes(cols));
            ((lines * size_of::<Line>()) as u64, K::INPUT, strip_bytes(K::expanded_bytes(cols)))
        })
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        (self.lines.capacity() * size_of::<Line>()) as u64
    }

    /// What the products read.
    pub fn input(&self) -> Input {
        with_kernel!(self.format, self.relaxed, |K| K::INPUT)
    }

    fn pack(&mut self, raw: &[u8]) {
        let row_bytes = raw.len() / ROWS;
        let rows: [&[u8]; ROWS] = std::array::from_fn(|r| &raw[r * row_bytes..][..row_bytes]);
        let at = self.groups * self.group_bytes;
        self.groups += 1;
        self.lines.resize((at + self.group_bytes).div_ceil(size_of::<Line>()), Line([0; 64]));
        let len = self.lines.len() * size_of::<Line>();
        // SAFETY: a Line is 64 plain bytes.
        let packed = unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast::<u8>(), len) };
        let out = &mut packed[at..at + self.group_bytes];
        with_kernel!(self.format, self.relaxed, |K| K::pack(&rows, out));
    }

    fn packed(&self) -> &[u8] {
        // SAFETY: a Line is 64 plain bytes.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.lines.len() * size_of::<Line>()) }
    }

    /// Row `row` as floats.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        let group = &self.packed()[row / ROWS * self.group_bytes..][..self.group_bytes];
        with_kernel!(self.format, self.relaxed, |K| K::unpack(group, row % ROWS, out));
    }

    /// Groups that are given to a thread together: where there are many tokens a strip, which is unpacked at once.
    fn unit(&self, tokens: usize) -> usize {
        let expanded = self.expanded_bytes();
        if tokens > FEW { strip_bytes(expanded) / expanded } else { 1 }
    }

    /// Of a group.
    fn expanded_bytes(&self) -> usize {
        with_kernel!(self.format, self.relaxed, |K| K::expanded_bytes(self.cols))
    }

    fn groups(&self) -> usize {
        self.rows.div_ceil(ROWS)
    }

    /// out[t * self.rows + r] = row r . token t, for the rows of these groups; `expanded` has room for a strip.
    ///
    /// # Safety
    /// Nobody else has these rows of `out`.
    unsafe fn product_of<K: Kernel>(&self, of: Range<usize>, x: &Panel, expanded: &mut [u8], out: Parts<f32>) {
        let few = x.tokens <= FEW;
        let strip_groups = match x.tokens {
            1 => of.len(),
            _ if few => (FEW_BYTES / self.group_bytes).max(1),
            _ => strip_bytes(K::expanded_bytes(self.cols)) / K::expanded_bytes(self.cols),
        };
        for start in of.clone().step_by(strip_groups.max(1)) {
            let end = of.end.min(start + strip_groups);
            let strip = &self.packed()[start * self.group_bytes..end * self.group_bytes];
            let rows = start * ROWS..self.rows.min(end * ROWS);
            if !few {
                self.expand::<K>(strip, expanded);
            }
            for (token, size) in groups(x.tokens) {
                let group = x.group(K::INPUT, token);
                // SAFETY: the caller's.
                unsafe {
                    match size {
                        4 if few => self.few_tokens::<K, 4>(strip, group, token, &rows, out),
                        2 if few => self.few_tokens::<K, 2>(strip, group, token, &rows, out),
                        4 => self.tiles::<K, 4>(expanded, group, token, &rows, out),
                        2 => self.tiles::<K, 2>(expanded, group, token, &rows, out),
                        _ => self.one_token::<K>(strip, group, self.place(token, &rows, out)),
                    }
                }
            }
        }
    }

    /// Where the results of these rows for one token stand.
    ///
    /// # Safety
    /// As for [`Parts::part`].
    unsafe fn place<'a>(&self, token: usize, rows: &Range<usize>, out: Parts<'a, f32>) -> &'a mut [f32] {
        unsafe { out.part(token * self.rows + rows.start..token * self.rows + rows.end) }
    }

    #[inline(never)]
    fn one_token<K: Kernel>(&self, strip: &[u8], x: Group, out: &mut [f32]) {
        let groups = strip.len() / self.group_bytes;
        let each = groups.div_ceil(STREAMS);
        for i in 0..each {
            let count = (groups - i).div_ceil(each);
            let mut totals = [[0.0; ROWS]; STREAMS];
            let first = strip[i * self.group_bytes..].as_ptr();
            // SAFETY: group i + (count - 1) * each is one of these; the panel has as many columns; there is room for the sums.
            unsafe {
                let groups = Streams { first, apart: each * self.group_bytes, count };
                K::one_token(groups, x, self.cols, totals.as_mut_ptr().cast());
            }
            for (s, total) in totals[..count].iter().enumerate() {
                let rows = (i + s * each) * ROWS;
                let end = out.len().min(rows + ROWS);
                put(total, &mut out[rows..end]);
            }
        }
    }

    /// # Safety
    /// Nobody else has these rows of `out`.
    #[inline(never)]
    unsafe fn few_tokens<K: Kernel, const T: usize>(
        &self,
        strip: &[u8],
        x: Group,
        token: usize,
        rows: &Range<usize>,
        out: Parts<f32>,
    ) {
        let groups = strip.chunks_exact(self.group_bytes);
        // SAFETY: a whole group, T tokens, and room for their sums; the rest is the caller's.
        unsafe {
            self.each_group::<T>(groups, token, rows, out, |group, total| {
                K::few_tokens::<T>(group, x, self.cols, total)
            })
        }
    }

    #[inline(never)]
    fn expand<K: Kernel>(&self, strip: &[u8], expanded: &mut [u8]) {
        let bytes = K::expanded_bytes(self.cols);
        for (group, out) in strip.chunks_exact(self.group_bytes).zip(expanded.chunks_exact_mut(bytes)) {
            // SAFETY: a whole group, and the room it needs.
            unsafe { K::expand(group.as_ptr(), self.cols, out.as_mut_ptr()) };
        }
    }

    /// # Safety
    /// Nobody else has these rows of `out`.
    #[inline(never)]
    unsafe fn tiles<K: Kernel, const T: usize>(
        &self,
        expanded: &[u8],
        x: Group,
        token: usize,
        rows: &Range<usize>,
        out: Parts<f32>,
    ) {
        let groups = expanded.chunks_exact(K::expanded_bytes(self.cols));
        // SAFETY: a whole group, T tokens, and room for their sums; the rest is the caller's.
        unsafe {
            self.each_group::<T>(groups, token, rows, out, |group, total| K::tile::<T>(group, x, self.cols, total))
        }
    }

    /// `sums(group, total)` makes those of a group's rows with T tokens, `[T][ROWS]`.
    ///
    /// # Safety
    /// Nobody else has these rows of `out`.
    #[inline(always)]
    unsafe fn each_group<'a, const T: usize>(
        &self,
        groups: impl Iterator<Item = &'a [u8]>,
        token: usize,
        rows: &Range<usize>,
        out: Parts<f32>,
        sums: impl Fn(*const u8, *mut u8),
    ) {
        for (group, first) in groups.zip(rows.clone().step_by(ROWS)) {
            let mut total = [[0.0; ROWS]; T];
            sums(group.as_ptr(), total.as_mut_ptr().cast());
            let rows = first..rows.end.min(first + ROWS);
            for (t, total) in total.iter().enumerate() {
                // SAFETY: the caller's.
                put(total, unsafe { self.place(token + t, &rows, out) });
            }
        }
    }
}

/// The sums of a group's rows, of which the last group may have fewer.
#[inline(always)]
fn put(sums: &[f32; ROWS], out: &mut [f32]) {
    match <&mut [f32; ROWS]>::try_from(&mut *out) {
        Ok(all) => *all = *sums,
        // In wasm a copy of unknown length is a call that takes as long as a hundred products.
        Err(_) => out.copy_from_slice(&sums[..out.len()]),
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
    let mut strip = 0;
    for (m, out) in &of {
        assert!(m.is_complete() && x.cols == m.cols && out.len() >= tokens * m.rows);
        if tokens > FEW {
            strip = strip.max(strip_bytes(m.expanded_bytes()));
        }
    }
    let mut scratch = x.take_scratch(strip * pool.threads())?;
    let strips = Parts::of(&mut scratch);
    let matrices = of.each_ref().map(|(m, _)| *m);
    let outs = of.map(|(_, out)| Parts::of(out));
    let panel = &*x;
    pool.divide(units, least * ROWS * x.cols * tokens, |given, thread| {
        // SAFETY: each thread has a strip of its own.
        let expanded = unsafe { strips.part(thread * strip..(thread + 1) * strip) };
        for (i, m) in matrices.iter().enumerate() {
            let Range { start, end } = part(&given, i);
            let groups = start.min(m.groups())..end.min(m.groups());
            if !groups.is_empty() {
                // SAFETY: groups are given out once, and each has its own rows.
                with_kernel!(m.format, m.relaxed, |K| unsafe { m.product_of::<K>(groups, panel, expanded, outs[i]) });
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
