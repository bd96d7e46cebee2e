// Signed bytes of weights times signed bytes of inputs.
var<workgroup> tile_w: array<vec4u, 2u * STEP * ROWS>;
var<workgroup> tile_x: array<vec4u, 2u * STEP * TOKENS>;
// Of each block of a row: scale and offset, and of one of a token: scale and scaled sum.
var<workgroup> low_scales: array<f32, STEP * ROWS>;
#ifdef TWO_SCALES
var<workgroup> high_scales: array<f32, STEP * ROWS>;
#endif
var<workgroup> offsets: array<f32, STEP * ROWS>;
var<workgroup> x_scales: array<vec2f, STEP * TOKENS>;

// Of a thread's four tokens, four rows each.
struct Sums {
    t0: vec4f, t1: vec4f, t2: vec4f, t3: vec4f,
}

fn load_weights(slot: u32, row: u32, b: u32, first: u32) {
    // Blocks beyond the last meet inputs of zero.
    let block = min(first + b, BLOCKS - 1u);
    let q = q_quants(row, block);
    let s = q_scales(row, block);
    tile_w[2u * b * ROWS + slot] = q.a;
    tile_w[(2u * b + 1u) * ROWS + slot] = q.b;
    low_scales[b * ROWS + slot] = s.x;
#ifdef TWO_SCALES
    high_scales[b * ROWS + slot] = s.y;
#endif
    offsets[b * ROWS + slot] = s.z;
}

fn load_inputs(slot: u32, token: u32, inside: bool, b: u32, first: u32) {
    var low = vec4u();
    var high = vec4u();
    var scale = vec2f();
    let block = first + b;
    if (inside && block < BLOCKS) {
        let at = token * BLOCKS + block;
        low = panel[2u * at];
        high = panel[2u * at + 1u];
        scale = panel_scales[at];
    }
    tile_x[2u * b * TOKENS + slot] = low;
    tile_x[(2u * b + 1u) * TOKENS + slot] = high;
    x_scales[b * TOKENS + slot] = scale;
}

// One block of four rows.
struct Weights {
    a0: vec4u, a1: vec4u, a2: vec4u, a3: vec4u,
    b0: vec4u, b1: vec4u, b2: vec4u, b3: vec4u,
    low: vec4f,
#ifdef TWO_SCALES
    high: vec4f,
#endif
    offset: vec4f,
}

fn dot16(a: vec4u, b: vec4u) -> i32 {
    return dot4I8Packed(a.x, b.x) + dot4I8Packed(a.y, b.y) + dot4I8Packed(a.z, b.z) + dot4I8Packed(a.w, b.w);
}

fn product(w: Weights, b: u32, token: u32) -> vec4f {
    let xa = tile_x[2u * b * TOKENS + token];
    let xb = tile_x[(2u * b + 1u) * TOKENS + token];
    let x = x_scales[b * TOKENS + token];
    let low = vec4i(dot16(w.a0, xa), dot16(w.a1, xa), dot16(w.a2, xa), dot16(w.a3, xa));
    let high = vec4i(dot16(w.b0, xb), dot16(w.b1, xb), dot16(w.b2, xb), dot16(w.b3, xb));
#ifdef TWO_SCALES
    return x.x * (w.low * vec4f(low) + w.high * vec4f(high)) + x.y * w.offset;
#else
    return x.x * w.low * vec4f(low + high) + x.y * w.offset;
#endif
}

fn four(slot: u32, b: u32) -> vec4u {
    return vec4u(0u, 1u, 2u, 3u) * (ROWS / 4u) + vec4u(b * ROWS + slot);
}

fn multiply(sums: Sums, row4: u32, token4: u32) -> Sums {
    var out = sums;
    for (var b = 0u; b < STEP; b += 1u) {
        let a = four(row4, 2u * b);
        let c = four(row4, 2u * b + 1u);
        let s = four(row4, b);
        let w = Weights(
            tile_w[a.x], tile_w[a.y], tile_w[a.z], tile_w[a.w],
            tile_w[c.x], tile_w[c.y], tile_w[c.z], tile_w[c.w],
            vec4f(low_scales[s.x], low_scales[s.y], low_scales[s.z], low_scales[s.w]),
#ifdef TWO_SCALES
            vec4f(high_scales[s.x], high_scales[s.y], high_scales[s.z], high_scales[s.w]),
#endif
            vec4f(offsets[s.x], offsets[s.y], offsets[s.z], offsets[s.w]),
        );
        out.t0 += product(w, b, token4);
        out.t1 += product(w, b, token4 + 1u);
        out.t2 += product(w, b, token4 + 2u);
        out.t3 += product(w, b, token4 + 3u);
    }
    return out;
}
