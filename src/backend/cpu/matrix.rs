//! Matrix: a weight tensor packed in groups of eight rows, and its products.

use std::ops::Range;

use super::memory::reserve;
use super::panel::{Group, Input, Panel, groups};
use super::simd::{Kernel, ROWS, with_kernel};
use crate::formats::Format;
use crate::num::v128::{RELAXED, v128, v128_store};
use crate::{Error, Result};

/// Packed weights that should stay in the first-level cache while all tokens pass over them.
const STRIP_BYTES: usize = 16 << 10;

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
        let count = (rows.div_ceil(ROWS) * group_bytes).div_ceil(size_of::<Line>());
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

    /// out[t * stride + r - rows.start] = row r . token t, for `rows` (a whole matrix: `0..self.rows`), which start at a
    /// multiple of eight.
    pub fn product(&self, rows: Range<usize>, x: &Panel, out: &mut [f32], stride: usize) {
        assert!(self.is_complete() && x.cols == self.cols && rows.end <= self.rows && rows.start % ROWS == 0);
        assert!(x.tokens == 0 || out.len() >= (x.tokens - 1) * stride + rows.len() && stride >= rows.len());
        with_kernel!(self.format, self.relaxed, |K| self.product_with::<K>(rows, x, out, stride));
    }

    fn product_with<K: Kernel>(&self, rows: Range<usize>, x: &Panel, out: &mut [f32], stride: usize) {
        let packed = self.packed();
        let strip_rows = (STRIP_BYTES / self.group_bytes).max(1) * ROWS;
        let mut row = rows.start;
        while row < rows.end {
            let end = rows.end.min(row + strip_rows);
            let strip = &packed[row / ROWS * self.group_bytes..end.div_ceil(ROWS) * self.group_bytes];
            for (first, size) in groups(x.tokens) {
                let group = x.group(K::INPUT, first);
                let out = &mut out[first * stride + row - rows.start..];
                // SAFETY: `strip` holds whole groups, `group` as many tokens of as many columns as the call says.
                unsafe {
                    match size {
                        4 => self.strip::<K, 4>(strip, group, end - row, out, stride),
                        2 => self.strip::<K, 2>(strip, group, end - row, out, stride),
                        _ => self.strip::<K, 1>(strip, group, end - row, out, stride),
                    }
                }
            }
            row = end;
        }
    }

    /// # Safety
    /// As of `Kernel::tile`, for all groups of `strip`.
    #[inline(never)]
    unsafe fn strip<K: Kernel, const T: usize>(
        &self,
        strip: &[u8],
        x: Group,
        rows: usize,
        out: &mut [f32],
        stride: usize,
    ) {
        for (g, group) in strip.chunks_exact(self.group_bytes).enumerate() {
            // SAFETY: the caller's.
            let tile: [[v128; 2]; T] = unsafe { K::tile::<T>(group.as_ptr(), x, self.cols) };
            let first = g * ROWS;
            for (t, [low, high]) in tile.into_iter().enumerate() {
                let out = &mut out[t * stride + first..];
                let count = ROWS.min(rows - first);
                let mut last = [0.0; ROWS];
                let place = if count == ROWS { out.as_mut_ptr() } else { last.as_mut_ptr() }.cast::<u8>();
                // SAFETY: eight floats: `count` are left in `out`, or those of `last`.
                unsafe {
                    debug_assert!(out.len() >= count);
                    v128_store(place, low);
                    v128_store(place.add(16), high);
                }
                if count < ROWS {
                    out[..count].copy_from_slice(&last[..count]);
                }
            }
        }
    }
}

/// What a group of matrices reads together.
pub fn inputs<const N: usize>(matrices: [&Matrix; N]) -> [Input; N] {
    matrices.map(|m| m.input())
}
