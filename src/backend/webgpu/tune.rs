//! `choose`: THE place where variants are picked; `tune` measures the candidates on the device itself. The result is kept
//! with the model, for one adapter.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::device::Capabilities;
use super::group::{Group, Segment, planes};
use super::wgsl::Permutation;
use crate::formats::Format;

/// How a matrix-vector kernel spreads a matrix over threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Threads of a workgroup.
    pub workgroup: usize,
    /// Threads that share a row; a power of two.
    pub lanes: usize,
    /// Rows that they work on at once: 1, 2 or 4.
    pub rows: usize,
    pub arithmetic: Arithmetic,
    pub subgroups: bool,
}

/// What was measured: kernel, formats and size -> the fastest variant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tuning(BTreeMap<String, Shape>);

impl Tuning {
    fn key(kernel: &str, group: &Group) -> String {
        let formats: Vec<&str> = group.segments.iter().map(|segment| segment.format.name()).collect();
        format!("{kernel} {} {}x{}", formats.join("+"), group.rows(), group.cols)
    }

    pub fn insert(&mut self, kernel: &str, group: &Group, shape: Shape) {
        self.0.insert(Self::key(kernel, group), shape);
    }

    /// A stored result may be of another version or device: what cannot run here is passed over.
    pub fn get(&self, capabilities: &Capabilities, kernel: &str, group: &Group, least_rows: usize) -> Option<Shape> {
        let shape = *self.0.get(&Self::key(kernel, group))?;
        shape.is_possible(capabilities, group, least_rows).then_some(shape)
    }
}

/// Enough workgroups to fill a large GPU.
const WORKGROUPS: usize = 256;

/// For a group of matrices, before anything was measured. `least_rows`: what the kernel needs at once.
pub fn choose(capabilities: &Capabilities, arithmetic: Option<&str>, group: &Group, least_rows: usize) -> Shape {
    let (workgroup, blocks) = (128, group.blocks);
    // As many lanes as stay busy: a row of 18 blocks keeps 2 or 6 lanes busy, and 32 lanes a little more than half.
    let busy = |lanes: usize| blocks as f64 / (blocks.div_ceil(lanes) * lanes) as f64;
    let lanes = LANES.into_iter().rev().find(|&lanes| busy(lanes) > 0.85).unwrap_or(1);
    // Within a subgroup lanes need no barrier.
    let subgroups = capabilities.subgroup_size >= 4;
    let lanes = if subgroups { lanes.min(capabilities.subgroup_size as usize) } else { lanes };
    let per_workgroup = workgroup / lanes;
    let fills = |at_once: usize| group.rows().div_ceil(per_workgroup * at_once) >= WORKGROUPS;
    let rows = [4, 2, 1].into_iter().find(|&rows| fills(rows)).unwrap_or(1).max(least_rows);
    let arithmetic = match arithmetic {
        None | Some("dot") if Arithmetic::Dot.is_possible(capabilities, group) => Arithmetic::Dot,
        Some("f16") if Arithmetic::F16.is_possible(capabilities, group) => Arithmetic::F16,
        _ => Arithmetic::F32,
    };
    Shape { workgroup, lanes, rows, arithmetic, subgroups }
}

const LANES: [usize; 6] = [1, 2, 4, 8, 16, 32];

fn integers(group: &Group) -> bool {
    group.segments.iter().all(|segment| planes(segment.format).integers)
}

/// Variants that differ from `best` in one way, in rounds of the `turn`-th way; none after the last.
pub fn candidates(capabilities: &Capabilities, best: Shape, turn: usize) -> Option<Vec<Shape>> {
    Some(match turn {
        0 => [Arithmetic::Dot, Arithmetic::F16, Arithmetic::F32].map(|arithmetic| Shape { arithmetic, ..best }).into(),
        1 => LANES.iter().map(|&lanes| Shape { lanes, ..best }).collect(),
        2 => [1, 2, 4].iter().map(|&rows| Shape { rows, ..best }).collect(),
        3 => [64, 256].iter().map(|&workgroup| Shape { workgroup, ..best }).collect(),
        4 if capabilities.subgroup_size >= 4 => vec![Shape { subgroups: !best.subgroups, ..best }],
        _ => return None,
    })
}

