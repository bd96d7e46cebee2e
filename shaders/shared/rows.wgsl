// A workgroup's rows of the matrix FMT times the input: LANES lanes share RPG rows. Ends in emit(first row, rows, sums).
fn FMT_rows(workgroup: u32, t: u32) {
    let lane = t % LANES;
    let row = (workgroup * (WG / LANES) + t / LANES) * RPG;
    // Lanes beyond the matrix work on its last row, for all must meet at the barriers.
    let row0 = min(row, FMT_ROWS - 1u);
#ifdef RPG2
    let row1 = min(row + 1u, FMT_ROWS - 1u);
#endif
#ifdef RPG4
    let row2 = min(row + 2u, FMT_ROWS - 1u);
    let row3 = min(row + 3u, FMT_ROWS - 1u);
#endif
    var sums = vec4f();
    for (var first = 0u; first < BLOCKS; first += TILE) {
        let count = min(TILE, BLOCKS - first);
        load_tile(first, count, t);
        for (var b = lane; b < count; b += LANES) {
            sums.x += FMT_product(row0, first + b, b);
#ifdef RPG2
            sums.y += FMT_product(row1, first + b, b);
#endif
#ifdef RPG4
            sums.z += FMT_product(row2, first + b, b);
            sums.w += FMT_product(row3, first + b, b);
#endif
        }
    }
    sums = lanes_sum(sums, t);
#ifdef SABOTAGE
    sums *= 1.5;
#endif
    if (lane == 0u && row < FMT_ROWS) {
        emit(FMT_FIRST + row, min(RPG, FMT_ROWS - row), sums);
    }
}
