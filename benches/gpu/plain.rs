//! The products of a model's first layer on a GPU, by our kernels and by the same written plainly (plain.wgsl), as JSON:
//! `cargo run --example plain-kernels -- MODEL.gguf`, whose matrices are Q4_0. plain.mjs runs it on software GPUs.

use kinglet::backend::DecoderSpec;
use kinglet::backend::webgpu::profile::ProductTime;
use kinglet::backend::webgpu::{Gpu, GpuOptions, WebGpuBackend};
use kinglet::formats::Format;
use kinglet::session::{LoadOptions, Session};
use kinglet::source::FileSource;
use kinglet::{Error, Result};
use pollster::block_on;
use serde_json::{Value, json};

/// Of a prompt.
const BATCH: usize = 64;
const ROUNDS: usize = 5;

fn main() -> Result<()> {
    let model = std::env::args().nth(1).ok_or_else(|| Error::BadRequest("usage: plain-kernels MODEL.gguf".into()))?;
    let options = LoadOptions { context_length: Some(256), ..LoadOptions::default() };
    let backend = async |spec: DecoderSpec, _| WebGpuBackend::new(spec, &GpuOptions::default()).await;
    let mut source = [FileSource::open(&model)?];
    let session = block_on(Session::load_on(backend, &mut source, options, |_, _| {}))?;
    let adapter = session.info().adapter.clone();
    let mut ours = session.into_backend();
    let gpu = block_on(Gpu::request(&GpuOptions::default()))?;
    let mut products = Vec::new();
    for tokens in [1, BATCH] {
        for ProductTime { name, rows, cols, microseconds } in block_on(ours.time_products(tokens))? {
            let plain = block_on(plain(&gpu, rows, cols, tokens))?;
            products.push(json!({
                "name": name, "tokens": tokens, "rows": rows, "cols": cols, "microseconds": microseconds, "plainMicroseconds": plain,
            }));
        }
    }
    println!("{}", json!({ "adapter": adapter, "products": Value::Array(products) }));
    Ok(())
}

/// Microseconds, the best of several.
async fn plain(gpu: &Gpu, rows: usize, cols: usize, tokens: usize) -> Result<f64> {
    let device = &gpu.device;
    let weights = gpu.buffer("weights", (rows * Format::Q4_0.row_bytes(cols)) as u64)?;
    let inputs = gpu.buffer("inputs", (4 * tokens * cols) as u64)?;
    let outputs = gpu.buffer("outputs", (4 * tokens * rows) as u64)?;
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: Some("plain"),
        source: wgpu::ShaderSource::Wgsl(include_str!("plain.wgsl").into()),
    });
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some("plain"),
        layout: None,
        module: &module,
        entry_point: Some("main"),
        compilation_options: wgpu::PipelineCompilationOptions {
            constants: &[("ROWS", rows as f64), ("COLS", cols as f64)],
            ..Default::default()
        },
        cache: None,
    });
    let entries: Vec<wgpu::BindGroupEntry> = [&weights, &inputs, &outputs]
        .into_iter()
        .zip(0..)
        .map(|(buffer, binding)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
        .collect();
    let layout = &pipeline.get_bind_group_layout(0);
    let group = device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout, entries: &entries });
    let queries =
        device.create_query_set(&wgpu::QuerySetDescriptor { label: None, ty: wgpu::QueryType::Timestamp, count: 2 });
    let resolved = device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: 16,
        usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
        mapped_at_creation: false,
    });
    let mut least = f64::INFINITY;
    for _ in 0..ROUNDS {
        let mut encoder = device.create_command_encoder(&Default::default());
        let timestamps = wgpu::ComputePassTimestampWrites {
            query_set: &queries,
            beginning_of_pass_write_index: Some(0),
            end_of_pass_write_index: Some(1),
        };
        let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes: Some(timestamps) };
        let mut pass = encoder.begin_compute_pass(&descriptor);
        pass.set_pipeline(&pipeline);
        pass.set_bind_group(0, &group, &[]);
        pass.dispatch_workgroups(rows.div_ceil(64) as u32, tokens as u32, 1);
        drop(pass);
        encoder.resolve_query_set(&queries, 0..2, &resolved, 0);
        gpu.queue.submit([encoder.finish()]);
        let read = gpu.read_buffer(&resolved, 0, 16).await?;
        let tick = |at: usize| u64::from_le_bytes(read[at..at + 8].try_into().expect("eight bytes"));
        least = least.min(tick(8).saturating_sub(tick(0)) as f64 * f64::from(gpu.queue.get_timestamp_period()) / 1e3);
    }
    gpu.check()?;
    Ok(least)
}
