// The normed residual stream as a kernel's input.
@group(0) @binding(3) var<storage, read> residual: array<vec4f>;
// Norms and biases of the layer, each beginning a quad.
@group(0) @binding(4) var<storage, read> vectors: array<vec4f>;

var<private> first_quad: u32;
var<private> inverse_rms: f32;

fn prepare(row: u32, t: u32) {
    first_quad = row * BLOCKS * 8u;
    var sum = 0.0;
    for (var i = t; i < BLOCKS * 8u; i += WG) {
        let x = residual[first_quad + i];
        sum += dot(x, x);
    }
    inverse_rms = inverseSqrt(workgroup_sum(sum, t) / f32(COLS) + NORM_EPS);
}

fn input4(i: u32) -> vec4f {
    return residual[first_quad + i] * inverse_rms * vectors[NORM + i];
}
