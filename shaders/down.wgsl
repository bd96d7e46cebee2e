// Down product, added to the residual stream.
#import shared/state
#import shared/matvec
#import shared/plain
#import shared/sum_out
#import @q

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) t: u32) {
    q_rows(workgroup.x, t);
}
