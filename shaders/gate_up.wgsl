// Norm, gate and up products (rows of the two alternate), activation(gate) * up.
#import shared/state
#import shared/matvec
#import shared/normed
#import shared/activation
@group(0) @binding(5) var<storage, read_write> gated: array<f32>;

fn emit(row: u32, rows: u32, sums: vec4f) {
    gated[row / 2u] = activation(sums.x) * sums.y;
#ifdef RPG4
    if (rows > 2u) {
        gated[row / 2u + 1u] = activation(sums.z) * sums.w;
    }
#endif
}

#import @q

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) t: u32) {
    prepare(0u, t);
    q_rows(workgroup.x, t);
}
