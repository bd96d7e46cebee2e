// What attention found, as a kernel's input: the merged sums of its splits.
#import shared/partials
@group(0) @binding(3) var<storage, read> partials: array<vec4f>;

// Of each head and split: its share of the sum.
var<workgroup> shares: array<f32, HEADS * MAX_SPLITS>;
var<private> splits: u32;

fn prepare(t: u32) {
    splits = split_count(state.position + 1u);
    for (var head = t; head < HEADS; head += WG) {
        var highest = -1e30;
        for (var s = 0u; s < splits; s += 1u) {
            highest = max(highest, split_stats(s, head).x);
        }
        var total = 0.0;
        for (var s = 0u; s < splits; s += 1u) {
            let stats = split_stats(s, head);
            let share = exp(stats.x - highest);
            shares[head * MAX_SPLITS + s] = share;
            total += share * stats.y;
        }
        for (var s = 0u; s < splits; s += 1u) {
            shares[head * MAX_SPLITS + s] /= total;
        }
    }
    workgroupBarrier();
}

fn split_stats(split: u32, head: u32) -> vec2f {
    let i = stats_at(split, head);
    return vec2f(partials[i / 4u][i % 4u], partials[i / 4u][i % 4u + 1u]);
}

fn input4(i: u32) -> vec4f {
    let head = 4u * i / HEAD_DIM;
    if (head >= HEADS) {
        return vec4f();
    }
    var sum = vec4f();
    for (var s = 0u; s < splits; s += 1u) {
        sum += shares[head * MAX_SPLITS + s] * partials[(partial_at(s, head) + 4u * i % HEAD_DIM) / 4u];
    }
    return sum;
}
