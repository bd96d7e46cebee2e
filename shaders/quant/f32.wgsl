#ifdef REPACK
fn FMT_repack(row: u32, block: u32, to: u32) {
    for (var i = 0u; i < 32u; i += 1u) {
        let col = block * 32u + i;
        var word = 0u;
        if (col < chunk.cols) {
            word = raw[row * chunk.cols + col];
        }
        planes[chunk.quads + (to * chunk.blocks + block) * 32u + i] = word;
    }
}
#else
#import quant/common
fn FMT_values(row: u32, block: u32) -> Values {
    let i = FMT_QUADS + (row * BLOCKS + block) * 8u;
    return Values(
        bitcast<vec4f>(quads[i]), bitcast<vec4f>(quads[i + 1u]), bitcast<vec4f>(quads[i + 2u]),
        bitcast<vec4f>(quads[i + 3u]), bitcast<vec4f>(quads[i + 4u]), bitcast<vec4f>(quads[i + 5u]),
        bitcast<vec4f>(quads[i + 6u]), bitcast<vec4f>(quads[i + 7u]),
    );
}
#include quant/floats
#endif
