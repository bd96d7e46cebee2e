//! Up to four queries against a few chunks of positions, in integers: scores, their softmax, weighted values.
//!
//! Products are summed in 32 bits. What a query, or the weights of a chunk's values, may be is limited for that: by the
//! greatest i16 and by the sum of all, so that peaks and plateaus both keep what bits there are.

use std::ops::Range;

use crate::backend::cpu::kv_cache::{CHUNK, Chunk, Element};
use crate::num::exp::Exp2;
use crate::num::v128::*;

pub const TILE: usize = 4;

/// Chunks that are read side by side, a block of each in turn, as a matrix's groups are (`simd::STREAMS`).
pub const SPAN: usize = 2;

/// Positions of a chunk that a query sees.
type Seen = Range<usize>;

/// Of the absolute values of integers that multiply the cache's, with room for their rounding.
fn most_sum<E: Element>(count: usize) -> f32 {
    (i32::MAX / E::MOST) as f32 - 2.0 * count as f32
}

/// What makes the largest integers of numbers with this greatest and this sum of absolute values; 0 where that is none.
fn factor<E: Element>(greatest: f32, sum: f32, count: usize) -> f32 {
    if greatest > 1e-30 { (f32::from(i16::MAX) / greatest).min(most_sum::<E>(count) / sum) } else { 0.0 }
}

fn inverse(factor: f32) -> f32 {
    if factor > 0.0 { 1.0 / factor } else { 0.0 }
}

/// Of one number, as of the scores.
pub fn exp2(x: f32) -> f32 {
    f32x4_extract_lane::<0>(Exp2::kept().of(f32x4_splat(x)))
}

/// A query times `scale` as pairs of i16, every `step`-th word; those behind its end are left. Returns what an integer is
/// worth.
pub fn quantize<E: Element>(row: &[f32], scale: f32, words: &mut [u32], step: usize) -> f32 {
    let (mut greatest, mut sum) = (f32x4_splat(0.0), f32x4_splat(0.0));
    let (fours, rest) = row.as_chunks();
    let mut last = [0.0; 4];
    last[..rest.len()].copy_from_slice(rest);
    for four in fours.iter().chain([&last]) {
        let x = f32x4_abs(f32x4_load(four));
        (greatest, sum) = (f32x4_max(greatest, x), f32x4_add(sum, x));
    }
    let factor = factor::<E>(f32x4_greatest(greatest), f32x4_sum(sum), row.len());
    let (v, rounder) = (f32x4_splat(factor), Rounder::kept());
    let mut out = words.iter_mut().step_by(step);
    for four in fours.iter().chain((!rest.is_empty()).then_some(&last)) {
        let x = rounder.integers(f32x4_mul(f32x4_load(four), v));
        let pairs = i16x8_narrow_i32x4(x, x);
        for word in [i32x4_extract_lane::<0>(pairs), i32x4_extract_lane::<1>(pairs)] {
            if let Some(out) = out.next() {
                *out = word as u32;
            }
        }
    }
    inverse(factor) * scale
}

/// Up to TILE queries, and what is known of them so far.
pub struct Queries<'a> {
    /// `[room / 2][R]` pairs of columns.
    pub words: &'a [u32],
    pub scales: &'a [f32],
    /// Of the scores.
    pub greatest: &'a mut [f32],
    /// Of 2^(score - greatest).
    pub sums: &'a mut [f32],
    /// `[R][room]`: of the values, each times 2^(score - greatest).
    pub totals: &'a mut [f32],
}

/// Room for a tile: a span's scores, and the weights that they become, as pairs of positions.
#[derive(Default)]
pub struct Tile([Share; SPAN]);

/// What a chunk has of it.
struct Share {
    scores: [[f32; CHUNK]; TILE],
    weights: [[[i16; 8]; CHUNK / 8]; TILE],
    seen: [Seen; TILE],
    /// Behind the last position that one of the queries sees, in whole blocks; 0: none is seen.
    end: usize,
    /// What the integers that each row's weights give are to be multiplied by.
    worth: [f32; TILE],
}

impl Default for Share {
    fn default() -> Share {
        Share {
            scores: [[0.0; CHUNK]; TILE],
            weights: [[[0; 8]; CHUNK / 8]; TILE],
            seen: Default::default(),
            end: 0,
            worth: [0.0; TILE],
        }
    }
}

impl Tile {
    /// `seen`: the positions, from the first chunk's beginning, that each query sees.
    pub fn run<E: Element>(&mut self, chunks: &[Chunk; SPAN], of: Queries, seen: &[Range<usize>; TILE], room: usize) {
        match of.scales.len() {
            4 => self.run_of::<E, 4, 2>(chunks, of, seen, room),
            3 => self.run_of::<E, 3, 2>(chunks, of, seen, room),
            2 => self.run_of::<E, 2, 4>(chunks, of, seen, room),
            _ => self.run_of::<E, 1, 4>(chunks, of, seen, room),
        }
    }

