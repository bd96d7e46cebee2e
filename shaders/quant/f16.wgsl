#ifdef REPACK
#include quant/repack_halves
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
