// Planes: signed bytes as in the file; scales as halves.
#include quant/scale_halves
#ifdef REPACK
const FMT_BYTES: u32 = 34u;

fn FMT_repack(row: u32, block: u32, to: u32) {
    let at = (row * chunk.blocks + block) * FMT_BYTES;
    for (var i = 0u; i < 8u; i += 1u) {
        planes[chunk.quads + (to * chunk.blocks + block) * 8u + i] = raw32(at + 2u + 4u * i);
    }
    FMT_repack_scale(row, block, to);
}
#else
#import quant/common
fn FMT_quants(row: u32, block: u32) -> Quants {
    let i = FMT_QUADS + (row * BLOCKS + block) * 2u;
    return Quants(quads[i], quads[i + 1u]);
}

fn FMT_scales(row: u32, block: u32) -> vec3f {
    let d = FMT_scale(row, block);
    return vec3f(d, d, 0.0);
}
#include quant/ints
#endif
