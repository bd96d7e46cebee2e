// A block's scale and minimum: two halves in one word.
#ifdef REPACK
// A block has FMT_BYTES bytes and begins with them.
fn FMT_repack_scale(row: u32, block: u32, to: u32) {
    planes[chunk.scales + to * chunk.blocks + block] = raw32((row * chunk.blocks + block) * FMT_BYTES);
}
#else
fn FMT_scales(row: u32, block: u32) -> vec3f {
    let pair = halves(words[FMT_WORDS + row * BLOCKS + block]);
    return vec3f(pair.x, pair.x, pair.y);
}
#endif
