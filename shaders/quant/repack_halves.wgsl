// Sixteen bits a weight, as in the file; rows are filled up with zeros to whole blocks.
fn FMT_half(row: u32, col: u32) -> u32 {
    if (col >= chunk.cols) {
        return 0u;
    }
    return raw16((row * chunk.cols + col) * 2u);
}

fn FMT_repack(row: u32, block: u32, to: u32) {
    for (var i = 0u; i < 16u; i += 1u) {
        let col = block * 32u + 2u * i;
        planes[chunk.quads + (to * chunk.blocks + block) * 16u + i] = FMT_half(row, col) | (FMT_half(row, col + 1u) << 16u);
    }
}
