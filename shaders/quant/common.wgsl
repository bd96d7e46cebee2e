// Planes of one or several matrices, bound twice: once to load sixteen bytes, once to load four.
@group(0) @binding(1) var<storage, read> quads: array<vec4u>;
@group(0) @binding(2) var<storage, read> words: array<u32>;

// 32 weights of a row as signed bytes, four in a word: elements 0..16 and 16..32.
struct Quants {
    a: vec4u,
    b: vec4u,
}

// 32 weights of a row.
struct Values {
    v0: vec4f, v1: vec4f, v2: vec4f, v3: vec4f, v4: vec4f, v5: vec4f, v6: vec4f, v7: vec4f,
}

#import shared/signed_bytes

#ifdef MATVEC
// Four weights times four inputs. Products may be halves, their sums not.
fn four(weights: vec4f, x: Quad) -> f32 {
#ifdef F16
    return dot(vec4f(vec4h(weights) * x), vec4f(1.0));
#else
    return dot(weights, x);
#endif
}
#endif

fn halves(word: u32) -> vec2f {
    return unpack2x16float(word);
}
