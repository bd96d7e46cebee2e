// Planes: nibbles, in the file block 2 c low and 2 c + 1 high in 32 bytes, here block by block; scales as supers.
#include quant/nibbles
#include quant/scale_supers
#ifdef REPACK
fn FMT_repack(row: u32, block: u32, to: u32) {
    let at = (row * chunk.blocks + block) / 8u * 144u;
    let sub = block % 8u;
    FMT_gather_nibbles(at + 16u + sub / 2u * 32u, 4u * (sub % 2u), block, to);
    FMT_repack_scale(at, block, to);
}
#else
fn FMT_quants(row: u32, block: u32) -> Quants {
    return FMT_nibbles(row, block);
}
#include quant/ints
#endif
