// The heads that one workgroup of the attention needs, normed and turned: of each group of four queries the rows, then the
// new key and value. The kernel binds `qkv`, `vectors` and `turns`, and defines over_lanes.
#import shared/rope

// The row of the new key; the value is the next one.
const NEW_KEY: u32 = 4u * FOURS;
const QUADS: u32 = HEAD_ROOM / 4u;

// The room beyond HEAD_DIM is zero.
var<workgroup> heads: array<vec4f, (NEW_KEY + 2u) * QUADS>;
#ifdef QK_NORM
var<workgroup> inverse_rms: array<f32, GROUP + 1u>;
#endif

// Element d of a query, of the new key (head GROUP) or value (GROUP + 1), as the product left it.
fn projected(kv_head: u32, head: u32, d: u32) -> f32 {
    let key_or_value = HEADS + kv_head + (head - GROUP) * KV_HEADS;
    return qkv[select(key_or_value, kv_head * GROUP + head, head < GROUP) * HEAD_DIM + d];
}

fn normed(kv_head: u32, head: u32, d: u32) -> f32 {
#ifdef QK_NORM
    let norm = select(QUERY_NORM, KEY_NORM, head == GROUP);
    return projected(kv_head, head, d) * inverse_rms[head] * vectors[norm + d / 4u][d % 4u];
#else
    return projected(kv_head, head, d);
#endif
}

fn turned(kv_head: u32, head: u32, d: u32, position: u32) -> f32 {
#ifdef ROPE
    if (d < ROPE_DIM) {
        let i = rope_pair_of(d);
        let pair = rope_pair(i);
        let both = vec2f(normed(kv_head, head, pair.x), normed(kv_head, head, pair.y));
        let turned = rope_turn(both, turns[position * ROPE_DIM / 2u + i]);
        return select(turned.x, turned.y, d == pair.y);
    }
#endif
    return normed(kv_head, head, d);
}

// Queries are scaled too.
fn load(kv_head: u32, position: u32, t: u32) {
#ifdef QK_NORM
    for (var first = 0u; first <= GROUP; first += WG / LANES) {
        let head = first + t / LANES;
        var sum = 0.0;
        for (var d = t % LANES; d < HEAD_DIM; d += LANES) {
            let x = projected(kv_head, min(head, GROUP), d);
            sum += x * x;
        }
        sum = over_lanes(vec4f(sum), false, t).x;
        if (t % LANES == 0u && head <= GROUP) {
            inverse_rms[head] = inverseSqrt(sum / f32(HEAD_DIM) + NORM_EPS);
        }
    }
    workgroupBarrier();
#endif
    for (var i = t; i < (NEW_KEY + 2u) * QUADS; i += WG) {
        let row = i / QUADS;
        let d = 4u * (i % QUADS);
        var x = vec4f();
        if (d < HEAD_DIM && (row < GROUP || row >= NEW_KEY)) {
            for (var j = 0u; j < 4u; j += 1u) {
                if (row < GROUP) {
                    x[j] = ATTENTION_SCALE * turned(kv_head, row, d + j, position);
                } else if (row == NEW_KEY) {
                    x[j] = turned(kv_head, GROUP, d + j, position);
                } else {
                    x[j] = projected(kv_head, GROUP + 1u, d + j);
                }
            }
        }
        heads[i] = x;
    }
    workgroupBarrier();
}

fn element(i: u32) -> f32 {
    return heads[i / 4u][i % 4u];
}
