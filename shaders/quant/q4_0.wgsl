// Planes: nibbles as in the file; scales as halves.
#include quant/nibbles
#include quant/scale_halves
#ifdef REPACK
const FMT_BYTES: u32 = 18u;

fn FMT_repack(row: u32, block: u32, to: u32) {
    FMT_copy_nibbles((row * chunk.blocks + block) * FMT_BYTES + 2u, block, to);
    FMT_repack_scale(row, block, to);
}
#else
fn FMT_quants(row: u32, block: u32) -> Quants {
    return FMT_nibbles(row, block);
}

// Scale of elements 0..16, of 16..32, offset.
fn FMT_scales(row: u32, block: u32) -> vec3f {
    let d = FMT_scale(row, block);
    return vec3f(d, d, -8.0 * d);
}
#include quant/ints
#endif
