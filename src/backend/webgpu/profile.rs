//! Where a token's time goes: each kernel by timestamp queries, beside the speed at which the device reads a buffer.

use std::time::Instant;

use serde::Serialize;

use super::device::Gpu;
use super::pipelines::{Dispatch, Pipelines};
use super::plan::Plan;
use super::weights::GpuWeights;
use super::wgsl::Permutation;
use super::{WebGpuBackend, not_loaded};
use crate::{Error, Result};

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KernelProfile {
    pub name: &'static str,
    pub dispatches: usize,
    /// Of all its dispatches of a token, the median of several tokens.
    pub microseconds: f64,
    /// Weights that it reads.
    pub bytes: u64,
    pub gigabytes_per_second: f64,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    pub adapter: String,
    /// Empty where the device has no timestamps.
    pub kernels: Vec<KernelProfile>,
    pub dispatches_per_token: usize,
    /// The host's time for one token: to encode its commands, and to hand them to the driver (which software GPUs use
    /// to compute).
    pub encode_microseconds: f64,
    pub submit_microseconds: f64,
    /// The best of several reads of a large buffer.
    pub stream_read_gigabytes_per_second: f64,
    /// Multiply-adds without memory: of floats, and of signed bytes by `dot4I8Packed` (0: the device has none).
    pub peak_f32_gmacs: f64,
    pub peak_dot_gmacs: f64,
}

const ROUNDS: usize = 9;

impl WebGpuBackend {
    /// One token at `position`, whose cache is taken as it is.
    pub async fn profile(&mut self, position: usize) -> Result<Profile> {
        self.grow(position + 1)?;
        let gpu = &self.gpu;
        let model = self.model.as_ref().ok_or_else(not_loaded)?;
        let mut dispatches = one_token(&model.plan, position);
        if let Some(sampler) = &model.sampler {
            dispatches.extend_from_slice(&sampler.dispatches);
        }
        let (mut encode, mut submit) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            // The sampler moves on.
            self.write_state(position, 1, 0)?;
            let start = Instant::now();
            let mut encoder = gpu.device.create_command_encoder(&Default::default());
            let mut pass = encoder.begin_compute_pass(&Default::default());
            dispatches.iter().for_each(|dispatch| dispatch.encode(&mut pass));
            drop(pass);
            let commands = encoder.finish();
            encode.push(start.elapsed().as_secs_f64() * 1e6);
            gpu.queue.submit([commands]);
            submit.push(start.elapsed().as_secs_f64() * 1e6 - encode[encode.len() - 1]);
            gpu.settle().await?;
        }
        let mut rounds = Vec::new();
        if gpu.capabilities.timestamps {
            for _ in 0..ROUNDS {
                self.write_state(position, 1, 0)?;
                rounds.push(timed(gpu, &dispatches).await?);
            }
        }
        let mut kernels: Vec<KernelProfile> = Vec::new();
        for dispatch in &dispatches {
            let name = dispatch.kernel.name;
            if kernels.iter().any(|kernel| kernel.name == name) {
                continue;
            }
            let of_kernel = |round: &Vec<f64>| {
                let of = round.iter().zip(&dispatches).filter(|(_, dispatch)| dispatch.kernel.name == name);
                of.map(|(time, _)| time).sum::<f64>()
            };
            let microseconds = median(rounds.iter().map(of_kernel).collect());
            let bytes = weight_bytes(&model.weights, name);
            let count = dispatches.iter().filter(|dispatch| dispatch.kernel.name == name).count();
            let speed = if microseconds > 0.0 { bytes as f64 / microseconds / 1e3 } else { 0.0 };
            kernels.push(KernelProfile { name, dispatches: count, microseconds, bytes, gigabytes_per_second: speed });
        }
        if rounds.is_empty() {
            kernels.clear();
        }
        let pipelines = &mut self.pipelines;
        let stream_read_gigabytes_per_second = stream_read(gpu, pipelines).await?;
        let peak_f32_gmacs = peak(gpu, pipelines, false).await?;
        let peak_dot_gmacs = if gpu.capabilities.packed_dot { peak(gpu, pipelines, true).await? } else { 0.0 };
        Ok(Profile {
            adapter: gpu.adapter.clone(),
            kernels,
            dispatches_per_token: dispatches.len(),
            encode_microseconds: median(encode),
            submit_microseconds: median(submit),
            stream_read_gigabytes_per_second,
            peak_f32_gmacs,
            peak_dot_gmacs,
        })
    }
}

/// A product of the first layer, with the preparation of its inputs.
#[derive(Clone, Debug)]
pub struct ProductTime {
    pub name: &'static str,
    pub rows: usize,
    pub cols: usize,
    /// The best of several.
    pub microseconds: f64,
}

impl WebGpuBackend {
    /// Of one token, or of a batch; for benches. Errors: [`Error::BadRequest`] without timestamps.
    pub async fn time_products(&mut self, tokens: usize) -> Result<Vec<ProductTime>> {
        let gpu = &self.gpu;
        if !gpu.capabilities.timestamps {
            return Err(Error::BadRequest("this device has no timestamps".into()));
        }
        self.write_state(0, tokens, tokens - 1)?;
        let model = self.model.as_ref().ok_or_else(not_loaded)?;
        let (one, several, groups) = (&model.plan.layers[0], &model.batch[0], &model.weights.layers[0]);
        let mut times = Vec::new();
        for (name, group, one, several) in [
            ("qkv", &groups.qkv, &one.qkv, &several.qkv),
            ("attention_out", &groups.attention_out, &one.attention_out, &several.attention_out),
            ("gate_up", &groups.gate_up, &one.gate_up, &several.gate_up),
            ("down", &groups.down, &one.down, &several.down),
        ] {
            let dispatches: Vec<Dispatch> = match tokens {
                1 => one.clone(),
                _ => several.iter().map(|batched| batched.of(tokens)).collect(),
            };
            let mut microseconds = f64::INFINITY;
            for _ in 0..ROUNDS {
                microseconds = microseconds.min(timed(gpu, &dispatches).await?.iter().sum());
            }
            times.push(ProductTime { name, rows: group.rows(), cols: group.cols, microseconds });
        }
        Ok(times)
    }
}

