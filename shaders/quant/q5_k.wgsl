// Planes: nibbles as of Q4_K; fifth bits, in the file bit i of 32 bytes for block i; scales as supers.
#include quant/fifth_bits
#include quant/scale_supers
#ifdef REPACK
fn FMT_repack(row: u32, block: u32, to: u32) {
    let at = (row * chunk.blocks + block) / 8u * 176u;
    let sub = block % 8u;
    var bits = 0u;
    for (var k = 0u; k < 8u; k += 1u) {
        bits |= ((raw32(at + 16u + 4u * k) >> sub) & 0x01010101u) << k;
    }
    FMT_store_fifth_bits(bits, block, to);
    FMT_gather_nibbles(at + 48u + sub / 2u * 32u, 4u * (sub % 2u), block, to);
    FMT_repack_scale(at, block, to);
}
#else
#include quant/ints
#endif
