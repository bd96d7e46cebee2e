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
const TILE: u32 = 128u;
// Signed bytes, eight in a pair.
var<workgroup> tile_x: array<vec2u, 4u * TILE>;
#else
const TILE: u32 = 64u;
var<workgroup> tile_x: array<Quad, 8u * TILE>;
#endif
// Of each block: its scale, and the sum of its (quantized) elements.
var<workgroup> tile_scale: array<vec2f, TILE>;

#ifndef MERGED
fn input_block(block: u32) -> Values {
    let i = 8u * block;
    return Values(
        input4(i), input4(i + 1u), input4(i + 2u), input4(i + 3u),
        input4(i + 4u), input4(i + 5u), input4(i + 6u), input4(i + 7u),
    );
}
#endif

// A thread loads whole blocks: nobody has to be waited for in between, and all its loads are under way at once.
fn load_tile(first: u32, count: u32, t: u32) {
    // Whoever still reads the last tile.
    workgroupBarrier();
    for (var b = t; b < count; b += WG) {
        let x = input_block(first + b);
#ifdef SCALED
        let low = max(max(abs(x.v0), abs(x.v1)), max(abs(x.v2), abs(x.v3)));
        let high = max(max(abs(x.v4), abs(x.v5)), max(abs(x.v6), abs(x.v7)));
        let highest = max(low, high);
        let peak = max(max(highest.x, highest.y), max(highest.z, highest.w));
#endif
#ifdef DOT
        let inverse = select(0.0, 127.0 / peak, peak > 0.0);
        let i0 = vec4i(round(x.v0 * inverse));
        let i1 = vec4i(round(x.v1 * inverse));
        let i2 = vec4i(round(x.v2 * inverse));
        let i3 = vec4i(round(x.v3 * inverse));
        let i4 = vec4i(round(x.v4 * inverse));
        let i5 = vec4i(round(x.v5 * inverse));
        let i6 = vec4i(round(x.v6 * inverse));
        let i7 = vec4i(round(x.v7 * inverse));
        tile_x[4u * b] = vec2u(pack(i0), pack(i1));
        tile_x[4u * b + 1u] = vec2u(pack(i2), pack(i3));
        tile_x[4u * b + 2u] = vec2u(pack(i4), pack(i5));
        tile_x[4u * b + 3u] = vec2u(pack(i6), pack(i7));
        let sum = vec4f(i0 + i1 + i2 + i3 + i4 + i5 + i6 + i7);
        let scale = peak / 127.0;
#else
#ifdef F16
        let inverse = select(0.0, 1.0 / peak, peak > 0.0);
        let scale = peak;
#else
        let inverse = 1.0;
        let scale = 1.0;
#endif
        tile_x[8u * b] = Quad(x.v0 * inverse);
        tile_x[8u * b + 1u] = Quad(x.v1 * inverse);
        tile_x[8u * b + 2u] = Quad(x.v2 * inverse);
        tile_x[8u * b + 3u] = Quad(x.v3 * inverse);
        tile_x[8u * b + 4u] = Quad(x.v4 * inverse);
        tile_x[8u * b + 5u] = Quad(x.v5 * inverse);
        tile_x[8u * b + 6u] = Quad(x.v6 * inverse);
        tile_x[8u * b + 7u] = Quad(x.v7 * inverse);
        let sum = (x.v0 + x.v1 + x.v2 + x.v3 + x.v4 + x.v5 + x.v6 + x.v7) * inverse;
#endif
        tile_scale[b] = vec2f(scale, sum.x + sum.y + sum.z + sum.w);
    }
    workgroupBarrier();
}

fn pack(v: vec4i) -> u32 {
    let u = bitcast<vec4u>(v) & vec4u(255u);
    return u.x | (u.y << 8u) | (u.z << 16u) | (u.w << 24u);
}