    /// W vectors of four positions, and then of four columns, against R queries at a time.
    #[inline(never)]
    fn run_of<E: Element, const R: usize, const W: usize>(
        &mut self,
        chunks: &[Chunk; SPAN],
        of: Queries,
        seen: &[Range<usize>; TILE],
        room: usize,
    ) {
        assert!(of.words.len() == R * room / 2 && of.totals.len() == R * room && room % (4 * W) == 0);
        let shares = &mut self.0;
        for (i, (share, chunk)) in shares.iter_mut().zip(chunks).enumerate() {
            assert!(chunk.keys.len() == CHUNK * room * E::BYTES && chunk.values.len() == chunk.keys.len());
            let within = |p: usize| p.clamp(i * CHUNK, (i + 1) * CHUNK) - i * CHUNK;
            share.seen = std::array::from_fn(|r| {
                let seen = within(seen[r].start)..within(seen[r].end);
                if seen.is_empty() { 0..0 } else { seen }
            });
            share.end = share.seen.iter().map(|seen| seen.end).max().unwrap_or(0).next_multiple_of(4 * W);
        }
        for at in (0..CHUNK).step_by(4 * W) {
            for (share, chunk) in shares.iter_mut().zip(chunks).filter(|(share, _)| at < share.end) {
                // SAFETY: whole blocks of eight positions, within the chunk.
                let acc = unsafe { scores::<E, R, W>(chunk.keys.as_ptr().add(at * room * E::BYTES), &of, room) };
                for r in 0..R {
                    let scale = f32x4_splat(of.scales[r]);
                    for w in 0..W {
                        let of_keys = f32x4_load(&chunk.key_scales.as_chunks().0[at / 4 + w]);
                        let place = &mut share.scores[r].as_chunks_mut().0[at / 4 + w];
                        f32x4_store(place, f32x4_mul(f32x4_convert_i32x4(acc[r][w]), f32x4_mul(of_keys, scale)));
                    }
                }
            }
        }
        let rescale = weigh::<E, R>(shares, chunks, of.greatest, of.sums);
        for column in (0..room).step_by(4 * W) {
            let mut old = rescale;
            for (share, chunk) in shares.iter().zip(chunks) {
                // SAFETY: blocks of eight columns, and as many weights as there are positions.
                let acc = unsafe {
                    values::<E, R, W>(
                        chunk.values.as_ptr().add(column * CHUNK * E::BYTES),
                        &share.weights,
                        share.end / 2,
                    )
                };
                for r in 0..R {
                    let (old, new) = (f32x4_splat(old[r]), f32x4_splat(share.worth[r]));
                    for w in 0..W {
                        let place = &mut of.totals[r * room..].as_chunks_mut().0[column / 4 + w];
                        let sum = f32x4_mul(f32x4_convert_i32x4(acc[r][w]), new);
                        f32x4_store(place, f32x4_madd(f32x4_load(place), old, sum));
                    }
                }
                old = [1.0; TILE];
            }
        }
    }
}

/// Scores become weights. Returns what the totals so far of each row are to be multiplied by. What is one number for a row is
/// computed for all rows at once.
#[inline(always)]
fn weigh<E: Element, const R: usize>(
    shares: &mut [Share; SPAN],
    chunks: &[Chunk; SPAN],
    greatest: &mut [f32],
    sums: &mut [f32],
) -> [f32; TILE] {
    let mut before = [0.0; TILE];
    before[..R].copy_from_slice(&greatest[..R]);
    let mut max = std::array::from_fn::<v128, TILE, _>(|r| f32x4_splat(before[r]));
    for share in shares.iter_mut() {
        for r in 0..R {
            let row = &mut share.scores[r][..share.end];
            hide(row, &share.seen[r], f32::MIN);
            max[r] = row.as_chunks().0.iter().fold(max[r], |max, four| f32x4_max(max, f32x4_load(four)));
        }
    }
    let greatests = f32x4_greatests(max);
    let rescale = lanes(Exp2::kept().of(f32x4_sub(f32x4_load(&before), greatests)));
    let (now, rounder) = (lanes(greatests), Rounder::kept());
    let mut exps = [f32x4_splat(0.0); TILE];
    for (share, chunk) in shares.iter_mut().zip(chunks) {
        let (end, mut sums_of) = (share.end, [exps, [f32x4_splat(0.0); TILE], [f32x4_splat(0.0); TILE]]);
        exponentials(&mut share.scores[..R], end, &now, &share.seen, chunk.value_scales, &mut sums_of);
        let (all, most) = (lanes(f32x4_sums(sums_of[1])), lanes(f32x4_greatests(sums_of[2])));
        exps = sums_of[0];
        for r in 0..R {
            let factor = factor::<E>(most[r], all[r], CHUNK);
            share.worth[r] = inverse(factor);
            let factor = f32x4_splat(factor);
            for ([a, b], out) in
                share.scores[r][..end].as_chunks::<4>().0.as_chunks().0.iter().zip(&mut share.weights[r])
            {
                let [a, b] = [a, b].map(|four| rounder.integers(f32x4_mul(f32x4_load(four), factor)));
                // SAFETY: 16 bytes.
                unsafe { v128_store(out.as_mut_ptr().cast(), i16x8_narrow_i32x4(a, b)) };
            }
        }
    }
    let exps = lanes(f32x4_sums(exps));
    for r in 0..R {
        // Where nothing is seen, nothing is greater either: the exponentials are of no difference.
        let seen = shares.iter().any(|share| !share.seen[r].is_empty());
        (greatest[r], sums[r]) = (now[r], sums[r] * rescale[r] + if seen { exps[r] } else { 0.0 });
    }
    rescale
}

