// Rotary positions, of a head in workgroup memory or elsewhere: the pair (a, b) that pair i of a head turns.
fn rope_pair(i: u32) -> vec2u {
#ifdef ROPE_HALVES
    return vec2u(i, i + ROPE_DIM / 2u);
#else
    return vec2u(2u * i, 2u * i + 1u);
#endif
}

// The pair that element d of a head is in.
fn rope_pair_of(d: u32) -> u32 {
#ifdef ROPE_HALVES
    return d % (ROPE_DIM / 2u);
#else
    return d / 2u;
#endif
}

fn rope_turn(pair: vec2f, turn: vec2f) -> vec2f {
    return vec2f(pair.x * turn.x - pair.y * turn.y, pair.x * turn.y + pair.y * turn.x);
}
