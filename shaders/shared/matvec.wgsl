// A matrix times one vector. The kernel defines input4(i), elements 4i..4i+4 of the vector, zero beyond its end, and
// emit(row, rows, sums). The vector passes through workgroup memory in tiles of TILE blocks of 32. Halves hold a block
// divided by its largest element, for some models' inputs leave their range; sums are floats.
#import shared/reduce
#import quant/common

#ifdef F16
alias Quad = vec4h;
#else
alias Quad = vec4f;
#endif
#ifdef DOT
// Signed bytes, eight in a pair: what one thread writes, for components of one vector may not be written by two.
var<workgroup> tile_x: array<vec2u, 4u * TILE>;
#else
var<workgroup> tile_x: array<Quad, 8u * TILE>;
#endif
// Of each block: its scale, and the sum of its (quantized) elements.
var<workgroup> tile_scale: array<vec2f, TILE>;
var<workgroup> quarter: array<f32, WG>;

// Four threads load one block.
fn load_tile(first: u32, count: u32, t: u32) {
    let q = t % 4u;
    let home = t - q;
    for (var base = 0u; base < count; base += WG / 4u) {
        let b = base + t / 4u;
        var v0 = vec4f();
        var v1 = vec4f();
        if (b < count) {
            let i = (first + b) * 8u + q * 2u;
            v0 = input4(i);
            v1 = input4(i + 1u);
        }
        // Whoever still reads the last tile, or the quarters of the last pass, is waited for.
        workgroupBarrier();
        var scale = 1.0;
#ifdef SCALED
        let highest = max(abs(v0), abs(v1));
        quarter[t] = max(max(highest.x, highest.y), max(highest.z, highest.w));
        workgroupBarrier();
        let peak = max(max(quarter[home], quarter[home + 1u]), max(quarter[home + 2u], quarter[home + 3u]));
        workgroupBarrier();
#endif
#ifdef DOT
        scale = peak / 127.0;
        let inverse = select(0.0, 127.0 / peak, peak > 0.0);
        let i0 = vec4i(round(v0 * inverse));
        let i1 = vec4i(round(v1 * inverse));
        let both = vec4f(i0 + i1);
        quarter[t] = both.x + both.y + both.z + both.w;
        if (b < count) {
            tile_x[4u * b + q] = vec2u(pack(i0), pack(i1));
        }
#else
#ifdef F16
        scale = peak;
        let inverse = select(0.0, 1.0 / peak, peak > 0.0);
        v0 *= inverse;
        v1 *= inverse;
#endif
        let both = v0 + v1;
        quarter[t] = both.x + both.y + both.z + both.w;
        if (b < count) {
            tile_x[8u * b + 2u * q] = Quad(v0);
            tile_x[8u * b + 2u * q + 1u] = Quad(v1);
        }
#endif
        workgroupBarrier();
        if (q == 0u && b < count) {
            tile_scale[b] = vec2f(scale, quarter[t] + quarter[t + 1u] + quarter[t + 2u] + quarter[t + 3u]);
        }
    }
    workgroupBarrier();
}

fn pack(v: vec4i) -> u32 {
    let u = bitcast<vec4u>(v) & vec4u(255u);
    return u.x | (u.y << 8u) | (u.z << 16u) | (u.w << 24u);
}
