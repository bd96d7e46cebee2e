//! Packed matrices' block kernels, and THE place that maps a format to its kernel.
//!
//! Packing interleaves eight rows, which make a group: a vector's lanes are rows, so that no sum runs across lanes and
//! one activation serves eight weights.

pub mod floats;
pub mod formats;
pub mod ints;

use crate::backend::cpu::panel::{Group, Input};
use crate::formats::Format;

/// Rows of a group.
pub const ROWS: usize = 8;

/// Groups that are read side by side, a block of each in turn. A processor reads ahead in each page of memory apart, and of
/// one alone not far enough where memory answers late.
pub const STREAMS: usize = 4;

/// Up to [`STREAMS`] groups, `apart` bytes from one to the next.
#[derive(Clone, Copy)]
pub struct Streams {
    pub first: *const u8,
    pub apart: usize,
    pub count: usize,
}

/// How one format is packed and multiplied.
pub trait Kernel {
    const FORMAT: Format;
    const INPUT: Input;

    /// Bytes of a group of eight rows of `cols` columns; a multiple of 16.
    fn group_bytes(cols: usize) -> usize;

    /// Eight raw rows into one group.
    fn pack(rows: &[&[u8]; ROWS], out: &mut [u8]);

    /// One row of a group back to floats.
    fn unpack(group: &[u8], row: usize, out: &mut [f32]);

    /// The products of the groups' rows with one token: unpacks as it goes.
    ///
    /// # Safety
    /// Each group has `group_bytes(cols)` bytes; `x` points to a group of one token of as many columns, in the form INPUT;
    /// `totals` to 32 bytes for the sums of each group.
    unsafe fn one_token(groups: Streams, x: Group, cols: usize, totals: *mut u8);

    /// The products of a group's rows with T tokens, unpacked as it goes: bit by bit those of `one_token`.
    ///
    /// # Safety
    /// `group` points to `group_bytes(cols)` bytes; the rest is as for `tile`.
    unsafe fn few_tokens<const T: usize>(group: *const u8, x: Group, cols: usize, total: *mut u8);

    /// Bytes of a group that is unpacked for many tokens; a multiple of 16.
    fn expanded_bytes(cols: usize) -> usize;

    /// Unpacks a group.
    ///
    /// # Safety
    /// `group` points to `group_bytes(cols)` bytes, `out` to `expanded_bytes(cols)`.
    unsafe fn expand(group: *const u8, cols: usize, out: *mut u8);

    /// The products of an unpacked group's rows with T tokens.
    ///
    /// # Safety
    /// `expanded` is as `expand` left it; `x` points to a group of T tokens; `total` to 32 T bytes for the sums of each
    /// token.
    unsafe fn tile<const T: usize>(expanded: *const u8, x: Group, cols: usize, total: *mut u8);
}

/// Calls a generic function with the kernel of a format.
macro_rules! with_kernel {
    ($format:expr, $relaxed:expr, |$K:ident| $e:expr) => {{
        use $crate::backend::cpu::simd::{floats, formats as f, ints::*};
        // In the browser each binary has its own flavour, and needs no other.
        let relaxed = if cfg!(target_arch = "wasm32") { $crate::num::v128::RELAXED } else { $relaxed };
        macro_rules! go {
            ($kernel:ty) => {{
                type $K = $kernel;
                $e
            }};
        }
        macro_rules! int {
            ($format_type:ty) => {
                if relaxed { go!(Ints<$format_type, Bytes>) } else { go!(Ints<$format_type, Pairs>) }
            };
        }
        match $format {
            $crate::formats::Format::F32 => go!(floats::F32),
            $crate::formats::Format::F16 => go!(floats::F16),
            $crate::formats::Format::BF16 => go!(floats::BF16),
            $crate::formats::Format::Q8_0 => go!(Ints<f::Q8_0, Pairs>),
            $crate::formats::Format::Q4_0 => int!(f::Q4_0),
            $crate::formats::Format::Q4_1 => int!(f::Q4_1),
            $crate::formats::Format::Q5_0 => int!(f::Q5_0),
            $crate::formats::Format::Q5_1 => int!(f::Q5_1),
            $crate::formats::Format::Q4_K => int!(f::Q4_K),
            $crate::formats::Format::Q5_K => int!(f::Q5_K),
            $crate::formats::Format::Q6_K => int!(f::Q6_K),
        }
    }};
}
pub(crate) use with_kernel;
