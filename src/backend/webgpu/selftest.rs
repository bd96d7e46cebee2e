//! Trust: before a model's first answer, its first layer, a few rows of its embedding and head, and the sampler run on the
//! GPU and on the CPU, as a batch and as a single token. A driver that is wrong is found here rather than by the user.

use std::collections::HashMap;

use super::WebGpuBackend;
use crate::backend::cpu::kv_cache::FIRST_POSITIONS;
use crate::backend::cpu::{self, CpuBackend};
use crate::backend::{Backend, DecoderSpec, HeadRows, Memory, Sampling, Slot, TensorShape};
use crate::formats::Format;
use crate::{Error, Result};

/// Rows of embedding and head that the CPU gets.
const ROWS: usize = 64;

/// Of what a step adds. The CPU's int8 activations alone are off by 1e-2 to 3e-2 of a float product's result; a wrong
/// index, a lost barrier or a dropped lane is off by far more.
const TOLERANCE: f64 = 0.1;

/// The CPU's copy, filled beside the GPU's while the model streams in.
pub struct SelfTest {
    cpu: CpuBackend,
    row_bytes: HashMap<Slot, usize>,
}

impl SelfTest {
    pub fn new(spec: &DecoderSpec) -> SelfTest {
        SelfTest { cpu: CpuBackend::new(Self::spec(spec)), row_bytes: HashMap::new() }
    }

    fn spec(spec: &DecoderSpec) -> DecoderSpec {
        DecoderSpec {
            layers: 1,
            layer_kinds: spec.layer_kinds[..1].to_vec(),
            vocab: spec.vocab.min(ROWS),
            ..spec.clone()
        }
    }

    /// What it will take of the host's memory while the model is loaded.
    pub fn estimate(spec: &DecoderSpec, tensors: &[TensorShape]) -> Memory {
        let small = DecoderSpec { context_length: spec.context_length.min(FIRST_POSITIONS), ..Self::spec(spec) };
        let wanted =
            tensors.iter().map(|tensor| TensorShape { rows: Self::wanted(tensor.slot, tensor.rows), ..*tensor });
        cpu::estimate(&small, &wanted.filter(|tensor| tensor.rows > 0).collect::<Vec<_>>(), 1)
    }

    /// Rows of `slot` that it wants of `rows`.
    fn wanted(slot: Slot, rows: usize) -> usize {
        match slot {
            Slot::TokenEmbedding | Slot::Head => rows.min(ROWS),
            Slot::Layer(0, _) | Slot::OutputNorm | Slot::RopeFactors(_) => rows,
            Slot::Layer(..) => 0,
        }
    }

    pub fn allocate(&mut self, slot: Slot, format: Format, rows: usize, cols: usize) -> Result<()> {
        match Self::wanted(slot, rows) {
            0 => Ok(()),
            rows => {
                self.row_bytes.insert(slot, format.row_bytes(cols));
                self.cpu.allocate(slot, format, rows, cols)
            }
        }
    }

    /// As [`Backend::upload`]; what the test does not need is passed over.
    pub async fn upload(&mut self, slot: Slot, first_row: usize, bytes: &[u8]) -> Result<()> {
        let Some(&row_bytes) = self.row_bytes.get(&slot) else { return Ok(()) };
        let wanted = Self::wanted(slot, usize::MAX).saturating_sub(first_row);
        match wanted.min(bytes.len() / row_bytes) {
            0 => Ok(()),
            rows => self.cpu.upload(slot, first_row, &bytes[..rows * row_bytes]).await,
        }
    }

    /// Errors: [`Error::GpuUntrusted`] naming the steps that disagree. The GPU's cache is to be forgotten afterwards.
    pub async fn run(mut self, gpu: &mut WebGpuBackend) -> Result<()> {
        self.cpu.finish().await?;
        let vocab = self.cpu.spec().vocab as u32;
        let tokens: Vec<u32> = (0..6).map(|i| (7 * i + 1) % vocab).collect();
        let (batch, single) = tokens.split_at(gpu.max_batch().clamp(1, 5));
        self.compare(gpu, batch, 0).await?;
        self.compare(gpu, &single[..1], batch.len()).await?;
        sampler(gpu).await
    }

