// Planes: nibbles; two words of the two bits above, of elements 0..16 and 16..32, where bits 8 j + 2 k and the next are
// element 4 k + j's; of a super-block d as a half in a word, then its sixteen signed scales, a byte each.
#include quant/nibbles
#ifdef REPACK
// In the file 128 elements have four runs of 32: nibbles in bytes 0.. and 32.., low then high, bit pairs in 32 bytes.
fn FMT_repack(row: u32, block: u32, to: u32) {
    let at = (row * chunk.blocks + block) / 8u * 210u;
    let half = block % 8u / 4u;
    let run = block % 4u;
    FMT_gather_nibbles(at + half * 64u + run % 2u * 32u, run / 2u * 4u, block, to);
    for (var i = 0u; i < 2u; i += 1u) {
        var bits = 0u;
        for (var k = 0u; k < 4u; k += 1u) {
            let word = raw32(at + 128u + half * 32u + i * 16u + 4u * k);
            bits |= ((word >> (2u * run)) & 0x03030303u) << (2u * k);
        }
        planes[chunk.high + (to * chunk.blocks + block) * 2u + i] = bits;
    }
    if (block % 8u == 0u) {
        let home = chunk.scales + (to * chunk.blocks + block) / 8u * 5u;
        planes[home] = raw16(at + 208u);
        for (var i = 0u; i < 4u; i += 1u) {
            planes[home + 1u + i] = raw32(at + 192u + 4u * i);
        }
    }
}
#else
// 0..64 to -32..32 in each byte; the topmost bit stands in for a borrow.
fn FMT_centre(q: vec4u) -> vec4u {
    return ((q | vec4u(0x80808080u)) - vec4u(0x20202020u)) ^ vec4u(0x80808080u);
}

fn FMT_quants(row: u32, block: u32) -> Quants {
    let q = FMT_nibbles(row, block);
    let i = FMT_HIGH + (row * BLOCKS + block) * 2u;
    let a = vec4u(words[i]);
    let b = vec4u(words[i + 1u]);
    let left = vec4u(4u, 2u, 0u, 0u);
    let right = vec4u(0u, 0u, 0u, 2u);
    let above = vec4u(0x30303030u);
    return Quants(
        FMT_centre(q.a | (((a << left) >> right) & above)),
        FMT_centre(q.b | (((b << left) >> right) & above)),
    );
}

// The two halves' scales differ: an offset could not serve both.
fn FMT_scales(row: u32, block: u32) -> vec3f {
    let home = FMT_WORDS + (row * BLOCKS + block) / 8u * 5u;
    let d = halves(words[home]).x;
    let pair = words[home + 1u + block % 8u / 2u] >> (16u * (block % 2u));
    return vec3f(d * signed_bytes(pair).xy, 0.0);
}
#include quant/ints
#endif
