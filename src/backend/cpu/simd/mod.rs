//! Packed matrices' block kernels, and THE place that maps a format to its kernel.
//!
//! Packing interleaves eight rows, which make a group: a vector's lanes are rows, so that no sum runs across lanes and
//! one activation serves eight weights.

pub mod floats;
pub mod formats;
pub mod ints;

use crate::backend::cpu::panel::{Group, Input};
use crate::formats::Format;
use crate::num::v128::ByteDot;

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

    /// Those with T tokens, bit by bit the sums of `one_token`.
    ///
    /// # Safety
    /// As for `one_token`, with T tokens and 32 T bytes for the sums of each group.
    unsafe fn few_tokens<const T: usize>(groups: Streams, x: Group, cols: usize, totals: *mut u8);

    /// Bytes of a group that is unpacked for many tokens; a multiple of 16.
    fn expanded_bytes(cols: usize) -> usize;

    /// Unpacks a group.
    ///
    /// # Safety
    /// `group` points to `group_bytes(cols)` bytes, `out` to `expanded_bytes(cols)`.
    unsafe fn expand(group: *const u8, cols: usize, out: *mut u8);

    /// The products of the rows of `count` unpacked groups with T tokens.
    ///
    /// # Safety
    /// `expanded` points to groups as `expand` left them, one behind the other; the rest is as for `few_tokens`.
    unsafe fn tiles<const T: usize>(expanded: *const u8, count: usize, x: Group, cols: usize, totals: *mut u8);
}

type OfPacked = unsafe fn(Streams, Group, usize, *mut u8);
type OfExpanded = unsafe fn(*const u8, usize, Group, usize, *mut u8);

/// A [`Kernel`] whose format only the model knows.
pub struct Kernels {
    pub input: Input,
    pub group_bytes: fn(usize) -> usize,
    pub pack: fn(&[&[u8]; ROWS], &mut [u8]),
    pub unpack: fn(&[u8], usize, &mut [f32]),
    /// Of one, two and four tokens.
    pub packed: [OfPacked; 3],
    pub expanded_bytes: fn(usize) -> usize,
    pub expand: unsafe fn(*const u8, usize, *mut u8),
    /// Of two and four tokens.
    pub tiles: [OfExpanded; 2],
}

impl Kernels {
    const fn of<K: Kernel>() -> Kernels {
        Kernels {
            input: K::INPUT,
            group_bytes: K::group_bytes,
            pack: K::pack,
            unpack: K::unpack,
            packed: [K::one_token, K::few_tokens::<2>, K::few_tokens::<4>],
            expanded_bytes: K::expanded_bytes,
            expand: K::expand,
            tiles: [K::tiles::<2>, K::tiles::<4>],
        }
    }
}

/// The kernel of a format, for an engine that multiplies bytes in this way.
pub fn kernels(format: Format, dot: ByteDot) -> &'static Kernels {
    use floats::*;
    use formats as f;
    use ints::*;
    macro_rules! of {
        ($kernel:ty) => {
            const { &Kernels::of::<$kernel>() }
        };
    }
    // A binary has no kernels of the instructions that it lacks, nor those for engines that lack what it has.
    let (relaxed, plain) = if cfg!(target_arch = "wasm32") {
        (cfg!(target_feature = "relaxed-simd"), !cfg!(target_feature = "relaxed-simd"))
    } else {
        (true, true)
    };
    macro_rules! int {
        ($format:ty) => {
            match dot {
                ByteDot::Unsigned | ByteDot::Signed if relaxed => of!(Ints<$format, Wide<false>>),
                ByteDot::Pairs if plain => of!(Ints<$format, Pairs>),
                _ if relaxed => of!(Ints<$format, Narrow>),
                _ => of!(Ints<$format, Pairs>),
            }
        };
    }
    match format {
        Format::F32 => of!(F32),
        Format::F16 => of!(F16),
        Format::BF16 => of!(BF16),
        Format::Q8_0 => match dot {
            ByteDot::Unsigned if relaxed => of!(Ints<f::Q8_0, Wide<false>>),
            ByteDot::Signed if relaxed => of!(Ints<f::Q8_0, Wide<true>>),
            _ => of!(Ints<f::Q8_0, Pairs>),
        },
        Format::Q4_0 => int!(f::Q4_0),
        Format::Q4_1 => int!(f::Q4_1),
        Format::Q5_0 => int!(f::Q5_0),
        Format::Q5_1 => int!(f::Q5_1),
        Format::Q4_K => int!(f::Q4_K),
        Format::Q5_K => int!(f::Q5_K),
        Format::Q6_K => int!(f::Q6_K),
    }
}
