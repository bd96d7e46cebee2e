// Of a batch: norms a product and adds it to the residual stream; nothing is left of it. One workgroup a token.
#import shared/reduce
@group(0) @binding(1) var<storage, read_write> residual: array<vec4f>;
@group(0) @binding(2) var<storage, read> vectors: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> added: array<vec4f>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) t: u32) {
    let first = workgroup.y * BLOCKS * 8u;
    var sum = 0.0;
    for (var i = t; i < BLOCKS * 8u; i += WG) {
        let x = added[first + i];
        sum += dot(x, x);
    }
    var scale = inverseSqrt(workgroup_sum(sum, t) / f32(COLS) + NORM_EPS);
#ifdef SABOTAGE
    scale *= 1.5;
#endif
    for (var i = t; i < BLOCKS * 8u; i += WG) {
        residual[first + i] += added[first + i] * scale * vectors[NORM + i];
        added[first + i] = vec4f();
    }
}
