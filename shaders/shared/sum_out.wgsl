// Adds a product to the residual stream.
@group(0) @binding(4) var<storage, read_write> residual: array<f32>;

fn emit(row: u32, rows: u32, sums: vec4f) {
    for (var i = 0u; i < rows; i += 1u) {
#ifdef POST_NORM
        // Into a buffer of its own: what reads it norms it before it adds it.
        residual[row + i] = sums[i];
#else
        residual[row + i] += sums[i];
#endif
    }
}
