// A row of a buffer as a kernel's input.
@group(0) @binding(3) var<storage, read> inputs: array<vec4f>;

var<private> first_quad: u32;

fn input4(i: u32) -> vec4f {
    return inputs[first_quad + i];
}

fn prepare(row: u32) {
    first_quad = row * BLOCKS * 8u;
}
