// Final norm and head for one row of the batch. A matrix beyond the binding limit comes in parts.
#import shared/state
#import shared/matvec
#import shared/normed
@group(0) @binding(5) var<storage, read_write> logits: array<f32>;

fn emit(row: u32, rows: u32, sums: vec4f) {
    for (var i = 0u; i < rows; i += 1u) {
        logits[PART_FIRST + row + i] = sums[i];
    }
}

#import @q

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) t: u32) {
    prepare(state.last_row, workgroup.x, t);
    q_rows(workgroup.x, t);
}
