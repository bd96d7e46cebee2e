// Quants of four bits: low nibbles are elements 0..16 of a block, high ones 16..32.
#ifdef REPACK
// Sixteen bytes of the file that are so already.
fn FMT_copy_nibbles(from_byte: u32, block: u32, to: u32) {
    for (var i = 0u; i < 4u; i += 1u) {
        planes[chunk.quads + (to * chunk.blocks + block) * 4u + i] = raw32(from_byte + 4u * i);
    }
}

// 32 bytes of the file that hold the block's elements in order, all in the nibble that begins at bit `shift`.
fn FMT_gather_nibbles(from_byte: u32, shift: u32, block: u32, to: u32) {
    for (var i = 0u; i < 4u; i += 1u) {
        let low = (raw32(from_byte + 4u * i) >> shift) & 0x0f0f0f0fu;
        let high = (raw32(from_byte + 16u + 4u * i) >> shift) & 0x0f0f0f0fu;
        planes[chunk.quads + (to * chunk.blocks + block) * 4u + i] = low | (high << 4u);
    }
}
#else
#import quant/common
fn FMT_nibbles(row: u32, block: u32) -> Quants {
    let q = quads[FMT_QUADS + row * BLOCKS + block];
    return Quants(q & vec4u(0x0f0f0f0fu), (q >> vec4u(4u)) & vec4u(0x0f0f0f0fu));
}
#endif