    async fn compare(&mut self, gpu: &mut WebGpuBackend, tokens: &[u32], start: usize) -> Result<()> {
        let path = if tokens.len() == 1 { "one token" } else { "a batch" };
        let cpu = &mut self.cpu;
        cpu.embed(tokens, start)?;
        gpu.embed(tokens, start)?;
        let found = gpu.residual().await?;
        agree(&format!("embed of {path}"), cpu.residual(), &found)?;

        let before = (cpu.residual().to_vec(), found);
        attention(cpu)?;
        attention(gpu)?;
        let found = gpu.residual().await?;
        agree(&format!("attention of {path}"), &added(cpu.residual(), &before.0), &added(&found, &before.1))?;

        let before = (cpu.residual().to_vec(), found);
        feed_forward(cpu)?;
        feed_forward(gpu)?;
        let found = gpu.residual().await?;
        agree(&format!("feed-forward of {path}"), &added(cpu.residual(), &before.0), &added(&found, &before.1))?;

        cpu.head(HeadRows::Last)?;
        gpu.head(HeadRows::Last)?;
        let expected = cpu.logits().await?;
        let found = gpu.logits().await?;
        agree(&format!("head of {path}"), expected, &found[..expected.len()])
    }
}

fn attention<B: Backend>(backend: &mut B) -> Result<()> {
    backend.qkv(0)?;
    backend.attention(0)?;
    backend.attention_out(0)
}

fn feed_forward<B: Backend>(backend: &mut B) -> Result<()> {
    backend.gate_up(0)?;
    backend.down(0)
}

/// What the device's sampler says of the logits it just made.
async fn sampler(gpu: &mut WebGpuBackend) -> Result<()> {
    let logits = gpu.logits().await?.to_vec();
    let greedy = Sampling { top_p: 1.0, repeat_penalty: 1.0, limit: 1, ..Sampling::default() };
    if !gpu.start_sampling(&greedy)? {
        return Ok(());
    }
    let sampled = gpu.next_sampled().await;
    gpu.stop_sampling();
    let sampled = sampled?;
    let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f64> = logits.iter().map(|&x| f64::from(x - best).exp()).collect();
    let total: f64 = weights.iter().sum();
    let logprob = -total.ln();
    let entropy: f64 = weights.iter().zip(&logits).map(|(w, &x)| -w / total * (f64::from(x - best) + logprob)).sum();
    let chosen = logits.get(sampled.id as usize).copied();
    let close = |a: f32, b: f64| (f64::from(a) - b).abs() < 1e-2 * (1.0 + b.abs());
    if chosen != Some(best) || !close(sampled.logprob, logprob) || !close(sampled.entropy, entropy) {
        return Err(Error::GpuUntrusted(format!(
            "its sampler chose token {} with log-probability {} and entropy {}, not {logprob:.4} and {entropy:.4}",
            sampled.id, sampled.logprob, sampled.entropy
        )));
    }
    Ok(())
}

/// What a step added to the stream: of a small one next to the rounding of those before it.
fn added(after: &[f32], before: &[f32]) -> Vec<f32> {
    after.iter().zip(before).map(|(after, before)| after - before).collect()
}

fn agree(what: &str, expected: &[f32], found: &[f32]) -> Result<()> {
    let (mut difference, mut size) = (0.0, 0.0);
    for (&e, &f) in expected.iter().zip(found) {
        difference += (f64::from(e) - f64::from(f)).powi(2);
        size += f64::from(e).powi(2);
    }
    let error = (difference / size.max(f64::MIN_POSITIVE)).sqrt();
    // NaN is no agreement either. Nothing added is nothing to compare.
    if found.len() == expected.len() && (error <= TOLERANCE || difference == 0.0) {
        return Ok(());
    }
    Err(Error::GpuUntrusted(format!("{what} differs from the CPU's by {:.0} %", 100.0 * error)))
}
