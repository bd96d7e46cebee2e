// Planes: nibbles as in the file; scales and minima as pairs.
#include quant/nibbles
#include quant/scale_pairs
#ifdef REPACK
const FMT_BYTES: u32 = 20u;

fn FMT_repack(row: u32, block: u32, to: u32) {
    FMT_copy_nibbles((row * chunk.blocks + block) * FMT_BYTES + 4u, block, to);
    FMT_repack_scale(row, block, to);
}
#else
fn FMT_quants(row: u32, block: u32) -> Quants {
    return FMT_nibbles(row, block);
}
#include quant/ints
#endif
