//! Keys and values of all layers as integers, of 16 or of 8 bits, with a scale for each head and position; grown by
//! doubling. A layer that sees a window keeps a ring of the last positions.
//!
//! The kernels sum products of integers in 32 bits, so 16 bits hold +-8191 (`Element::MOST`): as exact as halves. Positions
//! stand in chunks of 64, heads are padded with zeros to `room` columns. In the place of one head:
//!
//! ```text
//! keys    [position / 8][column / 2][8 positions][2 columns]
//! values  [chunk][column / 8][position / 2, of 32][8 columns][2 positions]
//! ```

mod snapshot;

use super::MAX_BATCH;
use super::math::four;
use super::memory::zeros;
use super::pool::Parts;
use crate::Result;
use crate::backend::spec::{DecoderSpec, LayerKind};
use crate::num::v128::*;

/// Room at the start.
pub const FIRST_POSITIONS: usize = 256;

/// Positions that attention takes together.
pub const CHUNK: usize = 64;

/// By how many positions more than a batch a sequence can be cut back, where a window's ring is full: to say an answer
/// again, or to take back what was only guessed.
const CUT_BACK: usize = 256;

/// What the cache consists of.
pub trait Element {
    const BYTES: usize;
    const MOST: i32;

    /// Eight of them as i16.
    ///
    /// # Safety
    /// `p` is valid for reading `8 * BYTES` bytes.
    unsafe fn load8(p: *const u8) -> v128;

    /// The element `at`.
    ///
    /// # Safety
    /// Nobody else has it meanwhile.
    unsafe fn put(place: &Parts<u8>, at: usize, value: i32);

    /// The element `at` and the next.
    ///
    /// # Safety
    /// As for `put`.
    unsafe fn put_pair(place: &Parts<u8>, at: usize, values: [i32; 2]);
}

pub struct I16;
impl Element for I16 {
    const BYTES: usize = 2;
    const MOST: i32 = 8191;
    #[inline(always)]
    unsafe fn load8(p: *const u8) -> v128 {
        unsafe { v128_load(p) }
    }
    #[inline(always)]
    unsafe fn put(place: &Parts<u8>, at: usize, value: i32) {
        unsafe { place.put(2 * at, (value as i16).to_le_bytes()) };
    }
    #[inline(always)]
    unsafe fn put_pair(place: &Parts<u8>, at: usize, [a, b]: [i32; 2]) {
        unsafe { place.put(2 * at, (a & 0xffff | b << 16).to_le_bytes()) };
    }
}

pub struct I8;
impl Element for I8 {
    const BYTES: usize = 1;
    const MOST: i32 = 127;
    #[inline(always)]
    unsafe fn load8(p: *const u8) -> v128 {
        unsafe { i16x8_load_extend_i8x8(p) }
    }
    #[inline(always)]
    unsafe fn put(place: &Parts<u8>, at: usize, value: i32) {
        unsafe { place.put(at, [value as u8]) };
    }
    #[inline(always)]
    unsafe fn put_pair(place: &Parts<u8>, at: usize, values: [i32; 2]) {
        unsafe { place.put(at, values.map(|value| value as u8)) };
    }
}

/// A head's columns in the cache.
pub fn room(spec: &DecoderSpec) -> usize {
    spec.head_dim.next_multiple_of(16)
}

pub struct KvCache {
    kv_heads: usize,
    dim: usize,
    room: usize,
    context: usize,
    pub int8: bool,
    /// Positions there is room for, but for rings; a multiple of CHUNK.
    capacity: usize,
    /// Positions that hold something.
    pub len: usize,
    /// The most that `len` was since the sequence began.
    written: usize,
    /// Window and room of the local layers, where that is less than the context.
    ring: Option<(usize, usize)>,
    layers: Vec<LayerCache>,
}

#[derive(Default)]
struct LayerCache {
    is_ring: bool,
    /// Positions of each head.
    capacity: usize,
    keys: Vec<u8>,
    values: Vec<u8>,
    key_scales: Vec<f32>,
    value_scales: Vec<f32>,
}

impl LayerCache {
    fn grow(&mut self, capacity: usize, kv_heads: usize, row_bytes: usize) -> Result<()> {
        if self.capacity >= capacity {
            return Ok(());
        }
        let places = (self.capacity, capacity, kv_heads);
        let (keys, values) = (grown(&self.keys, row_bytes, places)?, grown(&self.values, row_bytes, places)?);
        let (key_scales, value_scales) = (grown(&self.key_scales, 1, places)?, grown(&self.value_scales, 1, places)?);
        *self = LayerCache { is_ring: self.is_ring, capacity, keys, values, key_scales, value_scales };
        Ok(())
    }
}

