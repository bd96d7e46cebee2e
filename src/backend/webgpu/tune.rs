//! `choose`: THE place where variants are picked.

use super::device::Capabilities;
use super::weights::planes;
use super::wgsl::Permutation;
use crate::formats::Format;

/// How a matrix-vector kernel spreads a matrix over threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Threads of a workgroup.
    pub workgroup: usize,
    /// Threads that share a row; a power of two.
    pub lanes: usize,
    /// Rows that they work on at once: 1, 2 or 4.
    pub rows: usize,
    /// Signed bytes by `dot4I8Packed` rather than floats.
    pub dot: bool,
    pub subgroups: bool,
}

/// Enough workgroups to fill a large GPU.
const WORKGROUPS: usize = 256;

/// For a group of matrices with `rows` outputs and `blocks` of 32 inputs. `least_rows`: what a kernel needs at once.
pub fn choose(
    capabilities: &Capabilities,
    arithmetic: Option<&str>,
    formats: &[Format],
    rows: usize,
    blocks: usize,
    least_rows: usize,
) -> Shape {
    let workgroup = 128;
    // As many lanes as stay busy: a row of 18 blocks keeps 2 or 6 lanes busy, and 32 lanes a little more than half.
    let busy = |lanes: usize| blocks as f64 / (blocks.div_ceil(lanes) * lanes) as f64;
    let most = [32, 16, 8, 4, 2, 1];
    let lanes = most.into_iter().find(|&lanes| busy(lanes) > 0.85).unwrap_or(1).min(32);
    // Within a subgroup lanes need no barrier.
    let subgroups = capabilities.subgroup_size >= 4;
    let lanes = if subgroups { lanes.min(capabilities.subgroup_size as usize) } else { lanes };
    let per_workgroup = workgroup / lanes;
    let fills = |at_once: usize| rows.div_ceil(per_workgroup * at_once) >= WORKGROUPS;
    let at_once = [4, 2, 1].into_iter().find(|&at_once| fills(at_once)).unwrap_or(1).max(least_rows);
    let integers = formats.iter().all(|&format| planes(format).integers);
    let dot = integers && capabilities.packed_dot && arithmetic != Some("f32");
    Shape { workgroup, lanes, rows: at_once, dot, subgroups }
}

impl Shape {
    pub fn rows_per_workgroup(&self) -> usize {
        self.workgroup / self.lanes * self.rows
    }

    pub fn bake(&self, permutation: Permutation) -> Permutation {
        permutation
            .number("WG", self.workgroup)
            .number("LANES", self.lanes)
            .number("RPG", self.rows)
            .number("TILE", 64)
            .flag("MATVEC")
            .flag_if(self.rows >= 2, "RPG2")
            .flag_if(self.rows >= 4, "RPG4")
            .flag_if(self.dot, "DOT")
            .flag_if(self.subgroups, "SUBGROUPS")
    }
}
