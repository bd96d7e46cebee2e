// What follows from FMT_values.
#ifdef MATVEC
fn FMT_product(row: u32, block: u32, t: u32) -> f32 {
    let v = FMT_values(row, block);
    let i = 8u * t;
    return tile_scale[t].x * (
        four(v.v0, tile_x[i]) + four(v.v1, tile_x[i + 1u]) + four(v.v2, tile_x[i + 2u]) + four(v.v3, tile_x[i + 3u])
        + four(v.v4, tile_x[i + 4u]) + four(v.v5, tile_x[i + 5u]) + four(v.v6, tile_x[i + 6u]) + four(v.v7, tile_x[i + 7u])
    );
}
#include shared/rows
#endif
