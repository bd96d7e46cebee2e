//! The GPU's decode path against the same golden logits and texts as the CPU's, in every variant of its kernels.

#[path = "common/golden.rs"]
mod golden;
#[path = "common/gpu.rs"]
mod gpu;

use golden::*;
use kinglet::backend::webgpu::WebGpuBackend;
use pollster::block_on;

#[test]
fn gpu_agrees_with_transformers_token_by_token() {
    for (name, options) in gpu::variants() {
        println!("{name}:");
        check(|spec| block_on(WebGpuBackend::new(spec, &options)).unwrap(), tolerance, 1);
    }
}

/// The same ids, whatever the variant.
#[test]
fn stories260k_tells_its_story_on_the_gpu() {
    for (name, options) in gpu::variants() {
        println!("{name}");
        check_story(async |spec, _| WebGpuBackend::new(spec, &options).await, 1e-3);
    }
}
