// Merges the splits of the attention; output product, added to the residual stream.
#import shared/state
#import shared/matvec
#import shared/merged
#import shared/sum_out
#import @q

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) t: u32) {
    prepare(t);
    q_rows(workgroup.x, t);
}
