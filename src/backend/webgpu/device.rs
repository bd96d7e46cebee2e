//! Adapter, device and queue; what they can do; and how they fail.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use serde::Deserialize;

use super::tune::Tuning;
use crate::clock::Clock;
#[cfg(not(target_arch = "wasm32"))]
use crate::clock::system as now;
use crate::{Error, Result};

/// What the caller knows about the GPU or wants of it. In a browser JavaScript fills in what wgpu cannot see there.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct GpuOptions {
    /// In a browser: the device will have been asked for them (by the wrapped `requestDevice`).
    pub subgroups: bool,
    pub min_subgroup_size: u32,
    /// In a browser: `packed_4x8_integer_dot_product` is a language feature.
    pub packed_dot: bool,
    /// In a browser: what `engine.info` calls it.
    pub adapter: Option<String>,
    /// For tests: a kernel to make wrong on purpose.
    pub sabotage: Option<String>,
    /// For tests: less than the adapter's.
    pub binding_limit: Option<u64>,
    /// What `WebGpuBackend::tuning` gave at earlier loads with this adapter.
    pub tuning: Tuning,
    /// Measure while loading what `tuning` does not know.
    #[serde(skip)]
    pub tune: bool,
    /// Milliseconds from any fixed moment on; a page's is finer than what is taken without it.
    #[serde(skip)]
    pub clock: Option<Clock>,
    /// For tests: as many tokens in flight as at first, rather than as many as help.
    #[serde(skip)]
    pub few_in_flight: bool,
    /// For tests and benches: "f32", "f16" or "dot" rather than what `choose` takes.
    pub arithmetic: Option<String>,
    /// For tests and benches: sums through workgroup memory although the device has subgroups.
    pub without_subgroups: bool,
}

/// What kernels may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Every subgroup has at least so many lanes; 1: none can be used.
    pub subgroup_size: u32,
    pub packed_dot: bool,
    pub f16: bool,
    pub timestamps: bool,
    /// Bytes of one storage binding.
    pub binding_limit: u64,
    pub workgroups: u32,
}

/// What was made and moved since the device was requested. In steady state only the bytes read grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub buffers: usize,
    pub bind_groups: usize,
    pub writes: usize,
    pub bytes_read: u64,
}

pub struct Gpu {
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    pub adapter: String,
    pub capabilities: Capabilities,
    pub options: GpuOptions,
    pub tuning: Tuning,
    counts: Cell<Counts>,
    failure: Arc<Mutex<Failure>>,
}

/// The first of each kind. A lost device refuses everything: that is no fault of its own.
#[derive(Default)]
struct Failure {
    lost: Option<Error>,
    other: Option<Error>,
}

/// Natively one for the process, since each loads the Vulkan driver and lets it go again: NVIDIA's (580) was not found any more after
/// some hundred times.
fn instance() -> wgpu::Instance {
    let new = || wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    #[cfg(target_arch = "wasm32")]
    return new();
    #[cfg(not(target_arch = "wasm32"))]
    {
        static INSTANCE: std::sync::OnceLock<wgpu::Instance> = std::sync::OnceLock::new();
        INSTANCE.get_or_init(new).clone()
    }
}

impl Gpu {
    /// Errors: [`Error::NoWebGpu`].
    pub async fn request(options: &GpuOptions) -> Result<Gpu> {
        let instance = instance();
        let wanted = wgpu::RequestAdapterOptions {
            power_preference: wgpu::PowerPreference::HighPerformance,
            ..Default::default()
        };
        let none = |why: String| Error::NoWebGpu(why);
        let adapter = instance.request_adapter(&wanted).await.map_err(|e| none(e.to_string()))?;
        let info = adapter.get_info();
        let offered = adapter.features();
        let useful = wgpu::Features::SHADER_F16 | wgpu::Features::SUBGROUP | wgpu::Features::TIMESTAMP_QUERY;
        let limits = adapter.limits();
        let unwanted = if options.without_subgroups { wgpu::Features::SUBGROUP } else { wgpu::Features::empty() };
        let features = offered & (useful - unwanted);
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("kinglet"),
            required_features: features,
            // All that the adapter has of what grows with the model; the rest are WebGPU's defaults, which every
            // kernel keeps to.
            required_limits: wgpu::Limits {
                max_storage_buffer_binding_size: limits.max_storage_buffer_binding_size,
                max_buffer_size: limits.max_buffer_size,
                ..wgpu::Limits::default()
            },
            ..Default::default()
        };
        let (device, queue) = adapter.request_device(&descriptor).await.map_err(|e| none(e.to_string()))?;

