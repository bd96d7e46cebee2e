// What follows from FMT_quants and FMT_scales: a weight is scale * quant + offset.
fn FMT_values(row: u32, block: u32) -> Values {
    let q = FMT_quants(row, block);
    let s = FMT_scales(row, block);
    return Values(
        s.x * signed_bytes(q.a.x) + s.z, s.x * signed_bytes(q.a.y) + s.z, s.x * signed_bytes(q.a.z) + s.z, s.x * signed_bytes(q.a.w) + s.z,
        s.y * signed_bytes(q.b.x) + s.z, s.y * signed_bytes(q.b.y) + s.z, s.y * signed_bytes(q.b.z) + s.z, s.y * signed_bytes(q.b.w) + s.z,
    );
}

#ifdef MATVEC
// One block of a row times block t of the tile.
fn FMT_product(row: u32, block: u32, t: u32) -> f32 {
    let q = FMT_quants(row, block);
    let s = FMT_scales(row, block);
#ifdef DOT
    let a = tile_x[4u * t];
    let b = tile_x[4u * t + 1u];
    let c = tile_x[4u * t + 2u];
    let d = tile_x[4u * t + 3u];
    let low = dot4I8Packed(q.a.x, a.x) + dot4I8Packed(q.a.y, a.y) + dot4I8Packed(q.a.z, b.x) + dot4I8Packed(q.a.w, b.y);
    let high = dot4I8Packed(q.b.x, c.x) + dot4I8Packed(q.b.y, c.y) + dot4I8Packed(q.b.z, d.x) + dot4I8Packed(q.b.w, d.y);
    let x = tile_scale[t];
    return x.x * (s.x * f32(low) + s.y * f32(high) + s.z * x.y);
#else
    let i = 8u * t;
    let low = four(signed_bytes(q.a.x), tile_x[i]) + four(signed_bytes(q.a.y), tile_x[i + 1u])
        + four(signed_bytes(q.a.z), tile_x[i + 2u]) + four(signed_bytes(q.a.w), tile_x[i + 3u]);
    let high = four(signed_bytes(q.b.x), tile_x[i + 4u]) + four(signed_bytes(q.b.y), tile_x[i + 5u])
        + four(signed_bytes(q.b.z), tile_x[i + 6u]) + four(signed_bytes(q.b.w), tile_x[i + 7u]);
    let x = tile_scale[t];
    return x.x * (s.x * low + s.y * high + s.z * x.y);
#endif
}
#include shared/rows
#endif
