// One workgroup chooses the token: the signals of the raw logits, then top-k, top-p, min-p and temperature as
// `generate/sampler.rs` has them. It hands the token on to the next replay of the plan.
#import shared/state
#import shared/sample_keys
#import shared/reduce
#import shared/find_best
@group(0) @binding(1) var<storage, read> logits: array<u32>;
@group(0) @binding(4) var<storage, read> chunks: array<vec4f>;
@group(0) @binding(5) var<storage, read_write> recent: array<u32>;
@group(0) @binding(6) var<storage, read_write> tokens: array<u32>;

struct Sampled {
    id: u32,
    // Bits of a float: it may be -inf.
    logprob: u32,
    entropy: f32,
    margin: f32,
    top: array<vec2u>,
}
@group(0) @binding(7) var<storage, read_write> sampled: Sampled;

var<workgroup> sums: array<f32, MAX_CANDIDATES>;
// The draw in [0, 1).
var<workgroup> draw: f32;
var<workgroup> first: atomic<u32>;
var<workgroup> last: atomic<u32>;

// The sum of `weight` over the threads up to this one; of all of them in the last of `sums`.
fn sum_so_far(weight: f32, t: u32) -> f32 {
    if (t < MAX_CANDIDATES) {
        sums[t] = weight;
    }
    for (var step = 1u; step < MAX_CANDIDATES; step *= 2u) {
        workgroupBarrier();
        var before = 0.0;
        if (t >= step && t < MAX_CANDIDATES) {
            before = sums[t - step];
        }
        workgroupBarrier();
        if (t < MAX_CANDIDATES) {
            sums[t] += before;
        }
    }
    workgroupBarrier();
    return sums[min(t, MAX_CANDIDATES - 1u)];
}

// Of a candidate at most as good as `best`; nothing for what is too unlikely to be drawn.
fn weight_of(key: u32, best: f32, temperature: f32) -> f32 {
    let d = (logit_of(key) - best) / temperature;
    return select(0.0, exp(max(d, -87.0)), d > -87.0 && key > KEY_OF_NEGATIVE_INFINITY);
}

// The index of the candidate that the draw falls on. Thread t has the t-th.
fn choose(t: u32) -> u32 {
    let is_candidate = t < request.candidates;
    var key = NO_KEY;
    if (is_candidate) {
        key = keys[t];
    }
    let best = logit_of(keys[0]);

    // The fewest whose probabilities reach top_p.
    if (t == 0u) {
        atomicStore(&first, request.candidates - 1u);
    }
    let reached = sum_so_far(weight_of(key, best, 1.0), t);
    if (is_candidate && reached >= request.top_p * sums[MAX_CANDIDATES - 1u]) {
        atomicMin(&first, t);
    }
    workgroupBarrier();
    let remains = t == 0u || (t <= atomicLoad(&first) && logit_of(key) >= best + request.log_min_p);
    let weight = select(0.0, weight_of(key, best, request.temperature), remains);
    workgroupBarrier();

    if (t == 0u) {
        atomicStore(&first, NONE);
        atomicStore(&last, 0u);
    }
    let end = sum_so_far(weight, t);
    if (weight > 0.0) {
        if (end > draw * sums[MAX_CANDIDATES - 1u]) {
            atomicMin(&first, t);
        }
        // Where rounding leaves nothing beyond the draw.
        atomicMax(&last, t);
    }
    workgroupBarrier();
    return min(atomicLoad(&first), atomicLoad(&last));
}

fn logprob_bits(key: u32, log_total: f32, top: f32) -> u32 {
    if (key <= KEY_OF_NEGATIVE_INFINITY) {
        return 0xff800000u;
    }
    return bitcast<u32>(min(logit_of(key) - top - log_total, 0.0));
}

@compute @workgroup_size(WG)
fn main(@builtin(local_invocation_index) t: u32) {
    let adjusted = request.adjusted != 0u;
    if (t == 0u) {
        draw = request.draws[state.step];
    }

    // Two for the margin.
    find_best(RAW, max(max(2u, request.top_logprobs), select(request.candidates, 1u, adjusted)), t);
    let top = logit_of(keys[0]);
    var margin = 0.0;
    if (is_finite(keys[0]) && is_finite(keys[1])) {
        margin = min(top - logit_of(keys[1]), 3.4028234e38);
    }
    var sum = 0.0;
    var weighted = 0.0;
    for (var i = t; i < CHUNKS; i += WG) {
        let chunk = chunks[i];
        let down = chunk.x - top;
        // 0 * inf must not become NaN.
        if (down > -87.0) {
            sum += chunk.y * exp(down);
            weighted += (chunk.z + down * chunk.y) * exp(down);
        }
    }
    sum = workgroup_sum(sum, t);
    workgroupBarrier();
    weighted = workgroup_sum(weighted, t);
    let log_total = log(sum);
    if (t < request.top_logprobs) {
        sampled.top[t] = vec2u(ids[t], logprob_bits(keys[t], log_total, top));
    }
    if (adjusted) {
        workgroupBarrier();
        find_best(ADJUSTED, request.candidates, t);
    }

    let chosen = choose(t);
    if (t == 0u) {
        let id = ids[chosen];
        sampled.id = id;
        sampled.logprob = logprob_bits(key_of(logits[id]), log_total, top);
        sampled.entropy = max(log_total - weighted / sum, 0.0);
        sampled.margin = margin;
#ifdef SABOTAGE
        sampled.entropy += 1.0;
#endif
        recent[(request.recent + state.step) % PENALTY_WINDOW] = id;
        tokens[0] = id;
        state.position += state.tokens;
        state.tokens = 1u;
        state.last_row = 0u;
        state.step += 1u;
    }
}
