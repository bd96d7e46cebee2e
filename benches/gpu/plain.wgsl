// Q4_0 rows as they stand in a file, times inputs: one thread an output, no tiling, no packing, nothing shared. What the
// kernels of shaders/ are measured against.

override ROWS: u32;
override COLS: u32;

@group(0) @binding(0) var<storage, read> weights: array<u32>;
@group(0) @binding(1) var<storage, read> inputs: array<f32>;
@group(0) @binding(2) var<storage, read_write> outputs: array<f32>;

fn byte_at(at: u32) -> u32 {
    return (weights[at / 4u] >> (8u * (at % 4u))) & 255u;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let row = id.x;
    if (row >= ROWS) {
        return;
    }
    var sum = 0.0;
    for (var block = 0u; block < COLS / 32u; block++) {
        let at = (row * (COLS / 32u) + block) * 18u;
        let scale = unpack2x16float(byte_at(at) | (byte_at(at + 1u) << 8u)).x;
        let x = id.y * COLS + block * 32u;
        var part = 0.0;
        for (var i = 0u; i < 16u; i++) {
            let codes = byte_at(at + 2u + i);
            part += (f32(codes & 15u) - 8.0) * inputs[x + i] + (f32(codes >> 4u) - 8.0) * inputs[x + 16u + i];
        }
        sum += scale * part;
    }
    outputs[id.y * ROWS + row] = sum;
}
