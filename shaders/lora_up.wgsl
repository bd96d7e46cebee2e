// An adapter's B times what lora_down made: added to what a step's product wrote, or kept for gate_up, which cannot be added to
// behind its activation. A thread makes one row for one token.

// Rows of halves.
@group(0) @binding(1) var<storage, read> factor_b: array<vec4u>;
// [token][slot][RANK]
@group(0) @binding(2) var<storage, read> low: array<vec4f>;
#ifdef PAIRED
// [token][STRIDE] of halves (gate, up).
@group(0) @binding(3) var<storage, read_write> deltas: array<u32>;
#else
// [token][STRIDE]
@group(0) @binding(3) var<storage, read_write> outputs: array<f32>;
#endif

fn product(row: u32, token: u32, slot: u32) -> f32 {
    let first = (token * SLOTS + slot) * RANK / 4u;
    var sum = 0.0;
    for (var j = 0u; j < RANK / 8u; j += 1u) {
        let eight = factor_b[row * (RANK / 8u) + j];
        sum += dot(vec4f(unpack2x16float(eight.x), unpack2x16float(eight.y)), low[first + 2u * j]);
        sum += dot(vec4f(unpack2x16float(eight.z), unpack2x16float(eight.w)), low[first + 2u * j + 1u]);
    }
    return sum;
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u) {
    let row = id.x;
    let token = id.y;
    if (row >= ROWS) {
        return;
    }
    let at = token * STRIDE + row;
#ifdef PAIRED
    var delta = vec2f(product(row, token, 0u), product(ROWS + row, token, 1u));
#ifdef ADDED
    delta += unpack2x16float(deltas[at]);
#endif
    deltas[at] = pack2x16float(delta);
#else
    let slot = select(0u, 1u, row >= SECOND) + select(0u, 1u, row >= THIRD);
    outputs[at] += product(row, token, slot);
#endif
}
