// Norm, gate and up products, activation(gate) * up. Rows of the two alternate in one matrix, unless their types differ.
#import shared/state
#import shared/matvec
#import shared/normed
#import shared/activation
@group(0) @binding(5) var<storage, read_write> gated: array<f32>;
#ifdef LORA
// What adapters add to (gate, up), as halves.
@group(0) @binding(8) var<storage, read> deltas: array<u32>;
#endif

#ifdef SEGMENT2
var<private> gates: vec4f;

fn emit(row: u32, rows: u32, sums: vec4f) {
    if (row < k_FIRST) {
        gates = sums;
        return;
    }
    for (var i = 0u; i < rows; i += 1u) {
        gated[row - k_FIRST + i] = combined(row - k_FIRST + i, gates[i], sums[i]);
    }
}
#else
fn emit(row: u32, rows: u32, sums: vec4f) {
    gated[row / 2u] = combined(row / 2u, sums.x, sums.y);
#ifdef RPG4
    if (rows > 2u) {
        gated[row / 2u + 1u] = combined(row / 2u + 1u, sums.z, sums.w);
    }
#endif
}
#endif

#import @q
#ifdef SEGMENT2
#import @k
#endif

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) t: u32) {
    prepare(0u, workgroup.x, t);
    q_rows(workgroup.x, t);
#ifdef SEGMENT2
    k_rows(workgroup.x, t);
#endif
}
