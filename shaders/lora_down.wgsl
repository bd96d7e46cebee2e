// The inputs of a step times an adapter's A, scaled. One workgroup makes four rows for one token.
#import shared/state
#import shared/reduce
#ifdef NORMED
#import shared/normed
#else
#ifdef MERGED
#import shared/merged
#else
#import shared/plain
#endif
#endif
// Rows of halves, whole blocks.
@group(0) @binding(1) var<storage, read> factor_a: array<vec2u>;
// x: how much of the adapter.
@group(0) @binding(2) var<uniform> adapter: vec4f;
// [token][rows of A]
@group(0) @binding(5) var<storage, read_write> low: array<vec4f>;

var<workgroup> row_sums: array<vec4f, WG>;

fn a4(row: u32, i: u32) -> vec4f {
    let four = factor_a[row * BLOCKS * 8u + i];
    return vec4f(unpack2x16float(four.x), unpack2x16float(four.y));
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) t: u32) {
    let row = 4u * workgroup.x;
    let token = workgroup.y;
#ifdef NORMED
    prepare(token, 1u, t);
#else
#ifdef MERGED
    prepare(t);
#else
    prepare(token);
#endif
#endif
    var sums = vec4f();
    for (var i = t; i < BLOCKS * 8u; i += WG) {
        let x = input4(i);
        sums += vec4f(dot(a4(row, i), x), dot(a4(row + 1u, i), x), dot(a4(row + 2u, i), x), dot(a4(row + 3u, i), x));
    }
    row_sums[t] = sums;
    for (var step = WG / 2u; step > 0u; step /= 2u) {
        workgroupBarrier();
        if (t < step) {
            row_sums[t] += row_sums[t + step];
        }
    }
    if (t == 0u) {
        low[token * SLOTS * RANK / 4u + workgroup.x] = adapter.x * row_sums[0];
    }
}
