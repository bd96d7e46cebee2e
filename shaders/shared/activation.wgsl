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
