// Causal attention of a batch: one workgroup serves QUERIES tokens of one head, over tiles of the cache. Softmax goes along
// with the tiles, in f32. A thread adds up four elements of four tokens' outputs.
#import shared/state
// [token][QKV_STRIDE]
@group(0) @binding(1) var<storage, read> qkv: array<f32>;
// [position][kv_head] of rows
@group(0) @binding(2) var<storage, read> keys: array<vec4u>;
#ifdef KV_INT8
@group(0) @binding(3) var<storage, read> values: array<u32>;
#else
@group(0) @binding(3) var<storage, read> values: array<vec2u>;
#endif
// [token][STRIDE]
@group(0) @binding(4) var<storage, read_write> attended: array<f32>;

const TILE_KEYS: u32 = 32u;
const QUADS: u32 = HEAD_ROOM / 4u;
// Of scores, [key][query]: odd, so that neighbouring keys are in different banks.
const PITCH: u32 = QUERIES + 1u;

// The room beyond HEAD_DIM is zero.
var<workgroup> queries: array<vec4f, QUERIES * QUADS>;
var<workgroup> scores: array<f32, TILE_KEYS * PITCH>;
// Of each query: highest score, sum of exponentials, what the sums so far shrink by.
var<workgroup> stats: array<vec3f, QUERIES>;

fn load(head: u32, first: u32, t: u32) {
    for (var i = t; i < QUERIES * QUADS; i += WG) {
        let token = first + i / QUADS;
        let d = 4u * (i % QUADS);
        var x = vec4f();
        if (token < state.tokens && d < HEAD_DIM) {
            let at = token * QKV_STRIDE + head * HEAD_DIM + d;
            x = vec4f(qkv[at], qkv[at + 1u], qkv[at + 2u], qkv[at + 3u]) * ATTENTION_SCALE;
        }
        queries[i] = x;
    }
    for (var i = t; i < QUERIES; i += WG) {
        stats[i] = vec3f(-1e30, 0.0, 1.0);
    }
}

#import shared/kv_read

// Elements 4i..4i+4 of a value.
fn value4(row: u32, i: u32) -> vec4f {
#ifdef KV_INT8
    let scale = bitcast<f32>(values[row * VALUE_WORDS + HEAD_ROOM / 4u]);
    return scale * signed_bytes(values[row * VALUE_WORDS + i]);
#else
    let packed = values[row * QUADS + i];
    return vec4f(unpack2x16float(packed.x), unpack2x16float(packed.y));
#endif
}

// Of one key with four queries.
fn score(row: u32, query: u32) -> vec4f {
    var sum = vec4f();
    let q0 = query * QUADS;
    for (var i = 0u; i < HEAD_ROOM / 8u; i += 1u) {
        let k = key8(row, i);
        let a = k.a;
        let b = k.b;
        let q = q0 + 2u * i;
        sum += vec4f(
            dot(a, queries[q]) + dot(b, queries[q + 1u]),
            dot(a, queries[q + QUADS]) + dot(b, queries[q + QUADS + 1u]),
            dot(a, queries[q + 2u * QUADS]) + dot(b, queries[q + 2u * QUADS + 1u]),
            dot(a, queries[q + 3u * QUADS]) + dot(b, queries[q + 3u * QUADS + 1u]),
        );
    }
    return sum * key_scale(row);
}

// Whether the query at `position` sees the key at `at`.
fn masked(x: f32, at: u32, position: u32) -> f32 {
#ifdef WINDOW_SIZE
    return select(-1e30, x, at <= position && at + WINDOW > position);
#else
    return select(-1e30, x, at <= position);
#endif
}

// Scores to weights, with what they are relative to.
fn soften(query: u32) {
    let before = stats[query];
    var highest = before.x;
    for (var key = 0u; key < TILE_KEYS; key += 1u) {
        highest = max(highest, scores[key * PITCH + query]);
    }
    let shrink = exp(before.x - highest);
    var total = before.y * shrink;
    for (var key = 0u; key < TILE_KEYS; key += 1u) {
        let at = key * PITCH + query;
        // Masked scores are as low as the first highest: exp(0) must not count.
        let weight = select(0.0, exp(scores[at] - highest), scores[at] > -1e29);
        scores[at] = weight;
        total += weight;
    }
    stats[query] = vec3f(highest, total, shrink);
}

fn emit(token: u32, head: u32, d: u32, sum: vec4f, total: f32) {
    if (token >= state.tokens || d >= HEAD_DIM) {
        return;
    }
#ifdef SABOTAGE
    let x = 1.5 * sum / total;
#else
    let x = sum / total;
#endif
    let at = token * STRIDE + head * HEAD_DIM + d;
    attended[at] = x.x;
    attended[at + 1u] = x.y;
    attended[at + 2u] = x.z;
    attended[at + 3u] = x.w;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) t: u32) {
    let head = workgroup.x;
    let kv_head = head / GROUP;
    let first = workgroup.y * QUERIES;
    let position = state.position + first;
    let end = state.position + min(first + QUERIES, state.tokens);
    let quad = t % QUADS;
    let query4 = 4u * (t / QUADS);
    var sum0 = vec4f();
    var sum1 = vec4f();
    var sum2 = vec4f();
    var sum3 = vec4f();
    load(head, first, t);
    workgroupBarrier();

#ifdef WINDOW_SIZE
    let oldest = select(0u, position + 1u - WINDOW, position + 1u > WINDOW);
    let start = oldest / TILE_KEYS * TILE_KEYS;
#else
    let start = 0u;
#endif
    for (var tile = start; tile < end; tile += TILE_KEYS) {
        for (var i = t; i < TILE_KEYS * QUERIES / 4u; i += WG) {
            let key = i % TILE_KEYS;
            let query = i / TILE_KEYS * 4u;
            let at = tile + key;
            var x = vec4f(-1e30);
            if (at < end) {
                x = score(at * KV_HEADS + kv_head, query);
            }
            let to = key * PITCH + query;
            let own = position + query;
            scores[to] = masked(x.x, at, own);
            scores[to + 1u] = masked(x.y, at, own + 1u);
            scores[to + 2u] = masked(x.z, at, own + 2u);
            scores[to + 3u] = masked(x.w, at, own + 3u);
        }
        workgroupBarrier();
        for (var query = t; query < QUERIES; query += WG) {
            soften(query);
        }
        workgroupBarrier();
        sum0 *= stats[query4].z;
        sum1 *= stats[query4 + 1u].z;
        sum2 *= stats[query4 + 2u].z;
        sum3 *= stats[query4 + 3u].z;
        let count = min(TILE_KEYS, end - tile);
        for (var key = 0u; key < count; key += 1u) {
            let v = value4((tile + key) * KV_HEADS + kv_head, quad);
            let at = key * PITCH + query4;
            sum0 += scores[at] * v;
            sum1 += scores[at + 1u] * v;
            sum2 += scores[at + 2u] * v;
            sum3 += scores[at + 3u] * v;
        }
        workgroupBarrier();
    }
    let token = first + query4;
    emit(token, head, 4u * quad, sum0, stats[query4].y);
    emit(token + 1u, head, 4u * quad, sum1, stats[query4 + 1u].y);
    emit(token + 2u, head, 4u * quad, sum2, stats[query4 + 2u].y);
    emit(token + 3u, head, 4u * quad, sum3, stats[query4 + 3u].y);
}