        let failure = Arc::new(Mutex::new(Failure::default()));
        let uncaptured = failure.clone();
        device.on_uncaptured_error(Arc::new(move |error| {
            uncaptured.lock().expect("nothing panics while it is held").other.get_or_insert(of_wgpu(error));
        }));
        let lost = failure.clone();
        device.set_device_lost_callback(move |reason, message| {
            let error = Error::DeviceLost(format!("{reason:?}: {message}"));
            lost.lock().expect("nothing panics while it is held").lost.get_or_insert(error);
        });

        let web = cfg!(target_arch = "wasm32");
        let subgroup_size = match web {
            true if options.subgroups && !options.without_subgroups => options.min_subgroup_size,
            false if features.contains(wgpu::Features::SUBGROUP) => info.subgroup_min_size,
            _ => 1,
        };
        let binding_limit = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
        let capabilities = Capabilities {
            subgroup_size: subgroup_size.max(1),
            packed_dot: if web { options.packed_dot } else { true },
            f16: features.contains(wgpu::Features::SHADER_F16),
            timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
            binding_limit: options.binding_limit.unwrap_or(u64::MAX).min(binding_limit),
            workgroups: wgpu::Limits::default().max_compute_workgroups_per_dimension,
        };
        let name = if info.name.is_empty() { format!("{:?}", info.backend) } else { info.name };
        Ok(Gpu {
            device,
            queue,
            adapter: options.adapter.clone().unwrap_or(name),
            capabilities,
            tuning: options.tuning.clone(),
            options: options.clone(),
            counts: Cell::default(),
            failure,
        })
    }

    /// The first thing that went wrong on the device since it was made, if anything did.
    pub fn check(&self) -> Result<()> {
        let failed = || {
            let failure = self.failure.lock().expect("nothing panics while it is held");
            (failure.lost.clone(), failure.other.clone())
        };
        let error = match failed() {
            (Some(lost), _) => lost,
            (None, None) => return Ok(()),
            (None, Some(other)) => {
                // Natively the loss is heard of with the next poll, after what it made fail.
                let _ = self.device.poll(wgpu::PollType::Poll);
                failed().0.unwrap_or(other)
            }
        };
        Err(error)
    }

    pub fn counts(&self) -> Counts {
        self.counts.get()
    }

    pub fn count(&self, change: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts.get();
        change(&mut counts);
        self.counts.set(counts);
    }

    /// Before whatever is submitted next.
    pub fn write(&self, buffer: &wgpu::Buffer, offset: u64, bytes: &[u8]) {
        self.count(|counts| counts.writes += 1);
        self.queue.write_buffer(buffer, offset, bytes);
    }

    /// For storage; `bytes` is rounded up to whole words, never empty. Errors: [`Error::OutOfMemory`] where it exceeds
    /// the device's limit. (A device that runs out of memory says so later, to [`Gpu::check`].)
    pub fn buffer(&self, label: &str, bytes: u64) -> Result<wgpu::Buffer> {
        self.buffer_for(label, bytes, wgpu::BufferUsages::STORAGE)
    }

    /// As [`Gpu::buffer`], for other bindings.
    pub fn buffer_for(&self, label: &str, bytes: u64, bindings: wgpu::BufferUsages) -> Result<wgpu::Buffer> {
        let usage = bindings | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        let size = buffer_bytes(bytes);
        let limit = self.capabilities.binding_limit;
        if size > limit {
            return Err(Error::OutOfMemory {
                what: format!("the GPU buffer {label}"),
                need_bytes: size,
                available_bytes: limit,
                advice: "use a smaller contextLength, or the CPU".into(),
            });
        }
        self.count(|counts| counts.buffers += 1);
        Ok(self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size,
            usage,
            mapped_at_creation: false,
        }))
    }

    /// To be copied into and mapped.
    pub fn staging(&self, label: &str, bytes: u64) -> wgpu::Buffer {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        self.count(|counts| counts.buffers += 1);
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size: bytes,
            usage,
            mapped_at_creation: false,
        })
    }

    /// Encodes one compute pass and submits it.
    pub fn submit(&self, encode: impl FnOnce(&mut wgpu::ComputePass)) -> wgpu::SubmissionIndex {
        let mut encoder = self.device.create_command_encoder(&Default::default());
        encode(&mut encoder.begin_compute_pass(&Default::default()));
        self.queue.submit([encoder.finish()])
    }

    /// Starts to map `staging`, which `submission` writes.
    pub fn map(&self, staging: wgpu::Buffer, bytes: u64, submission: wgpu::SubmissionIndex) -> Mapping {
        let done = Arc::new(Mutex::new(MapState::default()));
        let callback = done.clone();
        staging.slice(..bytes).map_async(wgpu::MapMode::Read, move |result| {
            let mut state = callback.lock().expect("nothing panics while it is held");
            state.result = Some(result.is_ok());
            if let Some(waker) = state.waker.take() {
                waker.wake();
            }
        });
        Mapping { staging, bytes, submission, done }
    }

    /// Waits for a mapping and hands its bytes on; the buffer can be used again afterwards. Errors: [`Error::DeviceLost`].
    pub async fn read(&self, mapping: Mapping) -> Result<(Vec<u8>, wgpu::Buffer)> {
        // In a browser this does nothing: its event loop polls.
        #[cfg(not(target_arch = "wasm32"))]
        if !mapping.is_done() {
            // Not for what was submitted since.
            let submission_index = Some(mapping.submission.clone());
            let _ = self.device.poll(wgpu::PollType::Wait { submission_index, timeout: None });
        }
        let mapped = (&mapping).await;
        self.check()?;
        if !mapped {
            return Err(Error::DeviceLost("a buffer could not be read back".into()));
        }
        let Mapping { staging, bytes, .. } = mapping;
        let copied = match staging.slice(..bytes).get_mapped_range() {
            Ok(view) => view.to_vec(),
            // Its own message is a page of the browser's.
            Err(_) => return Err(Error::DeviceLost("a buffer could not be read back".into())),
        };
        staging.unmap();
        self.count(|counts| counts.bytes_read += bytes);
        Ok((copied, staging))
    }

    /// Copies a part of a buffer to the CPU. For what is read rarely.
    pub async fn read_buffer(&self, buffer: &wgpu::Buffer, offset: u64, bytes: u64) -> Result<Vec<u8>> {
        let size = bytes.next_multiple_of(4);
        let staging = self.staging("read", size);
        let mut encoder = self.device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(buffer, offset, &staging, 0, size);
        let submission = self.queue.submit([encoder.finish()]);
        let (mut copied, _) = self.read(self.map(staging, size, submission)).await?;
        copied.truncate(bytes as usize);
        Ok(copied)
    }

    /// Milliseconds from a fixed moment on.
    pub fn clock(&self) -> Clock {
        self.options.clock.unwrap_or(now)
    }

    /// All work submitted so far is done. Errors: whatever failed on the device.
    pub async fn settle(&self) -> Result<()> {
        let probe = self.buffer("probe", 16)?;
        self.read_buffer(&probe, 0, 4).await.map(|_| ())
    }
}

