// A tile of a matrix product: ROWS rows of a matrix times TOKENS tokens of the batch, 4 x 4 to a thread. Weights and inputs
// pass through workgroup memory in steps of STEP blocks of 32 columns, a quad at a time: [quad][row] and [quad][token].
#import shared/state
#import quant/common
#ifdef GATED
#import shared/activation
#endif
#ifdef GATING
#import shared/activation
#endif
#ifdef DOT
@group(0) @binding(3) var<storage, read> panel: array<vec4u>;
@group(0) @binding(4) var<storage, read> panel_scales: array<vec2f>;
#else
@group(0) @binding(3) var<storage, read> panel: array<vec4f>;
#endif
// [token][STRIDE]
@group(0) @binding(5) var<storage, read_write> outputs: array<f32>;
#ifdef LORA
// What adapters add to (gate, up), as halves.
@group(0) @binding(6) var<storage, read> deltas: array<u32>;
#endif
#import @q

const ROWS: u32 = 64u;

#ifdef DOT
#import shared/tile_dot
#else
#import shared/tile_float
#endif

// A thread's four neighbouring rows stand apart, so that neighbouring threads read neighbouring quads.
fn row_slot(row: u32) -> u32 {
    return (row % 4u) * (ROWS / 4u) + row / 4u;
}

fn token_count() -> u32 {
#ifdef HEAD
    return min(SLICE, state.tokens - state.last_row);
#else
    return state.tokens;
#endif
}

fn emit(token: u32, row: u32, sums: vec4f) {
#ifdef SABOTAGE
    let values = 1.5 * sums;
#else
    let values = sums;
#endif
#ifdef GATED
    let at = token * STRIDE + row / 2u;
    if (row < q_ROWS) {
        outputs[at] = combined(at, values.x, values.y);
    }
    if (row + 2u < q_ROWS) {
        outputs[at + 1u] = combined(at + 1u, values.z, values.w);
    }
#else
    let at = token * STRIDE + OUT_FIRST + row;
    for (var i = 0u; i < 4u; i += 1u) {
        if (row + i < q_ROWS) {
#ifdef ADDED
            outputs[at + i] += values[i];
#else
#ifdef GATING
            // The up product; the gate's is there.
            outputs[at + i] = combined(at + i, outputs[at + i], values[i]);
#else
            outputs[at + i] = values[i];
#endif
#endif
        }
    }
#endif
}

@compute @workgroup_size(4u * TOKENS)
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) t: u32) {
    let first_row = workgroup.x * ROWS;
    let first_token = workgroup.y * TOKENS;
    let tokens = token_count();
    let row4 = t % 16u;
    let token4 = 4u * (t / 16u);
    let busy = first_token + token4 < tokens;
    var sums = Sums();
    for (var first = 0u; first < BLOCKS; first += STEP) {
        workgroupBarrier();
        if (t < ROWS * STEP) {
            let row = t / STEP;
            load_weights(row_slot(row), min(first_row + row, q_ROWS - 1u), t % STEP, first);
        } else if (t < (ROWS + TOKENS) * STEP) {
            let i = t - ROWS * STEP;
            let token = first_token + i / STEP;
            load_inputs(i / STEP, token, token < tokens, i % STEP, first);
        }
        workgroupBarrier();
        if (busy) {
            sums = multiply(sums, row4, token4);
        }
    }
    let row = first_row + 4u * row4;
    let token = first_token + token4;
    if (token < tokens) {
        emit(token, row, sums.t0);
    }
    if (token + 1u < tokens) {
        emit(token + 1u, row, sums.t1);
    }
    if (token + 2u < tokens) {
        emit(token + 2u, row, sums.t2);
    }
    if (token + 3u < tokens) {
        emit(token + 3u, row, sums.t3);
    }
}
