// Gathers rows of the embedding into the residual stream; one thread a block. A matrix beyond the binding limit comes in
// parts, each of which serves its own rows.
#import shared/state
#import @q
@group(0) @binding(3) var<storage, read> tokens: array<u32>;
@group(0) @binding(4) var<storage, read_write> residual: array<vec4f>;
#ifdef POST_NORM
// Nothing is yet to be normed and added.
@group(0) @binding(5) var<storage, read_write> added: array<vec4f>;
#endif

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u) {
    let block = id.x;
    let t = id.y;
    if (block >= BLOCKS || t >= state.tokens) {
        return;
    }
    // Below FIRST this wraps around and is too large.
    let row = tokens[t] - PART_FIRST;
    if (row >= q_ROWS) {
        return;
    }
    let v = q_values(row, block);
    let i = (t * BLOCKS + block) * 8u;
#ifdef SABOTAGE
    let scale = 1.5 * EMBEDDING_SCALE;
#else
    let scale = EMBEDDING_SCALE;
#endif
    residual[i] = scale * v.v0;
    residual[i + 1u] = scale * v.v1;
    residual[i + 2u] = scale * v.v2;
    residual[i + 3u] = scale * v.v3;
    residual[i + 4u] = scale * v.v4;
    residual[i + 5u] = scale * v.v5;
    residual[i + 6u] = scale * v.v6;
    residual[i + 7u] = scale * v.v7;
#ifdef POST_NORM
    for (var j = 0u; j < 8u; j += 1u) {
        added[i + j] = vec4f();
    }
#endif
}
