// Sums over a workgroup of WG, and over the LANES neighbours that share a row.
var<workgroup> partial_sums: array<f32, WG>;

fn workgroup_sum(value: f32, t: u32) -> f32 {
    partial_sums[t] = value;
    for (var step = WG / 2u; step > 0u; step /= 2u) {
        workgroupBarrier();
        if (t < step) {
            partial_sums[t] += partial_sums[t + step];
        }
    }
    workgroupBarrier();
    return partial_sums[0];
}

#ifdef MATVEC
#ifdef SUBGROUPS
// LANES is at most the subgroup's size; the self-test finds a GPU whose lanes are not in order.
fn lanes_sum(value: vec4f, t: u32) -> vec4f {
    var sum = value;
    for (var step = LANES / 2u; step > 0u; step /= 2u) {
        sum += subgroupShuffleXor(sum, step);
    }
    return sum;
}
#else
var<workgroup> lane_sums: array<vec4f, WG>;

// Good in each row's first lane.
fn lanes_sum(value: vec4f, t: u32) -> vec4f {
    lane_sums[t] = value;
    for (var step = LANES / 2u; step > 0u; step /= 2u) {
        workgroupBarrier();
        if (t % LANES < step) {
            lane_sums[t] += lane_sums[t + step];
        }
    }
    return lane_sums[t];
}
#endif
#endif
