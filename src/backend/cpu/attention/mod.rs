//! Causal attention of the batch's queries over the cache.
//!
//! A unit of work is one head of the cache, a group of the queries that share it, and a run of positions, whose keys and
//! values are read once for all of them, a few chunks at a time (`tile`). A batch of few tokens is split over its positions as well; the
//! parts are merged afterwards. Where the cuts are depends on the sizes alone, never on the threads.

mod tile;

use std::f32::consts::LOG2_E;
use std::ops::Range;

use super::kv_cache::{CHUNK, Chunk, Element, Head, I8, I16, room};
use super::matrix::FEW;
use super::memory::{reserve, zeros};
use super::pool::{Parts, Pool};
use super::{CpuBackend, math};
use crate::Result;
use crate::backend::spec::{DecoderSpec, LayerKind};
use tile::{SPAN, TILE, Tile, quantize};

/// Queries of a unit: their sums, and a chunk of keys and values, should stay in the first-level cache.
const GROUP: usize = 32;

/// The least positions of a part, and the most parts.
const PART: usize = SPAN * CHUNK;
const MOST_PARTS: usize = 32;

/// Positions of a part. Where parts begin depends on the position alone, so that a token's results are the same bits in any
/// batch of FEW.
fn part_len(spec: &DecoderSpec) -> usize {
    spec.context_length.div_ceil(MOST_PARTS).next_multiple_of(PART)
}

/// Greatest score, sum of the exponentials, two unused, and the weighted sum of the values.
fn partial_len(spec: &DecoderSpec) -> usize {
    room(spec) + 4
}

/// Bytes that attention over so many positions works in.
pub(super) fn scratch_of(spec: &DecoderSpec, positions: usize, threads: usize) -> u64 {
    (threads * Scratch::bytes_of(spec) + 4 * partials_of(spec, positions)) as u64
}

/// Floats of the parts of any batch of FEW.
fn partials_of(spec: &DecoderSpec, positions: usize) -> usize {
    match positions.div_ceil(part_len(spec)) {
        0 | 1 => 0,
        parts => parts * FEW * spec.heads * partial_len(spec),
    }
}

/// What a thread works in.
pub(super) struct Scratch {
    /// Of the group, in tiles.
    queries: Vec<u32>,
    query_scales: [f32; GROUP],
    /// Each sees the positions before this one, back to its window's.
    ends: [usize; GROUP],
    greatest: [f32; GROUP],
    sums: [f32; GROUP],
    /// `[GROUP][room]`: sums of weighted values.
    totals: Vec<f32>,
    tile: Tile,
}

impl Scratch {
    fn new(spec: &DecoderSpec) -> Result<Scratch> {
        let what = "attention";
        Ok(Scratch {
            queries: zeros(GROUP * room(spec) / 2, what)?,
            query_scales: [0.0; GROUP],
            ends: [0; GROUP],
            greatest: [0.0; GROUP],
            sums: [0.0; GROUP],
            totals: zeros(GROUP * room(spec), what)?,
            tile: Tile::default(),
        })
    }

    fn bytes_of(spec: &DecoderSpec) -> usize {
        size_of::<Scratch>() + 4 * (GROUP * room(spec) / 2 + GROUP * room(spec))
    }

    pub(super) fn bytes(&self) -> u64 {
        (size_of::<Scratch>() + 4 * (self.queries.capacity() + self.totals.capacity())) as u64
    }
}

impl CpuBackend {
    pub(super) fn attention_step(&mut self, layer: usize) -> Result<()> {
        let (spec, batch, pool) = (&self.spec, &mut self.batch, &mut self.pool);
        let window = match spec.layer_kinds[layer] {
            LayerKind::Local => spec.sliding_window.unwrap_or(usize::MAX),
            _ => usize::MAX,
        };
        while batch.attention.len() < pool.threads() {
            reserve(&mut batch.attention, 1, "attention")?;
            batch.attention.push(Scratch::new(spec)?);
        }
        let end = batch.start + batch.tokens;
        let first = (batch.start + 1).saturating_sub(window);
        let part = if batch.tokens <= FEW { part_len(spec) } else { end.next_multiple_of(CHUNK) };
        let parts = first / part..end.div_ceil(part);
        let partial = if parts.len() > 1 { partial_len(spec) } else { 0 };
        if partial > 0 {
            let (need, have) = (partials_of(spec, end), batch.partials.len());
            if need > have {
                reserve(&mut batch.partials, need - have, "attention")?;
                batch.partials.resize(need, 0.0);
            }
        }
        let attention = Attention {
            spec,
            queries: &batch.query,
            start: batch.start,
            count: batch.tokens * (spec.heads / spec.kv_heads),
            window,
            out: Parts::of(&mut batch.attended),
            partials: Parts::of(&mut batch.partials),
            partial,
            rows: batch.tokens * spec.heads,
        };
        let groups = attention.count.div_ceil(GROUP);
        let scratch = Parts::of(&mut batch.attention);
        let cost = 2 * room(spec) * attention.count.min(GROUP) * part.min(end - first);
        let cache = &self.cache;
        pool.divide(spec.kv_heads * groups * parts.len(), cost, |given, thread| {
            // SAFETY: each thread has its own.
            let scratch = unsafe { &mut scratch.part(thread..thread + 1)[0] };
            for unit in given {
                let (of, i) = (unit / parts.len(), unit % parts.len());
                let (kv_head, query) = (of / groups, of % groups * GROUP);
                let queries = query..attention.count.min(query + GROUP);
                let positions = first.max((parts.start + i) * part)..end.min((parts.start + i + 1) * part);
                let head = cache.head(layer, kv_head);
                match cache.int8 {
                    true => attention.unit::<I8>(head, kv_head, queries, positions, i, scratch),
                    false => attention.unit::<I16>(head, kv_head, queries, positions, i, scratch),
                }
            }
        });
        if partial > 0 {
            attention.merge(pool, parts.len());
        }
        Ok(())
    }
}

