#ifdef GELU
// The tanh form; tanh of a large number overflows on some GPUs.
fn activation(x: f32) -> f32 {
    let inner = clamp(0.7978845608 * (x + 0.044715 * x * x * x), -15.0, 15.0);
    return 0.5 * x * (1.0 + tanh(inner));
}
#else
fn activation(x: f32) -> f32 {
    return x / (1.0 + exp(-x));
}
#endif

// The element at `i` of the feed-forward block.
fn combined(i: u32, gate: f32, up: f32) -> f32 {
#ifdef LORA
    let delta = unpack2x16float(deltas[i]);
    return activation(gate + delta.x) * (up + delta.y);
#else
    return activation(gate) * up;
#endif
}
