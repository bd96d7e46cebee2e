// Norm, Q K V products, biases: [Q | K | V] of one token. Up to three matrices of different formats.
#import shared/state
#import shared/matvec
#import shared/normed
@group(0) @binding(5) var<storage, read_write> qkv: array<f32>;

fn emit(row: u32, rows: u32, sums: vec4f) {
    for (var i = 0u; i < rows; i += 1u) {
        var value = sums[i];
#ifdef BIAS
        value += vectors[QKV_BIAS + (row + i) / 4u][(row + i) % 4u];
#endif
        qkv[row + i] = value;
    }
}

#import @q
#ifdef SEGMENT2
#import @k
#endif
#ifdef SEGMENT3
#import @v
#endif

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) t: u32) {
    prepare(0u, workgroup.x, t);
#ifdef SEGMENT3
    if (workgroup.x >= q_GROUPS + k_GROUPS) {
        v_rows(workgroup.x - q_GROUPS - k_GROUPS, t);
        return;
    }
#endif
#ifdef SEGMENT2
    if (workgroup.x >= q_GROUPS) {
        k_rows(workgroup.x - q_GROUPS, t);
        return;
    }
#endif
    q_rows(workgroup.x, t);
}
