//! How matrices lie on the GPU: their planes, by format, and the buffers that they share.
//!
//! The matrices of a fused step share one buffer. Neighbours of one format become one segment, so that a kernel sees one
//! matrix; gate and up of one format alternate row by row. A row has whole blocks of 32 columns. A segment has three
//! planes: `quads` (16 bytes at a time: quants or floats), `high` (the bits beyond the fourth) and `scales`; the layouts are
//! in `shaders/quant/*.wgsl`.

use super::device::{Gpu, buffer_bytes};
use super::wgsl::Permutation;
use crate::Result;
use crate::formats::Format;

/// Columns of a block on the GPU, whatever the format's own.
pub const BLOCK: usize = 32;

/// Elements of a row in whole blocks.
pub fn padded(width: usize) -> usize {
    width.next_multiple_of(BLOCK)
}

/// The GPU's side of a format.
pub struct Planes {
    pub module: &'static str,
    /// Words of 32 bits in a block's quants, and in its high bits.
    quad_words: usize,
    high_words: usize,
    /// Words of a row's scales, of its number of blocks.
    scale_words: fn(usize) -> usize,
    /// Quants that `dot4I8Packed` takes.
    pub integers: bool,
}

/// Half a word a block.
fn halves(blocks: usize) -> usize {
    blocks.div_ceil(2)
}

/// A word a block.
fn pairs(blocks: usize) -> usize {
    blocks
}

/// Five words a super-block of eight.
fn supers(blocks: usize) -> usize {
    blocks.div_ceil(8) * 5
}

pub fn planes(format: Format) -> Planes {
    let (module, quad_words, high_words, scale_words, integers): (_, _, _, fn(usize) -> usize, _) = match format {
        Format::F32 => ("quant/f32", 32, 0, |_| 0, false),
        Format::F16 => ("quant/f16", 16, 0, |_| 0, false),
        Format::BF16 => ("quant/bf16", 16, 0, |_| 0, false),
        Format::Q8_0 => ("quant/q8_0", 8, 0, halves, true),
        Format::Q4_0 => ("quant/q4_0", 4, 0, halves, true),
        Format::Q4_1 => ("quant/q4_1", 4, 0, pairs, true),
        Format::Q5_0 => ("quant/q5_0", 4, 1, halves, true),
        Format::Q5_1 => ("quant/q5_1", 4, 1, pairs, true),
        Format::Q4_K => ("quant/q4_k", 4, 0, supers, true),
        Format::Q5_K => ("quant/q5_k", 4, 1, supers, true),
        Format::Q6_K => ("quant/q6_k", 4, 2, supers, true),
    };
    Planes { module, quad_words, high_words, scale_words, integers }
}

/// One matrix as a kernel sees it.
#[derive(Clone, Debug)]
pub struct Segment {
    pub format: Format,
    pub rows: usize,
    /// Its first row among the group's outputs.
    pub first: usize,
    /// Where its planes begin: in quads, in words, in words.
    pub quads: usize,
    pub high: usize,
    pub scales: usize,
}

/// One buffer of matrices with the same columns.
pub struct Group {
    pub buffer: wgpu::Buffer,
    pub segments: Vec<Segment>,
    pub cols: usize,
    pub blocks: usize,
    /// The first row of the whole tensor, where a matrix is split over several groups.
    pub part_first: usize,
}

impl Group {
    /// `tensors`: format and rows of each.
    pub fn new(gpu: &Gpu, label: &str, tensors: &[(Format, usize)], cols: usize, part_first: usize) -> Result<Group> {
        let (segments, words) = Self::layout(tensors, cols);
        // Offsets are 32-bit words in the shaders.
        let buffer = gpu.buffer(label, 4 * words as u64)?;
        Ok(Group { buffer, segments, cols, blocks: cols.div_ceil(BLOCK), part_first })
    }

    /// The segments, and the words of them all.
    fn layout(tensors: &[(Format, usize)], cols: usize) -> (Vec<Segment>, usize) {
        let blocks = cols.div_ceil(BLOCK);
        let mut segments: Vec<Segment> = Vec::new();
        let mut first = 0;
        for &(format, rows) in tensors {
            match segments.last_mut() {
                Some(last) if last.format == format => last.rows += rows,
                _ => segments.push(Segment { format, rows, first, quads: 0, high: 0, scales: 0 }),
            }
            first += rows;
        }
        let mut words = 0;
        for segment in &mut segments {
            let planes = planes(segment.format);
            segment.quads = words / 4;
            words += segment.rows * blocks * planes.quad_words;
            segment.high = words;
            words += segment.rows * blocks * planes.high_words;
            segment.scales = words;
            words = (words + segment.rows * (planes.scale_words)(blocks)).next_multiple_of(4);
        }
        (segments, words)
    }

    /// Of the buffer of these tensors: format and rows of each.
    pub fn bytes_of(tensors: &[(Format, usize)], cols: usize) -> u64 {
        buffer_bytes(4 * Self::layout(tensors, cols).1 as u64)
    }

    /// Rows of each part of a matrix that is split over several bindings: a multiple of 16, as uploads are.
    pub fn part_rows(format: Format, cols: usize, binding_limit: u64) -> usize {
        (binding_limit / Self::row_bytes(format, cols)) as usize / 16 * 16
    }

    fn row_bytes(format: Format, cols: usize) -> u64 {
        let planes = planes(format);
        let blocks = cols.div_ceil(BLOCK);
        4 * (blocks * (planes.quad_words + planes.high_words) + (planes.scale_words)(blocks)) as u64
    }

    pub fn rows(&self) -> usize {
        self.segments.iter().map(|segment| segment.rows).sum()
    }

    /// Where the planes of its segments are, under the names that the shaders use. `aliases` in their order.
    pub fn bake(&self, mut permutation: Permutation, aliases: &[&'static str]) -> Permutation {
        permutation = permutation.number("BLOCKS", self.blocks).number("COLS", self.cols);
        for (segment, &alias) in self.segments.iter().zip(aliases) {
            permutation = bake_segment(permutation, segment, alias);
        }
        permutation
    }
}

/// One segment as a module.
pub fn bake_segment(permutation: Permutation, segment: &Segment, alias: &'static str) -> Permutation {
    permutation
        .module(alias, planes(segment.format).module)
        .number(format!("{alias}_ROWS"), segment.rows)
        .number(format!("{alias}_FIRST"), segment.first)
        .number(format!("{alias}_QUADS"), segment.quads)
        .number(format!("{alias}_HIGH"), segment.high)
        .number(format!("{alias}_WORDS"), segment.scales)
}
