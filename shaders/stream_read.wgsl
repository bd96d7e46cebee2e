// Reads a large buffer once and keeps nothing: the speed that every kernel is measured against.
@group(0) @binding(0) var<storage, read> source: array<vec4u>;
@group(0) @binding(1) var<storage, read_write> sink: array<u32>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) grid: vec3u) {
    var sum = vec4u();
    for (var i = id.x; i < QUADS; i += grid.x * 256u) {
        sum ^= source[i];
    }
    // Never so, but the compiler cannot know.
    if ((sum.x ^ sum.y ^ sum.z ^ sum.w) == 0x9e3779b9u) {
        sink[0] = id.x;
    }
}
