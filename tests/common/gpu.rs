//! A GPU for tests: lavapipe does.

use kinglet::backend::webgpu::{Gpu, GpuOptions};
use pollster::block_on;

/// `None`, loudly, where there is no adapter; in CI that is a failure.
pub fn gpu() -> Option<GpuOptions> {
    let options = GpuOptions::default();
    match block_on(Gpu::request(&options)) {
        Ok(_) => Some(options),
        Err(error) if std::env::var_os("CI").is_some() => panic!("CI needs a GPU (Mesa's lavapipe does): {error}"),
        Err(error) => {
            eprintln!("SKIPPED: {error} (install mesa-vulkan-drivers and libvulkan1)");
            None
        }
    }
}
