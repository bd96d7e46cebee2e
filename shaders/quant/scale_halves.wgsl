// One half a block, two in a word, each row beginning a word.
#ifdef REPACK
// A block has FMT_BYTES bytes and begins with its half.
fn FMT_repack_scale(row: u32, block: u32, to: u32) {
    // Two blocks share a word: the first of them writes it.
    if (block % 2u == 0u) {
        let at = (row * chunk.blocks + block) * FMT_BYTES;
        var word = raw16(at);
        if (block + 1u < chunk.blocks) {
            word |= raw16(at + FMT_BYTES) << 16u;
        }
        planes[chunk.scales + to * ((chunk.blocks + 1u) / 2u) + block / 2u] = word;
    }
}
#else
fn FMT_scale(row: u32, block: u32) -> f32 {
    return halves(words[FMT_WORDS + row * ((BLOCKS + 1u) / 2u) + block / 2u])[block % 2u];
}
#endif