struct Attention<'a> {
    spec: &'a DecoderSpec,
    queries: &'a [f32],
    /// Position of the first token.
    start: usize,
    /// Queries that share a head of the cache: (token, head), by token.
    count: usize,
    window: usize,
    /// `[tokens, heads * dim]`
    out: Parts<'a, f32>,
    /// `[parts][tokens * heads][partial]`
    partials: Parts<'a, f32>,
    /// 0: there is one part, whose results are final.
    partial: usize,
    /// Tokens * heads.
    rows: usize,
}

impl Attention<'_> {
    /// (token, head) as a row of all of them.
    fn row(&self, kv_head: usize, query: usize) -> usize {
        let per_kv = self.spec.heads / self.spec.kv_heads;
        query / per_kv * self.spec.heads + kv_head * per_kv + query % per_kv
    }

    /// Behind the last position that a query sees.
    fn end(&self, query: usize) -> usize {
        self.start + query / (self.spec.heads / self.spec.kv_heads) + 1
    }

    fn unit<E: Element>(
        &self,
        head: Head,
        kv_head: usize,
        queries: Range<usize>,
        positions: Range<usize>,
        part: usize,
        scratch: &mut Scratch,
    ) {
        let (dim, room) = (self.spec.head_dim, room(self.spec));
        let n = queries.len();
        let tiles = || (0..n).step_by(TILE).map(|first| first..n.min(first + TILE));
        for tile in tiles() {
            let words = &mut scratch.queries[tile.start * room / 2..tile.end * room / 2];
            for r in 0..tile.len() {
                let row = &self.queries[self.row(kv_head, queries.start + tile.start + r) * dim..][..dim];
                let scale = quantize::<E>(row, self.spec.attention_scale * LOG2_E, &mut words[r..], tile.len());
                scratch.query_scales[tile.start + r] = scale;
                scratch.ends[tile.start + r] = self.end(queries.start + tile.start + r);
            }
        }
        scratch.greatest[..n].fill(f32::MIN);
        scratch.sums[..n].fill(0.0);
        scratch.totals[..n * room].fill(0.0);
        let span = SPAN * CHUNK;
        for first in (positions.start / span * span..positions.end).step_by(span) {
            // One behind the last is another's place, and nobody sees it.
            let chunks: [Chunk; SPAN] = std::array::from_fn(|i| head.chunk(first / CHUNK + i));
            for tile in tiles() {
                let mut seen: [Range<usize>; TILE] = std::array::from_fn(|_| 0..0);
                for (seen, &end) in seen.iter_mut().zip(&scratch.ends[tile.clone()]) {
                    let within = |p: usize| p.clamp(first, first + span) - first;
                    let start = end.saturating_sub(self.window).max(positions.start);
                    *seen = within(start)..within(end.min(positions.end));
                }
                if seen.iter().all(Range::is_empty) {
                    continue;
                }
                let of = tile::Queries {
                    words: &scratch.queries[tile.start * room / 2..tile.end * room / 2],
                    scales: &scratch.query_scales[tile.clone()],
                    greatest: &mut scratch.greatest[tile.clone()],
                    sums: &mut scratch.sums[tile.clone()],
                    totals: &mut scratch.totals[tile.start * room..tile.end * room],
                };
                scratch.tile.run::<E>(&chunks, of, &seen, room);
            }
        }
        for i in 0..n {
            let row = self.row(kv_head, queries.start + i);
            let totals = &mut scratch.totals[i * room..][..room];
            if self.partial == 0 {
                math::scale(totals, 1.0 / scratch.sums[i]);
                // SAFETY: the row is this unit's.
                unsafe { self.out.part(row * dim..(row + 1) * dim) }.copy_from_slice(&totals[..dim]);
                continue;
            }
            let at = (part * self.rows + row) * self.partial;
            // SAFETY: and so is this part of it.
            let place = unsafe { self.partials.part(at..at + self.partial) };
            (place[0], place[1]) = (scratch.greatest[i], scratch.sums[i]);
            place[4..].copy_from_slice(totals);
        }
    }

    /// The results from their parts.
    fn merge(&self, pool: &mut Pool, parts: usize) {
        let dim = self.spec.head_dim;
        pool.divide(self.rows, 2 * parts * dim, |rows, _| {
            for row in rows {
                // SAFETY: each row is given out once; nobody writes the parts any more.
                let (out, part) = unsafe {
                    let part = |i: usize| {
                        let at = (i * self.rows + row) * self.partial;
                        &*self.partials.part(at..at + self.partial)
                    };
                    (self.out.part(row * dim..(row + 1) * dim), part)
                };
                let greatest = (0..parts).map(|i| part(i)[0]).fold(f32::MIN, |a, b| if a < b { b } else { a });
                let mut sum = 0.0;
                out.fill(0.0);
                for part in (0..parts).map(part) {
                    let factor = tile::exp2(part[0] - greatest);
                    sum += factor * part[1];
                    math::add_scaled(out, factor, &part[4..]);
                }
                math::scale(out, 1.0 / sum);
            }
        });
    }
}