fn one_token(plan: &Plan, position: usize) -> Vec<Dispatch> {
    let mut dispatches = plan.embed.clone();
    let layers = plan.layers.iter().flat_map(|layer| layer.at(position));
    dispatches.extend(layers.map(|(dispatch, grid)| {
        let mut dispatch = dispatch.clone();
        dispatch.grid = grid;
        dispatch
    }));
    dispatches.extend_from_slice(&plan.head);
    dispatches
}

fn weight_bytes(weights: &GpuWeights, kernel: &str) -> u64 {
    let layers = weights.layers.iter();
    match kernel {
        "qkv" => layers.map(|layer| layer.qkv.buffer.size()).sum(),
        "attention_out" => layers.map(|layer| layer.attention_out.buffer.size()).sum(),
        "gate_up" => layers.map(|layer| layer.gate_up.buffer.size()).sum(),
        "down" => layers.map(|layer| layer.down.buffer.size()).sum(),
        "head" => weights.head_groups().iter().map(|group| group.buffer.size()).sum(),
        _ => 0,
    }
}

/// Microseconds of each dispatch. Browsers allow timestamps at the borders of passes only: one pass each.
async fn timed(gpu: &Gpu, dispatches: &[Dispatch]) -> Result<Vec<f64>> {
    let count = 2 * dispatches.len() as u32;
    let queries = gpu.device.create_query_set(&wgpu::QuerySetDescriptor {
        label: Some("profile"),
        ty: wgpu::QueryType::Timestamp,
        count,
    });
    let bytes = 8 * u64::from(count);
    let resolved = gpu.device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("profile"),
        size: bytes,
        usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
        mapped_at_creation: false,
    });
    let mut encoder = gpu.device.create_command_encoder(&Default::default());
    for (i, dispatch) in dispatches.iter().enumerate() {
        let timestamps = wgpu::ComputePassTimestampWrites {
            query_set: &queries,
            beginning_of_pass_write_index: Some(2 * i as u32),
            end_of_pass_write_index: Some(2 * i as u32 + 1),
        };
        let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes: Some(timestamps) };
        dispatch.encode(&mut encoder.begin_compute_pass(&descriptor));
    }
    encoder.resolve_query_set(&queries, 0..count, &resolved, 0);
    gpu.queue.submit([encoder.finish()]);
    let read = gpu.read_buffer(&resolved, 0, bytes).await?;
    let ticks: Vec<u64> =
        read.chunks_exact(8).map(|b| u64::from_le_bytes(b.try_into().expect("eight bytes"))).collect();
    let period = f64::from(gpu.queue.get_timestamp_period()) / 1e3;
    Ok(ticks.chunks_exact(2).map(|pair| pair[1].saturating_sub(pair[0]) as f64 * period).collect())
}

async fn stream_read(gpu: &Gpu, pipelines: &mut Pipelines) -> Result<f64> {
    let bytes = gpu.capabilities.binding_limit.min(256 << 20) / 16 * 16;
    let quads = (bytes / 16) as usize;
    let source = gpu.buffer("stream", bytes)?;
    let sink = gpu.buffer("sink", 16)?;
    let kernel = pipelines.get(gpu, Permutation::new("stream_read").number("QUADS", quads));
    let dispatch = kernel.bind(gpu, &[&source, &sink], [quads.div_ceil(256 * 16).min(65_535) as u32, 1, 1]);
    Ok(bytes as f64 / least_seconds(gpu, &dispatch).await? / 1e9)
}

/// Billions of multiply-adds a second.
async fn peak(gpu: &Gpu, pipelines: &mut Pipelines, dot: bool) -> Result<f64> {
    /// As in the shader.
    const THREADS: f64 = 128.0;
    const CHAINS: f64 = 8.0;
    const STEPS: f64 = 1024.0;
    let sink = gpu.buffer("sink", 16)?;
    let kernel = pipelines.get(gpu, Permutation::new("peak").flag_if(dot, "DOT"));
    let mut workgroups = 16;
    loop {
        let seconds = least_seconds(gpu, &kernel.bind(gpu, &[&sink], [workgroups, 1, 1])).await?;
        // Long enough to fill the device and to be measured.
        if seconds > 5e-3 || workgroups >= 1 << 15 {
            let macs = f64::from(workgroups) * THREADS * CHAINS * STEPS * if dot { 4.0 } else { 1.0 };
            return Ok(macs / seconds / 1e9);
        }
        workgroups *= 2;
    }
}

/// Of one dispatch, the best of several.
async fn least_seconds(gpu: &Gpu, dispatch: &Dispatch) -> Result<f64> {
    let mut least = f64::INFINITY;
    for _ in 0..ROUNDS {
        let seconds = if gpu.capabilities.timestamps {
            timed(gpu, std::slice::from_ref(dispatch)).await?[0] / 1e6
        } else {
            let start = Instant::now();
            gpu.submit(|pass| dispatch.encode(pass));
            gpu.settle().await?;
            start.elapsed().as_secs_f64()
        };
        least = least.min(seconds);
    }
    Ok(least)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
