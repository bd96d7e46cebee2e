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
    let mut agreed = Cells::new();
    let variants = gpu::variants();
    for (i, (name, options)) in variants.iter().enumerate() {
        println!("{name}:");
        // Every family runs in the two variants that have nothing in common.
        let pick = |golden: &Golden| golden.family == "llama" || [0, variants.len() - 1].contains(&i);
        agreed.extend(check_some(pick, |spec| block_on(WebGpuBackend::new(spec, options)).unwrap(), tolerance, 1));
    }
    if !variants.is_empty() {
        assert_eq!(agreed, all_cells());
    }
}

#[test]
fn answers_beyond_the_original_context_are_those_of_fresh_prompts() {
    let Some(options) = gpu::gpu() else { return };
    check_conversations(async |spec, _| WebGpuBackend::new(spec, &options).await);
}

/// The same ids, whatever the variant.
#[test]
fn stories260k_tells_its_story_on_the_gpu() {
    for (name, options) in gpu::variants() {
        println!("{name}");
        check_story(async |spec, _| WebGpuBackend::new(spec, &options).await, 1e-3);
    }
}
