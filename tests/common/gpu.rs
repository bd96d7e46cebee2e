//! A GPU for tests: lavapipe does.

use kinglet::backend::Backend;
use kinglet::backend::webgpu::{Gpu, GpuOptions};
use kinglet::session::{Request, Session, Step};
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

/// Every arithmetic and both ways to sum over lanes, with what messages call them. Empty where [`gpu`] is `None`.
#[allow(dead_code)]
pub fn variants() -> Vec<(String, GpuOptions)> {
    let Some(options) = gpu() else { return Vec::new() };
    [("dot", false), ("dot", true), ("f16", false), ("f32", false), ("f32", true)]
        .into_iter()
        .map(|(arithmetic, without_subgroups)| {
            let name = format!("{arithmetic}, {}", if without_subgroups { "workgroup memory" } else { "subgroups" });
            (name, GpuOptions { arithmetic: Some(arithmetic.into()), without_subgroups, ..options.clone() })
        })
        .collect()
}

/// The ids of an answer, and the gap of the two best at each.
#[allow(dead_code)]
pub fn answer<B: Backend>(session: &mut Session<B>, request: &Request) -> (Vec<u32>, Vec<f32>) {
    session.start(request).unwrap();
    let (mut ids, mut margins) = (Vec::new(), Vec::new());
    loop {
        match block_on(session.step()).unwrap() {
            Step::Prefill { .. } => {}
            Step::Token { id, signals, .. } => {
                ids.push(id);
                margins.push(signals.margin);
            }
            Step::Done { .. } => return (ids, margins),
        }
    }
}