/// Scores become 2^(score - now), times the scales of the values that are seen. Of each row: sums of the exponentials and those
/// before, sums and greatest of the products.
#[inline(never)]
fn exponentials(
    scores: &mut [[f32; CHUNK]],
    end: usize,
    now: &[f32; TILE],
    seen: &[Seen; TILE],
    value_scales: &[f32; CHUNK],
    sums: &mut [[v128; TILE]; 3],
) {
    let (exp2, zero) = (Exp2::kept(), f32x4_splat(0.0));
    for (r, (row, seen)) in scores.iter_mut().zip(seen).enumerate() {
        let mut scales = value_scales;
        let mut of_seen = [0.0; CHUNK];
        if *seen != (0..end) {
            of_seen[seen.clone()].copy_from_slice(&value_scales[seen.clone()]);
            scales = &of_seen;
        }
        let now = f32x4_splat(now[r]);
        let (mut exps, mut all, mut most) = (sums[0][r], zero, zero);
        for (four, scales) in row[..end].as_chunks_mut().0.iter_mut().zip(scales.as_chunks().0) {
            let e = exp2.of(f32x4_sub(f32x4_load(four), now));
            let weight = f32x4_mul(e, f32x4_load(scales));
            (exps, all, most) = (f32x4_add(exps, e), f32x4_add(all, weight), f32x4_max(most, weight));
            f32x4_store(four, weight);
        }
        (sums[0][r], sums[1][r], sums[2][r]) = (exps, all, most);
    }
}

fn lanes(v: v128) -> [f32; 4] {
    let mut lanes = [0.0; 4];
    f32x4_store(&mut lanes, v);
    lanes
}

/// The positions that are not seen.
fn hide(row: &mut [f32], seen: &Seen, with: f32) {
    row[..seen.start].fill(with);
    row[seen.end..].fill(with);
}

/// Integer scores of 4 W positions.
///
/// # Safety
/// `keys` points to W / 2 blocks of eight positions.
#[inline(always)]
unsafe fn scores<E: Element, const R: usize, const W: usize>(
    keys: *const u8,
    of: &Queries,
    room: usize,
) -> [[v128; W]; R] {
    // SAFETY: the caller's, and R words a pair of columns.
    unsafe { dots::<E, R, W, R, 1>(keys, 8 * room, of.words.as_ptr().cast(), room / 2) }
}

/// Integer sums of 4 W columns.
///
/// # Safety
/// `values` points to W / 2 blocks of eight columns; there are `pairs` of positions at least, and as many weights.
#[inline(always)]
unsafe fn values<E: Element, const R: usize, const W: usize>(
    values: *const u8,
    weights: &[[[i16; 8]; CHUNK / 8]; TILE],
    pairs: usize,
) -> [[v128; W]; R] {
    // SAFETY: the caller's.
    unsafe { dots::<E, R, W, 1, { CHUNK / 2 }>(values, 8 * CHUNK, weights.as_ptr().cast(), pairs) }
}

/// Sums over `pairs`, an even number, of the products of pairs: W vectors of four of them, `[pairs][2 vectors]` in blocks of
/// `block` elements, with R words, which stand ROW apart, and those of the next pair PAIR behind them.
///
/// # Safety
/// There are W / 2 blocks and R words a pair.
#[inline(always)]
unsafe fn dots<E: Element, const R: usize, const W: usize, const PAIR: usize, const ROW: usize>(
    cached: *const u8,
    block: usize,
    words: *const u8,
    pairs: usize,
) -> [[v128; W]; R] {
    let mut acc = [[i32x4_splat(0); W]; R];
    let (mut cached, mut words) = (cached, words);
    // Pairs in a row; of several rows their products would not stay in registers.
    let run = if R == 1 { 2 } else { 1 };
    // SAFETY: the caller's.
    let end = unsafe { cached.add(16 * E::BYTES * pairs) };
    while cached != end {
        for i in 0..run {
            // SAFETY: the caller's.
            unsafe {
                let v: [v128; W] = std::array::from_fn(|w| {
                    E::load8(cached.add(w / 2 * block * E::BYTES).add((16 * i + w % 2 * 8) * E::BYTES))
                });
                for (r, acc) in acc.iter_mut().enumerate() {
                    let word = v128_load32_splat(words.add(4 * (i * PAIR + r * ROW)));
                    for w in 0..W {
                        acc[w] = i32x4_add(acc[w], i32x4_dot_i16x8(v[w], word));
                    }
                }
            }
        }
        // SAFETY: or behind the last.
        unsafe {
            cached = cached.add(16 * run * E::BYTES);
            words = words.add(4 * run * PAIR);
        }
    }
    acc
}
