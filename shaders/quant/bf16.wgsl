#ifdef REPACK
#include quant/repack_halves
#else
#import quant/common
fn FMT_pair(low: u32, high: u32) -> vec4f {
    return bitcast<vec4f>(vec4u(low << 16u, low & 0xffff0000u, high << 16u, high & 0xffff0000u));
}

fn FMT_values(row: u32, block: u32) -> Values {
    let i = FMT_QUADS + (row * BLOCKS + block) * 4u;
    let a = quads[i];
    let b = quads[i + 1u];
    let c = quads[i + 2u];
    let d = quads[i + 3u];
    return Values(
        FMT_pair(a.x, a.y), FMT_pair(a.z, a.w), FMT_pair(b.x, b.y), FMT_pair(b.z, b.w),
        FMT_pair(c.x, c.y), FMT_pair(c.z, c.w), FMT_pair(d.x, d.y), FMT_pair(d.z, d.w),
    );
}
#include quant/floats
#endif
