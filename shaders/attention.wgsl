// One token's attention: one workgroup serves all query heads of a key/value head over one split of the context, in tiles of
// TILE_KEYS positions. Before it: QK norms and RoPE; the split that holds the newest position puts its key and value into
// the cache. Queries go by four, in the components of vectors, and LANES threads share the softmax of four; what is missing
// to the last four is zero.
#import shared/state
#import shared/partials
// [Q | K | V]
@group(0) @binding(1) var<storage, read> qkv: array<f32>;
@group(0) @binding(2) var<storage, read> vectors: array<vec4f>;
// [position][ROPE_DIM / 2] of (cos, sin)
@group(0) @binding(3) var<storage, read> turns: array<vec2f>;
// [position][kv_head] of rows
@group(0) @binding(4) var<storage, read_write> keys: array<vec4u>;
@group(0) @binding(5) var<storage, read_write> values: array<u32>;
@group(0) @binding(6) var<storage, read_write> partials: array<f32>;

const FOURS: u32 = (GROUP + 3u) / 4u;
const WORDS: u32 = HEAD_ROOM / 2u;
// Threads that have the same two elements of the values for the same queries: each takes every PARTS-th position.
const SUMS: u32 = FOURS * WORDS;
const PARTS: u32 = select(select(select(1u, 2u, 2u * SUMS <= WG), 4u, 4u * SUMS <= WG), 8u, 8u * SUMS <= WG);

// Of four queries and a key; then the weight of its value.
var<workgroup> scores: array<vec4f, FOURS * TILE_KEYS>;
// What the sums so far shrink by.
var<workgroup> shrinks: array<vec4f, FOURS>;
var<workgroup> exchange: array<vec4f, WG>;

// The highest of LANES neighbours' values, or their sum.
fn over_lanes(value: vec4f, highest: bool, t: u32) -> vec4f {
    exchange[t] = value;
    for (var step = LANES / 2u; step > 0u; step /= 2u) {
        workgroupBarrier();
        if (t % LANES < step) {
            let other = exchange[t + step];
            exchange[t] = select(exchange[t] + other, max(exchange[t], other), highest);
        }
    }
    workgroupBarrier();
    let all = exchange[t / LANES * LANES];
    workgroupBarrier();
    return all;
}

// The sum of what the PARTS threads have, in the first of them.
fn over_parts(value: vec4f, t: u32) -> vec4f {
    var sum = value;
    exchange[t] = value;
    workgroupBarrier();
    if (t < SUMS) {
        for (var part = 1u; part < PARTS; part += 1u) {
            sum += exchange[t + part * SUMS];
        }
    }
    workgroupBarrier();
    return sum;
}

#import shared/heads
#import shared/kv_write

fn score(four: u32, row: u32) -> vec4f {
    var sum = vec4f();
    for (var i = 0u; i < HEAD_ROOM / 8u; i += 1u) {
        let k = key8(row, i);
        let q = 4u * four * QUADS + 2u * i;
        sum += vec4f(
            dot(k.a, heads[q]) + dot(k.b, heads[q + 1u]),
            dot(k.a, heads[q + QUADS]) + dot(k.b, heads[q + QUADS + 1u]),
            dot(k.a, heads[q + 2u * QUADS]) + dot(k.b, heads[q + 2u * QUADS + 1u]),
            dot(k.a, heads[q + 3u * QUADS]) + dot(k.b, heads[q + 3u * QUADS + 1u]),
        );
    }
    return sum * key_scale(row);
}

// Elements 2i and 2i+1 of a value.
fn value2(row: u32, i: u32) -> vec2f {
#ifdef KV_INT8
    let four = signed_bytes(values[row * VALUE_WORDS + i / 2u]);
    return bitcast<f32>(values[row * VALUE_WORDS + HEAD_ROOM / 4u]) * select(four.xy, four.zw, i % 2u == 1u);
#else
    return unpack2x16float(values[row * VALUE_WORDS + i]);
#endif
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) t: u32) {
    let kv_head = workgroup.x;
    let split = workgroup.y;
    let position = state.position;
    let positions = position + 1u;
    let splits = split_count(positions);
    // An empty split has sums of zero and counts for nothing.
    let length = (positions + splits - 1u) / splits;
    let begin = min(split * length, positions);
    let end = min(begin + length, positions);

    load(kv_head, position, t);
    if (end == positions && begin < end) {
        keep_key(position * KV_HEADS + kv_head, NEW_KEY * HEAD_ROOM, t);
        keep_value(position * KV_HEADS + kv_head, (NEW_KEY + 1u) * HEAD_ROOM, t);
    }
    storageBarrier();
    workgroupBarrier();

#ifdef WINDOW_SIZE
    let start = max(begin, select(0u, positions - WINDOW, positions > WINDOW));
#else
    let start = begin;
#endif
    // Of this lane's keys, where it has any.
    let softens = t < FOURS * LANES;
    var highest = vec4f(-1e30);
    var total = vec4f();
    // Of this thread's word, elements 2i and 2i+1 for four queries.
    let four = t % SUMS / WORDS;
    let word = t % WORDS;
    var even = vec4f();
    var odd = vec4f();
    for (var tile = start; tile < end; tile += TILE_KEYS) {
        let count = min(TILE_KEYS, end - tile);
        for (var i = t; i < FOURS * TILE_KEYS; i += WG) {
            var x = vec4f(-1e30);
            if (i % TILE_KEYS < count) {
                x = score(i / TILE_KEYS, (tile + i % TILE_KEYS) * KV_HEADS + kv_head);
            }
            scores[i] = x;
        }
        workgroupBarrier();
        var best = highest;
        if (softens) {
            for (var i = t % LANES; i < TILE_KEYS; i += LANES) {
                best = max(best, scores[t / LANES * TILE_KEYS + i]);
            }
        }
        best = over_lanes(best, true, t);
        if (softens) {
            let shrink = exp(highest - best);
            total *= shrink;
            for (var i = t % LANES; i < TILE_KEYS; i += LANES) {
                let weight = exp(scores[t / LANES * TILE_KEYS + i] - best);
                scores[t / LANES * TILE_KEYS + i] = weight;
                total += weight;
            }
            if (t % LANES == 0u) {
                shrinks[t / LANES] = shrink;
            }
        }
        highest = best;
        workgroupBarrier();
        if (t < SUMS * PARTS) {
            even *= shrinks[four];
            odd *= shrinks[four];
            for (var i = t / SUMS; i < count; i += PARTS) {
                let weight = scores[four * TILE_KEYS + i];
                let value = value2((tile + i) * KV_HEADS + kv_head, word);
                even += weight * value.x;
                odd += weight * value.y;
            }
        }
        workgroupBarrier();
    }

    total = over_lanes(total, false, t);
    even = over_parts(even, t);
    odd = over_parts(odd, t);
#ifdef SABOTAGE
    even *= 1.5;
#endif
    for (var i = 0u; i < 4u; i += 1u) {
        if (t < SUMS && 4u * four + i < GROUP) {
            let at = partial_at(split, kv_head * GROUP + 4u * four + i) + 2u * word;
            partials[at] = even[i];
            partials[at + 1u] = odd[i];
        }
        let query = 4u * (t / LANES) + i;
        if (t % LANES == 0u && query < GROUP) {
            let at = stats_at(split, kv_head * GROUP + query);
            partials[at] = highest[i];
            partials[at + 1u] = total[i];
        }
    }
}
