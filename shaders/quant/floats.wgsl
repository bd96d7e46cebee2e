// What follows from FMT_values.
#ifdef MATVEC
fn FMT_product(row: u32, block: u32, t: u32) -> f32 {
    let v = FMT_values(row, block);
    let i = 8u * t;
    return dot(v.v0, tile_x[i]) + dot(v.v1, tile_x[i + 1u]) + dot(v.v2, tile_x[i + 2u]) + dot(v.v3, tile_x[i + 3u])
        + dot(v.v4, tile_x[i + 4u]) + dot(v.v5, tile_x[i + 5u]) + dot(v.v6, tile_x[i + 6u]) + dot(v.v7, tile_x[i + 7u]);
}
#include shared/rows
#endif
