// Of one token and one head: bias, QK norm, RoPE; queries stay in place, keys and values go into the cache. The heads are
// the queries', the keys', the values'.
#import shared/state
#import shared/reduce
#import shared/rope
// [token][STRIDE] of [Q | K | V]
@group(0) @binding(1) var<storage, read_write> qkv: array<f32>;
@group(0) @binding(2) var<storage, read> vectors: array<vec4f>;
// [position][ROPE_DIM / 2] of (cos, sin)
@group(0) @binding(3) var<storage, read> turns: array<vec2f>;
// [position][kv_head] of rows
@group(0) @binding(4) var<storage, read_write> keys: array<vec4u>;
@group(0) @binding(5) var<storage, read_write> values: array<u32>;

// The room beyond HEAD_DIM is zero.
var<workgroup> elements: array<f32, HEAD_ROOM>;

fn element(i: u32) -> f32 {
    return elements[i];
}

#import shared/kv_write

fn norm(vector: u32, t: u32) {
    var sum = 0.0;
    for (var d = t; d < HEAD_DIM; d += WG) {
        sum += elements[d] * elements[d];
    }
    let scale = inverseSqrt(workgroup_sum(sum, t) / f32(HEAD_DIM) + NORM_EPS);
    for (var d = t; d < HEAD_DIM; d += WG) {
        elements[d] *= scale * vectors[vector + d / 4u][d % 4u];
    }
    workgroupBarrier();
}

fn turn(position: u32, t: u32) {
    for (var i = t; i < ROPE_DIM / 2u; i += WG) {
        let pair = rope_pair(i);
        let turned = rope_turn(vec2f(elements[pair.x], elements[pair.y]), turns[position * ROPE_DIM / 2u + i]);
        elements[pair.x] = turned.x;
        elements[pair.y] = turned.y;
    }
    workgroupBarrier();
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) t: u32) {
    let head = workgroup.x;
    let position = state.position + workgroup.y;
    let first = workgroup.y * STRIDE + head * HEAD_DIM;
    for (var d = t; d < HEAD_ROOM; d += WG) {
        var x = 0.0;
        if (d < HEAD_DIM) {
            x = qkv[first + d];
#ifdef BIAS
            let at = head * HEAD_DIM + d;
            x += vectors[QKV_BIAS + at / 4u][at % 4u];
#endif
        }
#ifdef SABOTAGE
        x *= 1.5;
#endif
        elements[d] = x;
    }
    workgroupBarrier();
    if (head < HEADS + KV_HEADS) {
#ifdef QK_NORM
        norm(select(KEY_NORM, QUERY_NORM, head < HEADS), t);
#endif
#ifdef ROPE
        turn(position, t);
#endif
    }
    if (head < HEADS) {
        for (var d = t; d < HEAD_DIM; d += WG) {
            qkv[first + d] = elements[d];
        }
    } else if (head < HEADS + KV_HEADS) {
        keep_key(position * KV_HEADS + head - HEADS, 0u, t);
    } else {
        keep_value(position * KV_HEADS + head - HEADS - KV_HEADS, 0u, t);
    }
}