/// A copy with more positions a head, of `width` elements each.
fn grown<T: Copy + Default>(from: &[T], width: usize, (old, new, heads): (usize, usize, usize)) -> Result<Vec<T>> {
    let (old, new) = (old * width, new * width);
    let mut to = zeros(heads * new, "the KV cache")?;
    for h in 0..heads {
        to[h * new..][..old].copy_from_slice(&from[h * old..][..old]);
    }
    Ok(to)
}

/// Window and room of a ring: what a batch sees and writes, and what may be cut back.
fn ring(spec: &DecoderSpec) -> Option<(usize, usize)> {
    let window = spec.sliding_window?;
    let room = window.saturating_add(MAX_BATCH + CUT_BACK).next_multiple_of(CHUNK);
    (room < spec.context_length).then_some((window, room))
}

fn is_ring(spec: &DecoderSpec, layer: usize) -> bool {
    spec.layer_kinds[layer] == LayerKind::Local && ring(spec).is_some()
}

impl KvCache {
    pub fn new(spec: &DecoderSpec) -> KvCache {
        KvCache {
            kv_heads: spec.kv_heads,
            dim: spec.head_dim,
            room: room(spec),
            context: spec.context_length,
            int8: spec.kv_int8,
            capacity: 0,
            len: 0,
            written: 0,
            ring: ring(spec),
            layers: (0..spec.layers)
                .map(|layer| LayerCache { is_ring: is_ring(spec, layer), ..LayerCache::default() })
                .collect(),
        }
    }

    fn row_bytes(&self) -> usize {
        self.room * if self.int8 { I8::BYTES } else { I16::BYTES }
    }

    /// Whether a sequence can go on behind its first `positions`: what a ring has overwritten is gone.
    pub fn holds(&self, positions: usize) -> bool {
        let lost = self.ring.map_or(0, |(_, room)| self.written.saturating_sub(room));
        let seen_from = self.ring.map_or(0, |(window, _)| (positions + 1).saturating_sub(window));
        positions == 0 || (positions <= self.len && lost <= seen_from)
    }

    /// Forgets all positions.
    pub fn clear(&mut self) {
        (self.len, self.written) = (0, 0);
    }

    /// Makes room for a batch that ends at `end`, keeping what is there; one layer at a time, so that old and new stand side
    /// by side for one layer only. Errors: [`crate::Error::OutOfMemory`], with nothing lost.
    pub fn extend(&mut self, start: usize, end: usize) -> Result<()> {
        if end > self.capacity {
            let doubled = (self.capacity * 2).max(FIRST_POSITIONS).min(self.context);
            let capacity = end.max(doubled).next_multiple_of(CHUNK);
            let (row_bytes, of_ring) = (self.row_bytes(), self.ring.map_or(capacity, |(_, room)| room.min(capacity)));
            for layer in &mut self.layers {
                layer.grow(if layer.is_ring { of_ring } else { capacity }, self.kv_heads, row_bytes)?;
            }
            self.capacity = capacity;
        }
        self.len = end;
        self.written = if start == 0 { end } else { self.written.max(end) };
        Ok(())
    }

    pub fn writer(&mut self, layer: usize) -> Writer<'_> {
        let (dim, room, int8) = (self.dim, self.room, self.int8);
        let layer = &mut self.layers[layer];
        Writer {
            dim,
            room,
            int8,
            capacity: layer.capacity,
            keys: Parts::of(&mut layer.keys),
            values: Parts::of(&mut layer.values),
            key_scales: Parts::of(&mut layer.key_scales),
            value_scales: Parts::of(&mut layer.value_scales),
        }
    }

    /// What is cached of one head.
    pub fn head(&self, layer: usize, kv_head: usize) -> Head<'_> {
        let layer = &self.layers[layer];
        let (bytes, scales) = (layer.capacity * self.row_bytes(), layer.capacity);
        Head {
            chunks: layer.capacity / CHUNK,
            keys: &layer.keys[kv_head * bytes..][..bytes],
            values: &layer.values[kv_head * bytes..][..bytes],
            key_scales: &layer.key_scales[kv_head * scales..][..scales],
            value_scales: &layer.value_scales[kv_head * scales..][..scales],
        }
    }

    /// Of a cache with room for `positions`.
    pub fn bytes_of(spec: &DecoderSpec, positions: usize) -> u64 {
        let positions = positions.next_multiple_of(CHUNK);
        let row = 2 * room(spec) * if spec.kv_int8 { I8::BYTES } else { I16::BYTES } + 2 * size_of::<f32>();
        let of = |layer| {
            if is_ring(spec, layer) { ring(spec).map_or(positions, |(_, room)| room.min(positions)) } else { positions }
        };
        (0..spec.layers).map(|layer| (spec.kv_heads * row) as u64 * of(layer) as u64).sum()
    }

    pub fn bytes(&self) -> u64 {
        let of = |l: &LayerCache| {
            l.keys.capacity() + l.values.capacity() + 4 * (l.key_scales.capacity() + l.value_scales.capacity())
        };
        self.layers.iter().map(|l| of(l) as u64).sum()
    }
}

