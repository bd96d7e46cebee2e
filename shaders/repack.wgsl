// Raw rows of a GGUF tensor into planes; one thread a block of 32 columns. The module defines FMT_repack.
@group(0) @binding(0) var<storage, read> raw: array<u32>;
@group(0) @binding(1) var<storage, read_write> planes: array<u32>;
struct Chunk {
    rows: u32,
    // Of the file's rows; planes have whole blocks.
    cols: u32,
    blocks: u32,
    // Where the first row goes, and how far apart the rows go.
    first_row: u32,
    row_stride: u32,
    // Where the planes begin, in words.
    quads: u32,
    high: u32,
    scales: u32,
}
@group(0) @binding(2) var<uniform> chunk: Chunk;

fn raw8(at: u32) -> u32 {
    return (raw[at / 4u] >> (8u * (at % 4u))) & 255u;
}

// Words of the file stand at even addresses only: no half crosses a word of ours.
fn raw16(at: u32) -> u32 {
    return (raw[at / 4u] >> (8u * (at % 4u))) & 0xffffu;
}

fn raw32(at: u32) -> u32 {
    return raw16(at) | (raw16(at + 2u) << 16u);
}

#import @q

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) grid: vec3u) {
    let i = id.x + id.y * grid.x * 64u;
    if (i >= chunk.rows * chunk.blocks) {
        return;
    }
    let row = i / chunk.blocks;
    q_repack(row, i % chunk.blocks, chunk.first_row + row * chunk.row_stride);
}
