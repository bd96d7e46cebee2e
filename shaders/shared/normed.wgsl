// The normed residual stream as a kernel's input.
@group(0) @binding(3) var<storage, read> residual: array<vec4f>;
// Norms and biases of the layer, each beginning a quad.
@group(0) @binding(4) var<storage, read> vectors: array<vec4f>;

#ifdef POST_NORM
// The product before, which has a norm of its own and is then added to the stream.
@group(0) @binding(6) var<storage, read> added: array<vec4f>;
#ifdef KEEPS
// The sum, for whoever comes next: not in place, for every workgroup reads both.
@group(0) @binding(7) var<storage, read_write> stream: array<vec4f>;
#endif

var<private> added_inverse_rms: f32;
#endif
var<private> first_quad: u32;
var<private> inverse_rms: f32;

fn stream4(i: u32) -> vec4f {
#ifdef POST_NORM
    return residual[first_quad + i] + added[first_quad + i] * added_inverse_rms * vectors[ADDED_NORM + i];
#else
    return residual[first_quad + i];
#endif
}

fn prepare(row: u32, workgroup: u32, t: u32) {
    first_quad = row * BLOCKS * 8u;
    var sum = 0.0;
#ifdef POST_NORM
    for (var i = t; i < BLOCKS * 8u; i += WG) {
        let x = added[first_quad + i];
        sum += dot(x, x);
    }
    added_inverse_rms = inverseSqrt(workgroup_sum(sum, t) / f32(COLS) + NORM_EPS);
    workgroupBarrier();
    sum = 0.0;
#endif
    for (var i = t; i < BLOCKS * 8u; i += WG) {
        let x = stream4(i);
        sum += dot(x, x);
#ifdef KEEPS
        if (workgroup == 0u) {
            stream[first_quad + i] = x;
        }
#endif
    }
    inverse_rms = inverseSqrt(workgroup_sum(sum, t) / f32(COLS) + NORM_EPS);
}

fn input4(i: u32) -> vec4f {
    return stream4(i) * inverse_rms * vectors[NORM + i];
}
