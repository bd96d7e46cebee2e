#ifdef REPACK
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
#else
#import quant/common
fn FMT_values(row: u32, block: u32) -> Values {
    let i = FMT_QUADS + (row * BLOCKS + block) * 4u;
    let a = quads[i];
    let b = quads[i + 1u];
    let c = quads[i + 2u];
    let d = quads[i + 3u];
    return Values(
        vec4f(halves(a.x), halves(a.y)), vec4f(halves(a.z), halves(a.w)),
        vec4f(halves(b.x), halves(b.y)), vec4f(halves(b.z), halves(b.w)),
        vec4f(halves(c.x), halves(c.y)), vec4f(halves(c.z), halves(c.w)),
        vec4f(halves(d.x), halves(d.y)), vec4f(halves(d.z), halves(d.w)),
    );
}
#include quant/floats
#endif
