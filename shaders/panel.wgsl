// The inputs of a matrix product, one workgroup a token: normed, and for dot products as signed bytes with each block's
// scale and (scaled) sum.
#import shared/state
#ifdef NORMED
#import shared/reduce
#import shared/normed
#else
#import shared/plain
#endif
#ifdef DOT
@group(0) @binding(5) var<storage, read_write> panel: array<vec4u>;
@group(0) @binding(6) var<storage, read_write> panel_scales: array<vec2f>;

fn highest(v: vec4f) -> f32 {
    let a = abs(v);
    return max(max(a.x, a.y), max(a.z, a.w));
}

fn total(v: vec4i) -> i32 {
    return v.x + v.y + v.z + v.w;
}

// Sixteen elements from quad i on, and their sum.
struct Packed {
    quad: vec4u,
    sum: i32,
}

fn quantize(i: u32, inverse: f32) -> Packed {
    let a = vec4i(round(input4(i) * inverse));
    let b = vec4i(round(input4(i + 1u) * inverse));
    let c = vec4i(round(input4(i + 2u) * inverse));
    let d = vec4i(round(input4(i + 3u) * inverse));
    return Packed(vec4u(pack4xI8(a), pack4xI8(b), pack4xI8(c), pack4xI8(d)), total(a + b + c + d));
}
#else
@group(0) @binding(5) var<storage, read_write> panel: array<vec4f>;
#endif

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) t: u32) {
    let token = workgroup.y;
#ifdef HEAD
    let row = state.last_row + token;
#else
    let row = token;
#endif
#ifdef NORMED
    prepare(row, 0u, t);
#else
    prepare(row);
#endif
    for (var block = t; block < BLOCKS; block += WG) {
        let i = 8u * block;
        let to = token * BLOCKS + block;
#ifdef DOT
        var peak = 0.0;
        for (var j = 0u; j < 8u; j += 1u) {
            peak = max(peak, highest(input4(i + j)));
        }
        let inverse = select(0.0, 127.0 / peak, peak > 0.0);
        let low = quantize(i, inverse);
        let high = quantize(i + 4u, inverse);
        var scale = peak / 127.0;
#ifdef SABOTAGE
        scale *= 1.5;
#endif
        panel[2u * to] = low.quad;
        panel[2u * to + 1u] = high.quad;
        panel_scales[to] = vec2f(scale, scale * f32(low.sum + high.sum));
#else
        for (var j = 0u; j < 8u; j += 1u) {
#ifdef SABOTAGE
            panel[8u * to + j] = 1.5 * input4(i + j);
#else
            panel[8u * to + j] = input4(i + j);
#endif
        }
#endif
    }
}
