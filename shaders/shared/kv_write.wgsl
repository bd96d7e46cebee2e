// Puts a key and a value into the cache. The kernel binds `keys` as quads and `values` as words, and defines element(i); a
// row's elements are those from `base` on, its room beyond HEAD_DIM zero.
#import shared/kv_read

fn keep_key(row: u32, base: u32, t: u32) {
#ifdef KV_INT8
    let scale = peak(base) / 127.0;
    let inverse = select(0.0, 1.0 / scale, scale > 0.0);
    for (var i = t; i < HEAD_ROOM / 16u; i += WG) {
        let at = base + 16u * i;
        keys[row * KEY_QUADS + i] =
            vec4u(four(at, inverse), four(at + 4u, inverse), four(at + 8u, inverse), four(at + 12u, inverse));
    }
    if (t == 0u) {
        keys[row * KEY_QUADS + HEAD_ROOM / 16u] = vec4u(bitcast<u32>(scale), 0u, 0u, 0u);
    }
#else
    for (var i = t; i < HEAD_ROOM / 8u; i += WG) {
        let at = base + 8u * i;
        keys[row * KEY_QUADS + i] = vec4u(two(at), two(at + 2u), two(at + 4u), two(at + 6u));
    }
#endif
}

fn keep_value(row: u32, base: u32, t: u32) {
#ifdef KV_INT8
    let scale = peak(base) / 127.0;
    let inverse = select(0.0, 1.0 / scale, scale > 0.0);
    for (var i = t; i < HEAD_ROOM / 4u; i += WG) {
        values[row * VALUE_WORDS + i] = four(base + 4u * i, inverse);
    }
    if (t == 0u) {
        values[row * VALUE_WORDS + HEAD_ROOM / 4u] = bitcast<u32>(scale);
    }
#else
    for (var i = t; i < HEAD_ROOM / 2u; i += WG) {
        values[row * VALUE_WORDS + i] = two(base + 2u * i);
    }
#endif
}

#ifdef KV_INT8
fn peak(base: u32) -> f32 {
    var highest = 0.0;
    for (var d = 0u; d < HEAD_DIM; d += 1u) {
        highest = max(highest, abs(element(base + d)));
    }
    return highest;
}

fn four(at: u32, inverse: f32) -> u32 {
    let x = vec4f(element(at), element(at + 1u), element(at + 2u), element(at + 3u));
    let q = bitcast<vec4u>(vec4i(round(x * inverse))) & vec4u(255u);
    return q.x | (q.y << 8u) | (q.z << 16u) | (q.w << 24u);
}
#else
fn two(at: u32) -> u32 {
    return pack2x16float(vec2f(element(at), element(at + 1u)));
}
#endif
