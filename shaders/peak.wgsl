// Multiply-adds without memory: eight independent chains a thread. With DOT four signed bytes at a time.
@group(0) @binding(0) var<storage, read_write> sink: array<u32>;

const ROUNDS: u32 = 1024u;

@compute @workgroup_size(128)
fn main(@builtin(global_invocation_id) id: vec3u) {
#ifdef DOT
    var a = vec4i(vec4u(id.x)) + vec4i(1, 2, 3, 4);
    var b = a + vec4i(5);
    let x = id.x * 0x01030507u;
    for (var i = 0u; i < ROUNDS; i += 1u) {
        let w = x + i;
        a += vec4i(dot4I8Packed(w, u32(a.x)), dot4I8Packed(w, u32(a.y)), dot4I8Packed(w, u32(a.z)), dot4I8Packed(w, u32(a.w)));
        b += vec4i(dot4I8Packed(w, u32(b.x)), dot4I8Packed(w, u32(b.y)), dot4I8Packed(w, u32(b.z)), dot4I8Packed(w, u32(b.w)));
    }
    let sum = u32(a.x ^ a.y ^ a.z ^ a.w ^ b.x ^ b.y ^ b.z ^ b.w);
#else
    var a = vec4f(vec4u(id.x)) + vec4f(1.0, 2.0, 3.0, 4.0);
    var b = a + vec4f(5.0);
    let x = vec4f(0.999 + f32(id.x) * 1e-9);
    for (var i = 0u; i < ROUNDS; i += 1u) {
        a = fma(a, x, b);
        b = fma(b, x, a);
    }
    let sum = bitcast<u32>(dot(a, b));
#endif
    // Never so, but the compiler cannot know.
    if (sum == 0x9e3779b9u) {
        sink[0] = sum;
    }
}
