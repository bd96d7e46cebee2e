// Planes: nibbles as in the file; fifth bits; scales and minima as pairs.
#include quant/fifth_bits
#include quant/scale_pairs
#ifdef REPACK
const FMT_BYTES: u32 = 24u;

fn FMT_repack(row: u32, block: u32, to: u32) {
    let at = (row * chunk.blocks + block) * FMT_BYTES;
    FMT_store_fifth_bits(FMT_order_fifth_bits(raw32(at + 4u)), block, to);
    FMT_copy_nibbles(at + 8u, block, to);
    FMT_repack_scale(row, block, to);
}
#else
#include quant/ints
#endif