/// Keys and values of one head of a layer.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    /// That there is room for: a ring's go round.
    chunks: usize,
    keys: &'a [u8],
    values: &'a [u8],
    key_scales: &'a [f32],
    value_scales: &'a [f32],
}

/// CHUNK positions of a head.
#[derive(Clone, Copy)]
pub struct Chunk<'a> {
    pub keys: &'a [u8],
    pub values: &'a [u8],
    pub key_scales: &'a [f32; CHUNK],
    pub value_scales: &'a [f32; CHUNK],
}

impl<'a> Head<'a> {
    /// The positions from `CHUNK * chunk` on.
    pub fn chunk(&self, chunk: usize) -> Chunk<'a> {
        let i = chunk % self.chunks;
        let bytes = self.keys.len() / self.chunks;
        let scales = |all: &'a [f32]| all.as_chunks().0.get(i).expect("a chunk of the cache");
        Chunk {
            keys: &self.keys[i * bytes..][..bytes],
            values: &self.values[i * bytes..][..bytes],
            key_scales: scales(self.key_scales),
            value_scales: scales(self.value_scales),
        }
    }
}

/// Of one layer, for several threads.
pub struct Writer<'a> {
    dim: usize,
    room: usize,
    int8: bool,
    /// Positions of a head.
    capacity: usize,
    keys: Parts<'a, u8>,
    values: Parts<'a, u8>,
    key_scales: Parts<'a, f32>,
    value_scales: Parts<'a, f32>,
}

impl Writer<'_> {
    /// Key and value of one head at one position, `[dim]` each.
    ///
    /// # Safety
    /// Nobody else writes them at the same time.
    pub unsafe fn write(&self, position: usize, head: usize, key: &[f32], value: &[f32]) {
        unsafe {
            match self.int8 {
                true => self.write_as::<I8>(position, head, key, value),
                false => self.write_as::<I16>(position, head, key, value),
            }
        }
    }

    unsafe fn write_as<E: Element>(&self, position: usize, head: usize, key: &[f32], value: &[f32]) {
        let (room, p) = (self.room, position % self.capacity);
        let first = head * self.capacity * room;
        assert!(key.len() == self.dim && value.len() == self.dim);
        let (block, chunk) = (first + p / 8 * 8 * room, first + p / CHUNK * CHUNK * room);
        // SAFETY: the caller's; other positions are other elements.
        let key_scale = integers(key, E::MOST, |column, [a, b, c, d]| unsafe {
            let at = block + column / 2 * 16 + p % 8 * 2;
            E::put_pair(&self.keys, at, [a, b]);
            E::put_pair(&self.keys, at + 16, [c, d]);
        });
        // SAFETY: as above.
        let value_scale = integers(value, E::MOST, |column, values| unsafe {
            let at = chunk + column / 8 * 8 * CHUNK + p % CHUNK / 2 * 16 + column % 8 * 2 + p % 2;
            for (i, value) in values.into_iter().enumerate() {
                E::put(&self.values, at + 2 * i, value);
            }
        });
        let at = head * self.capacity + p;
        for (scales, scale) in [(&self.key_scales, key_scale), (&self.value_scales, value_scale)] {
            // SAFETY: as above.
            unsafe { scales.part(at..at + 1)[0] = scale };
        }
    }
}

/// The nearest integers of at most `most` when the row is divided by the scale that is returned: `put` has four columns at a
/// time, zeros behind the last.
#[inline(always)]
fn integers(row: &[f32], most: i32, mut put: impl FnMut(usize, [i32; 4])) -> f32 {
    let fours = || (0..row.len()).step_by(4);
    let greatest = fours().fold(f32x4_splat(0.0), |max, at| f32x4_max(max, f32x4_abs(four(row, at))));
    let greatest = f32x4_greatest(greatest).min(f32::MAX);
    let inverse = if greatest > 0.0 { most as f32 / greatest } else { 0.0 };
    let (inverse, rounder) = (f32x4_splat(inverse), Rounder::kept());
    for at in fours() {
        let v = rounder.integers(f32x4_mul(four(row, at), inverse));
        put(
            at,
            [
                i32x4_extract_lane::<0>(v),
                i32x4_extract_lane::<1>(v),
                i32x4_extract_lane::<2>(v),
                i32x4_extract_lane::<3>(v),
            ],
        );
    }
    greatest / most as f32
}
