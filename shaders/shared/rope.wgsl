// Rotary positions, of a head in workgroup memory or elsewhere: the pair (a, b) that pair i of a head turns.
fn rope_pair(i: u32) -> vec2u {
#ifdef ROPE_HALVES
    return vec2u(i, i + ROPE_DIM / 2u);
#else
    return vec2u(2u * i, 2u * i + 1u);
#endif
}

fn rope_turn(pair: vec2f, turn: vec2f) -> vec2f {
    return vec2f(pair.x * turn.x - pair.y * turn.y, pair.x * turn.y + pair.y * turn.x);
}
