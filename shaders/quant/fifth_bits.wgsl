// Quants of five bits: nibbles, and a word of fifth bits whose bit 8 j + k is element 4 k + j's. So one shift brings the
// bits of four elements to where their bytes want them.
#include quant/nibbles
#ifdef REPACK
fn FMT_store_fifth_bits(bits: u32, block: u32, to: u32) {
    planes[chunk.high + to * chunk.blocks + block] = bits;
}

// The file's word: bit i is element i's.
fn FMT_order_fifth_bits(bits: u32) -> u32 {
    var ordered = 0u;
    for (var i = 0u; i < 32u; i += 1u) {
        ordered |= ((bits >> i) & 1u) << (8u * (i % 4u) + i / 4u);
    }
    return ordered;
}
#else
fn FMT_quants(row: u32, block: u32) -> Quants {
    let q = FMT_nibbles(row, block);
    let bits = vec4u(words[FMT_HIGH + row * BLOCKS + block]);
    let fifth = vec4u(0x10101010u);
    return Quants(
        q.a | ((bits << vec4u(4u, 3u, 2u, 1u)) & fifth),
        q.b | ((bits >> vec4u(0u, 1u, 2u, 3u)) & fifth),
    );
}
#endif
