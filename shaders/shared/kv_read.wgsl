// The cache's rows of keys and values: halves, or signed bytes with the row's scale in the quad behind them. The kernel
// binds `keys` as quads.
#ifdef KV_INT8
const KEY_QUADS: u32 = HEAD_ROOM / 16u + 1u;
const VALUE_WORDS: u32 = HEAD_ROOM / 4u + 4u;
#else
const KEY_QUADS: u32 = HEAD_ROOM / 8u;
const VALUE_WORDS: u32 = HEAD_ROOM / 2u;
#endif

#ifdef KV_INT8
#import shared/signed_bytes
#endif

struct Eight {
    a: vec4f,
    b: vec4f,
}

// Elements 8i..8i+8 of a key, still to be multiplied by key_scale.
fn key8(row: u32, i: u32) -> Eight {
#ifdef KV_INT8
    let q = keys[row * KEY_QUADS + i / 2u];
    let pair = select(q.xy, q.zw, i % 2u == 1u);
    return Eight(signed_bytes(pair.x), signed_bytes(pair.y));
#else
    let k = keys[row * KEY_QUADS + i];
    return Eight(
        vec4f(unpack2x16float(k.x), unpack2x16float(k.y)),
        vec4f(unpack2x16float(k.z), unpack2x16float(k.w)),
    );
#endif
}

fn key_scale(row: u32) -> f32 {
#ifdef KV_INT8
    return bitcast<f32>(keys[row * KEY_QUADS + HEAD_ROOM / 16u].x);
#else
    return 1.0;
#endif
}
