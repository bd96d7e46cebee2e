// A workgroup a chunk of logits: its sums for the signals, and its part of the pyramids in which `sample` finds the best.
#import shared/sample_keys
#import shared/reduce
@group(0) @binding(1) var<storage, read> logits: array<u32>;
@group(0) @binding(3) var<storage, read_write> pyramids: array<u32>;
// Highest logit, sum of exp(logit - highest), the same weighted with logit - highest.
@group(0) @binding(4) var<storage, read_write> chunks: array<vec4f>;
// The ring of tokens that are penalized.
@group(0) @binding(5) var<storage, read> recent: array<u32>;

var<workgroup> keys: array<u32, CHUNK>;
// Of 8, of 64, of all.
var<workgroup> highest: array<u32, 73>;

fn store(pyramid: u32, chunk: u32, t: u32) {
    for (var i = t; i < CHUNK; i += WG) {
        pyramids[pyramid + chunk * 512u + i] = keys[i];
    }
    if (t < 64u) {
        var key = NO_KEY;
        for (var i = 0u; i < 8u; i += 1u) {
            key = max(key, keys[8u * t + i]);
        }
        highest[t] = key;
        pyramids[pyramid + EIGHTS + chunk * 64u + t] = key;
    }
    workgroupBarrier();
    if (t < 8u) {
        var key = NO_KEY;
        for (var i = 0u; i < 8u; i += 1u) {
            key = max(key, highest[8u * t + i]);
        }
        highest[64u + t] = key;
        pyramids[pyramid + SIXTY_FOURTHS + chunk * 8u + t] = key;
    }
    workgroupBarrier();
    if (t == 0u) {
        var key = NO_KEY;
        for (var i = 64u; i < 72u; i += 1u) {
            key = max(key, highest[i]);
        }
        highest[72] = key;
        pyramids[pyramid + TOPS + chunk] = key;
    }
    workgroupBarrier();
}

fn add_bias(chunk: u32, t: u32) {
    for (var i = t; i < request.biases; i += WG) {
        let bias = request.bias[i];
        // Below the chunk this wraps around and is too large. Ids are distinct.
        let at = bias.x - chunk * CHUNK;
        if (at < CHUNK && is_finite(keys[at])) {
            keys[at] = key_of(bitcast<u32>(logit_of(keys[at]) + bitcast<f32>(bias.y)));
        }
    }
}

fn penalize(chunk: u32, t: u32) {
    if (t >= PENALTY_WINDOW) {
        return;
    }
    let id = recent[t];
    let at = id - chunk * CHUNK;
    if (at >= CHUNK || !is_finite(keys[at])) {
        return;
    }
    var count = 0.0;
    for (var i = 0u; i < PENALTY_WINDOW; i += 1u) {
        if (recent[i] == id) {
            // Once for each distinct token.
            if (i < t) {
                return;
            }
            count += 1.0;
        }
    }
    var logit = logit_of(keys[at]);
    logit = select(logit * request.repeat_penalty, logit / request.repeat_penalty, logit > 0.0);
    logit -= count * request.frequency_penalty + request.presence_penalty;
    keys[at] = key_of(bitcast<u32>(logit));
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) t: u32) {
    let chunk = workgroup.x;
    for (var i = t; i < CHUNK; i += WG) {
        let id = chunk * CHUNK + i;
        var key = NO_KEY;
        if (id < VOCAB) {
            key = key_of(logits[id]);
        }
        keys[i] = key;
    }
    workgroupBarrier();
    store(RAW, chunk, t);

    let top = logit_of(highest[72]);
    var sum = 0.0;
    var weighted = 0.0;
    for (var i = t; i < CHUNK; i += WG) {
        if (keys[i] != NO_KEY) {
            let d = max(logit_of(keys[i]) - top, -87.0);
            sum += exp(d);
            weighted += d * exp(d);
        }
    }
    sum = workgroup_sum(sum, t);
    workgroupBarrier();
    weighted = workgroup_sum(weighted, t);
#ifdef SABOTAGE
    sum *= 1.5;
#endif
    if (t == 0u) {
        chunks[chunk] = vec4f(top, sum, weighted, 0.0);
    }

    if (request.adjusted != 0u) {
        add_bias(chunk, t);
        workgroupBarrier();
        penalize(chunk, t);
        workgroupBarrier();
        store(ADJUSTED, chunk, t);
    }
}
