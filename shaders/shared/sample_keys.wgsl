// What both kernels of the sampler know: the request, and logits as keys that sort as the logits do. Keys are whole
// numbers, for which infinities, NaN and ties mean the same on every device.
struct Request {
    // How many of the best are candidates; 1 is greedy.
    candidates: u32,
    // Whether there are biases or penalties.
    adjusted: u32,
    biases: u32,
    // Tokens in `recent` at the start of the run.
    recent: u32,
    top_logprobs: u32,
    temperature: f32,
    top_p: f32,
    log_min_p: f32,
    repeat_penalty: f32,
    presence_penalty: f32,
    frequency_penalty: f32,
    padding: u32,
    // (id, bits of a float)
    bias: array<vec2u, MAX_BIASES>,
    // The random number of each step.
    draws: array<f32>,
}
@group(0) @binding(2) var<storage, read> request: Request;

// No token at all; then -inf, with which NaN counts.
const NO_KEY: u32 = 0u;
const KEY_OF_NEGATIVE_INFINITY: u32 = 0x007fffffu;
const KEY_OF_INFINITY: u32 = 0xff800000u;

fn key_of(bits: u32) -> u32 {
    let size = bits & 0x7fffffffu;
    if (size > 0x7f800000u) {
        return KEY_OF_NEGATIVE_INFINITY;
    }
    // Both zeros are equal.
    return select(bits | 0x80000000u, ~bits, bits > 0x80000000u);
}

fn is_finite(key: u32) -> bool {
    return key > KEY_OF_NEGATIVE_INFINITY && key < KEY_OF_INFINITY;
}

// The nearest finite logit.
fn logit_of(key: u32) -> f32 {
    let finite = clamp(key, KEY_OF_NEGATIVE_INFINITY + 1u, KEY_OF_INFINITY - 1u);
    return bitcast<f32>(select(~finite, finite ^ 0x80000000u, finite >= 0x80000000u));
}

// A pyramid holds the keys, and the highest of every 8, 64 and 512 (a chunk) of them; a group's children are its number
// times 8 and the next seven. One of the raw logits, one of those with biases and penalties.
const CHUNK: u32 = 512u;
const RAW: u32 = 0u;
const ADJUSTED: u32 = 585u * CHUNKS;
const EIGHTS: u32 = 512u * CHUNKS;
const SIXTY_FOURTHS: u32 = 576u * CHUNKS;
const TOPS: u32 = 584u * CHUNKS;