/// Of a storage buffer that holds so much: whole quads, never none.
pub fn buffer_bytes(bytes: u64) -> u64 {
    bytes.next_multiple_of(16).max(16)
}

#[cfg(target_arch = "wasm32")]
fn now() -> f64 {
    js_sys::Date::now()
}

/// The device's own words for a failure.
fn of_wgpu(error: wgpu::Error) -> Error {
    match error {
        // It tells no figures.
        wgpu::Error::OutOfMemory { .. } => Error::GpuOutOfMemory,
        wgpu::Error::Validation { description, .. } | wgpu::Error::Internal { description, .. } => {
            Error::GpuUntrusted(description)
        }
    }
}

#[derive(Default)]
struct MapState {
    result: Option<bool>,
    waker: Option<Waker>,
}

/// A buffer on its way to be read.
pub struct Mapping {
    staging: wgpu::Buffer,
    bytes: u64,
    #[cfg_attr(target_arch = "wasm32", expect(dead_code, reason = "the browser polls"))]
    submission: wgpu::SubmissionIndex,
    done: Arc<Mutex<MapState>>,
}

impl Mapping {
    pub fn is_done(&self) -> bool {
        self.done.lock().expect("nothing panics while it is held").result.is_some()
    }

    /// Nobody wants to know any more: the buffer can be used again.
    pub fn cancel(self) -> wgpu::Buffer {
        self.staging.unmap();
        self.staging
    }
}

/// Whether the mapping worked.
impl Future for &Mapping {
    type Output = bool;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<bool> {
        let mut state = self.done.lock().expect("nothing panics while it is held");
        match state.result {
            Some(mapped) => Poll::Ready(mapped),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