impl Shape {
    /// Whether it can run on the device at all.
    pub fn is_possible(&self, capabilities: &Capabilities, group: &Group, least_rows: usize) -> bool {
        [64, 128, 256].contains(&self.workgroup)
            && LANES.contains(&self.lanes)
            && [1, 2, 4].contains(&self.rows)
            && self.rows >= least_rows
            && self.arithmetic.is_possible(capabilities, group)
            && (!self.subgroups || self.lanes <= capabilities.subgroup_size as usize)
    }

    pub fn rows_per_workgroup(&self) -> usize {
        self.workgroup / self.lanes * self.rows
    }

    pub fn bake(&self, permutation: Permutation) -> Permutation {
        permutation
            .number("WG", self.workgroup)
            .number("LANES", self.lanes)
            .number("RPG", self.rows)
            .flag("MATVEC")
            .flag_if(self.rows >= 2, "RPG2")
            .flag_if(self.rows >= 4, "RPG4")
            .flag_if(self.arithmetic == Arithmetic::Dot, "DOT")
            .flag_if(self.arithmetic == Arithmetic::F16, "F16")
            .flag_if(self.arithmetic != Arithmetic::F32, "SCALED")
            .flag_if(self.subgroups, "SUBGROUPS")
    }
}

/// What a product multiplies; sums are floats in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arithmetic {
    /// Signed bytes by `dot4I8Packed`.
    Dot,
    /// Halves; of a batch only the weights are such.
    F16,
    F32,
}

impl Arithmetic {
    fn is_possible(self, capabilities: &Capabilities, group: &Group) -> bool {
        match self {
            Arithmetic::Dot => capabilities.packed_dot && integers(group),
            Arithmetic::F16 => capabilities.f16 && group.segments.iter().all(|segment| fit_halves(segment.format)),
            Arithmetic::F32 => true,
        }
    }
}

/// Whether halves hold the format's quants, or its floats.
fn fit_halves(format: Format) -> bool {
    format == Format::F16 || planes(format).integers
}

/// How a kernel multiplies a matrix by a batch; 16 KiB of workgroup memory hold a tile of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    pub arithmetic: Arithmetic,
    pub tokens: usize,
    /// Blocks at a time: as many threads as load them are there.
    step: usize,
    two_scales: bool,
}

/// For one matrix of a group, whose matrices share their inputs.
pub fn choose_tile(capabilities: &Capabilities, arithmetic: Option<&str>, group: &Group, segment: &Segment) -> Tile {
    let two_scales = segment.format == Format::Q6_K;
    match arithmetic {
        None | Some("dot") if Arithmetic::Dot.is_possible(capabilities, group) => {
            Tile { arithmetic: Arithmetic::Dot, tokens: 64, step: 2, two_scales }
        }
        None | Some("dot" | "f16") if capabilities.f16 && fit_halves(segment.format) => {
            Tile { arithmetic: Arithmetic::F16, tokens: 64, step: 1, two_scales }
        }
        _ => Tile { arithmetic: Arithmetic::F32, tokens: 32, step: 1, two_scales },
    }
}

impl Tile {
    pub const ROWS: usize = 64;

    pub fn bake(&self, permutation: Permutation) -> Permutation {
        permutation
            .number("TOKENS", self.tokens)
            .number("STEP", self.step)
            .flag_if(self.arithmetic == Arithmetic::Dot, "DOT")
            .flag_if(self.arithmetic == Arithmetic::F16, "F16")
            .flag_if(self.two_scales, "TWO_SCALES")
    }
}
