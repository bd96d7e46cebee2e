// Planes: nibbles as in the file; scales as halves, two in a word, each row beginning a word.
#ifdef REPACK
const FMT_BYTES: u32 = 18u;

fn FMT_repack(row: u32, block: u32, to: u32) {
    let at = (row * chunk.blocks + block) * FMT_BYTES;
    for (var i = 0u; i < 4u; i += 1u) {
        planes[chunk.quads + (to * chunk.blocks + block) * 4u + i] = raw32(at + 2u + 4u * i);
    }
    // Two blocks share a word: the first of them writes it.
    if (block % 2u == 0u) {
        var word = raw16(at);
        if (block + 1u < chunk.blocks) {
            word |= raw16(at + FMT_BYTES) << 16u;
        }
        planes[chunk.scales + to * ((chunk.blocks + 1u) / 2u) + block / 2u] = word;
    }
}
#else
#import quant/common
fn FMT_quants(row: u32, block: u32) -> Quants {
    let q = quads[FMT_QUADS + row * BLOCKS + block];
    return Quants(q & vec4u(0x0f0f0f0fu), (q >> vec4u(4u)) & vec4u(0x0f0f0f0fu));
}

// Scale of elements 0..16, of 16..32, offset.
fn FMT_scales(row: u32, block: u32) -> vec3f {
    let d = halves(words[FMT_WORDS + row * ((BLOCKS + 1u) / 2u) + block / 2u])[block % 2u];
    return vec3f(d, d, -8.0 * d);
}
#include quant/ints
#endif
