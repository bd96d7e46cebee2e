// Planes: nibbles as in the file; fifth bits; scales as halves.
#include quant/fifth_bits
#include quant/scale_halves
#ifdef REPACK
const FMT_BYTES: u32 = 22u;

fn FMT_repack(row: u32, block: u32, to: u32) {
    let at = (row * chunk.blocks + block) * FMT_BYTES;
    FMT_store_fifth_bits(FMT_order_fifth_bits(raw32(at + 2u)), block, to);
    FMT_copy_nibbles(at + 6u, block, to);
    FMT_repack_scale(row, block, to);
}
#else
fn FMT_scales(row: u32, block: u32) -> vec3f {
    let d = FMT_scale(row, block);
    return vec3f(d, d, -16.0 * d);
}
#include quant/ints
#endif
