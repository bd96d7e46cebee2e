// Q4_K and Q5_K: of a super-block (d, dmin) as halves, then the (scale, minimum) of its eight blocks, a byte each.
#ifdef REPACK
// Twelve bytes of the file hold six bits of each.
fn FMT_scale_min(scales: u32, i: u32) -> u32 {
    if (i < 4u) {
        return (raw8(scales + i) & 63u) | ((raw8(scales + i + 4u) & 63u) << 8u);
    }
    let low = raw8(scales + i + 4u);
    let scale = (low & 15u) | ((raw8(scales + i - 4u) >> 6u) << 4u);
    let min = (low >> 4u) | ((raw8(scales + i) >> 6u) << 4u);
    return scale | (min << 8u);
}

// The super-block begins at byte `at`; the first of its blocks writes them all.
fn FMT_repack_scale(at: u32, block: u32, to: u32) {
    if (block % 8u == 0u) {
        let home = chunk.scales + (to * chunk.blocks + block) / 8u * 5u;
        planes[home] = raw32(at);
        for (var i = 0u; i < 4u; i += 1u) {
            planes[home + 1u + i] = FMT_scale_min(at + 4u, 2u * i) | (FMT_scale_min(at + 4u, 2u * i + 1u) << 16u);
        }
    }
}
#else
fn FMT_scales(row: u32, block: u32) -> vec3f {
    let home = FMT_WORDS + (row * BLOCKS + block) / 8u * 5u;
    let d = halves(words[home]);
    let bytes = words[home + 1u + block % 8u / 2u] >> (16u * (block % 2u));
    let scale = d.x * f32(bytes & 255u);
    return vec3f(scale, scale, -d.y * f32((bytes >> 8u) & 255u));
}
#endif
