// One token's attention: one workgroup serves all query heads of a key/value head over one split of the context.
// Before it: QK norms and RoPE; the split that holds the newest position puts its key and value into the cache.
#import shared/state
#import shared/reduce
#import shared/rope
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

const TILE_KEYS: u32 = 32u;
const WORDS: u32 = HEAD_ROOM / 2u;

// Queries of the group, then the new key and value; the room beyond HEAD_DIM is zero.
var<workgroup> heads: array<f32, (GROUP + 2u) * HEAD_ROOM>;
var<workgroup> scores: array<f32, GROUP * TILE_KEYS>;
var<workgroup> sums: array<vec2f, GROUP * WORDS>;
// Of each query: highest score, sum of exponentials, what the sums so far shrink by.
var<workgroup> stats: array<vec3f, GROUP>;

fn load(kv_head: u32, position: u32, t: u32) {
    for (var i = t; i < (GROUP + 2u) * HEAD_ROOM; i += WG) {
        let head = i / HEAD_ROOM;
        let d = i % HEAD_ROOM;
        var x = 0.0;
        if (d < HEAD_DIM) {
            let key_or_value = HEADS + kv_head + (head - GROUP) * KV_HEADS;
            let at = select(key_or_value, kv_head * GROUP + head, head < GROUP);
            x = qkv[at * HEAD_DIM + d];
        }
        heads[i] = x;
    }
    workgroupBarrier();
#ifdef QK_NORM
    for (var head = 0u; head <= GROUP; head += 1u) {
        var sum = 0.0;
        for (var d = t; d < HEAD_DIM; d += WG) {
            let x = heads[head * HEAD_ROOM + d];
            sum += x * x;
        }
        let scale = inverseSqrt(workgroup_sum(sum, t) / f32(HEAD_DIM) + NORM_EPS);
        let norm = select(QUERY_NORM, KEY_NORM, head == GROUP);
        for (var d = t; d < HEAD_DIM; d += WG) {
            heads[head * HEAD_ROOM + d] *= scale * vectors[norm + d / 4u][d % 4u];
        }
        workgroupBarrier();
    }
#endif
#ifdef ROPE
    for (var i = t; i < (GROUP + 1u) * ROPE_DIM / 2u; i += WG) {
        let pair = (i / (ROPE_DIM / 2u)) * HEAD_ROOM + rope_pair(i % (ROPE_DIM / 2u));
        let turned = rope_turn(
            vec2f(heads[pair.x], heads[pair.y]),
            turns[position * ROPE_DIM / 2u + i % (ROPE_DIM / 2u)],
        );
        heads[pair.x] = turned.x;
        heads[pair.y] = turned.y;
    }
    workgroupBarrier();
#endif
}

fn element(i: u32) -> f32 {
    return heads[i];
}

#import shared/kv_write

fn score(query: u32, row: u32) -> f32 {
    var sum = 0.0;
    for (var i = 0u; i < HEAD_ROOM / 8u; i += 1u) {
        let k = key8(row, i);
        let q = query * HEAD_ROOM + 8u * i;
        sum += dot(k.a, vec4f(heads[q], heads[q + 1u], heads[q + 2u], heads[q + 3u]));
        sum += dot(k.b, vec4f(heads[q + 4u], heads[q + 5u], heads[q + 6u], heads[q + 7u]));
    }
    return sum * ATTENTION_SCALE * key_scale(row);
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
    // Whole tiles; an empty split has sums of zero and counts for nothing.
    let length = ((positions + splits - 1u) / splits + TILE_KEYS - 1u) / TILE_KEYS * TILE_KEYS;
    let begin = min(split * length, positions);
    let end = min(begin + length, positions);

    load(kv_head, position, t);
    if (end == positions && begin < end) {
        keep_key(position * KV_HEADS + kv_head, GROUP * HEAD_ROOM, t);
        keep_value(position * KV_HEADS + kv_head, (GROUP + 1u) * HEAD_ROOM, t);
    }
    for (var i = t; i < GROUP * WORDS; i += WG) {
        sums[i] = vec2f();
    }
    for (var i = t; i < GROUP; i += WG) {
        stats[i] = vec3f(-1e30, 0.0, 1.0);
    }
    storageBarrier();
    workgroupBarrier();

#ifdef WINDOW_SIZE
    let oldest = select(0u, positions - WINDOW, positions > WINDOW);
    let start = max(begin, oldest / TILE_KEYS * TILE_KEYS);
#else
    let oldest = 0u;
    let start = begin;
#endif
    for (var tile = start; tile < end; tile += TILE_KEYS) {
        for (var i = t; i < GROUP * TILE_KEYS; i += WG) {
            let at = tile + i % TILE_KEYS;
            var x = -1e30;
            if (at >= oldest && at < end) {
                x = score(i / TILE_KEYS, at * KV_HEADS + kv_head);
            }
            scores[i] = x;
        }
        workgroupBarrier();
        for (var q = t; q < GROUP; q += WG) {
            var highest = stats[q].x;
            for (var i = 0u; i < TILE_KEYS; i += 1u) {
                highest = max(highest, scores[q * TILE_KEYS + i]);
            }
            let shrink = exp(stats[q].x - highest);
            var total = stats[q].y * shrink;
            for (var i = 0u; i < TILE_KEYS; i += 1u) {
                let at = q * TILE_KEYS + i;
                // Masked scores are as low as the first highest: exp(0) must not count.
                let weight = select(0.0, exp(scores[at] - highest), scores[at] > -1e29);
                scores[at] = weight;
                total += weight;
            }
            stats[q] = vec3f(highest, total, shrink);
        }
        workgroupBarrier();
        let count = min(TILE_KEYS, end - tile);
        for (var i = t; i < GROUP * WORDS; i += WG) {
            let q = i / WORDS;
            let word = i % WORDS;
            var sum = sums[i] * stats[q].z;
            for (var p = 0u; p < count; p += 1u) {
                sum += scores[q * TILE_KEYS + p] * value2((tile + p) * KV_HEADS + kv_head, word);
            }
            sums[i] = sum;
        }
        workgroupBarrier();
    }

    for (var i = t; i < GROUP * WORDS; i += WG) {
        let at = partial_at(split, kv_head * GROUP + i / WORDS) + 2u * (i % WORDS);
#ifdef SABOTAGE
        sums[i] *= 1.5;
#endif
        partials[at] = sums[i].x;
        partials[at + 1u] = sums[i].y;
    }
    for (var i = t; i < GROUP; i += WG) {
        let at = stats_at(split, kv_head * GROUP + i);
        partials[at] = stats[i].x;
        partials[at + 1u] = stats[i].y;
    }
}
