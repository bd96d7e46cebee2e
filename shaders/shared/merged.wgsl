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
        var total = 0.0;
        for (var s = 0u; s < splits; s += 1u) {
            let stats = split_stats(s, head);
            let best = max(highest, stats.x);
            total = total * exp(highest - best) + stats.y * exp(stats.x - best);
            highest = best;
            shares[head * MAX_SPLITS + s] = stats.x;
        }
        for (var s = 0u; s < splits; s += 1u) {
            shares[head * MAX_SPLITS + s] = exp(shares[head * MAX_SPLITS + s] - highest) / total;
        }
    }
    workgroupBarrier();
}

fn split_stats(split: u32, head: u32) -> vec2f {
    let i = stats_at(split, head);
    return vec2f(partials[i / 4u][i % 4u], partials[i / 4u][i % 4u + 1u]);
}

// Elements 4i..4i+4 of one split's sum, as much as it counts.
fn part4(split: u32, i: u32) -> vec4f {
    let head = min(4u * i / HEAD_DIM, HEADS - 1u);
    let share = select(0.0, shares[head * MAX_SPLITS + split], 4u * i < HEADS * HEAD_DIM);
    return share * partials[(partial_at(split, head) + 4u * i % HEAD_DIM) / 4u];
}

#ifdef MATVEC
fn input_block(block: u32) -> Values {
    let i = 8u * block;
    var sum = Values();
    for (var s = 0u; s < splits; s += 1u) {
        sum.v0 += part4(s, i);
        sum.v1 += part4(s, i + 1u);
        sum.v2 += part4(s, i + 2u);
        sum.v3 += part4(s, i + 3u);
        sum.v4 += part4(s, i + 4u);
        sum.v5 += part4(s, i + 5u);
        sum.v6 += part4(s, i + 6u);
        sum.v7 += part4(s, i + 7u);
    }
    return sum;
}
#else
fn input4(i: u32) -> vec4f {
    var sum = vec4f();
    for (var s = 0u; s < splits; s += 1u) {
        sum += part4(s, i);
    }
    return sum;
}
#endif
