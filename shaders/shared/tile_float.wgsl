// Floats times floats. Weights may wait in workgroup memory as halves; inputs not, for some models' leave their range.
#ifdef F16
alias Quad = vec4h;
#else
alias Quad = vec4f;
#endif
var<workgroup> tile_w: array<Quad, 8u * STEP * ROWS>;
var<workgroup> tile_x: array<vec4f, 8u * STEP * TOKENS>;

// Of a thread's four tokens, four rows each.
struct Sums {
    t0: vec4f, t1: vec4f, t2: vec4f, t3: vec4f,
}

fn load_weights(slot: u32, row: u32, b: u32, first: u32) {
    // Blocks beyond the last meet inputs of zero.
    let v = q_values(row, min(first + b, BLOCKS - 1u));
    let at = 8u * b * ROWS + slot;
    tile_w[at] = Quad(v.v0);
    tile_w[at + ROWS] = Quad(v.v1);
    tile_w[at + 2u * ROWS] = Quad(v.v2);
    tile_w[at + 3u * ROWS] = Quad(v.v3);
    tile_w[at + 4u * ROWS] = Quad(v.v4);
    tile_w[at + 5u * ROWS] = Quad(v.v5);
    tile_w[at + 6u * ROWS] = Quad(v.v6);
    tile_w[at + 7u * ROWS] = Quad(v.v7);
}

fn load_inputs(slot: u32, token: u32, inside: bool, b: u32, first: u32) {
    let block = first + b;
    for (var j = 0u; j < 8u; j += 1u) {
        var x = vec4f();
        if (inside && block < BLOCKS) {
            x = panel[(token * BLOCKS + block) * 8u + j];
        }
        tile_x[(8u * b + j) * TOKENS + slot] = x;
    }
}

fn multiply(sums: Sums, row4: u32, token4: u32) -> Sums {
    var out = sums;
    for (var k = 0u; k < 8u * STEP; k += 1u) {
        let at = k * ROWS + row4;
        let w0 = vec4f(tile_w[at]);
        let w1 = vec4f(tile_w[at + ROWS / 4u]);
        let w2 = vec4f(tile_w[at + ROWS / 2u]);
        let w3 = vec4f(tile_w[at + 3u * ROWS / 4u]);
        let x0 = tile_x[k * TOKENS + token4];
        let x1 = tile_x[k * TOKENS + token4 + 1u];
        let x2 = tile_x[k * TOKENS + token4 + 2u];
        let x3 = tile_x[k * TOKENS + token4 + 3u];
        out.t0 += vec4f(dot(w0, x0), dot(w1, x0), dot(w2, x0), dot(w3, x0));
        out.t1 += vec4f(dot(w0, x1), dot(w1, x1), dot(w2, x1), dot(w3, x1));
        out.t2 += vec4f(dot(w0, x2), dot(w1, x2), dot(w2, x2), dot(w3, x2));
        out.t3 += vec4f(dot(w0, x3), dot(w1, x3), dot(w2, x3), dot(w3, x3));
    }
    return out;
}
