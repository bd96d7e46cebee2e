//! Sampling on the device: the twin of `generate/sampler.rs` and `generate/signals.rs`, with several tokens in flight.
//! `sample_chunks` and `sample` end the plan, and `sample` writes the next token where `embed` reads it; so the host
//! replays the plan ahead of the results, which it reads back 16 bytes a token.

use std::collections::VecDeque;

use super::device::{Gpu, Mapping, buffer_bytes};
use super::pipelines::Dispatch;
use super::plan::Planner;
use super::{Batch, Model, WebGpuBackend, not_loaded};
use crate::backend::DecoderSpec;
use crate::backend::sampling::{PENALTY_WINDOW, Sampled, Sampling};
use crate::{Error, Result};

/// Threads of a workgroup, at least one a candidate. (256 cost lavapipe a millisecond more: barriers.)
const WORKGROUP: usize = 128;
/// Logits of a workgroup of `sample_chunks`, and how many such `sample` can sort.
const CHUNK: usize = 512;
const MAX_CHUNKS: usize = 1024;
/// Words of a pyramid over a chunk: its keys, and the highest of every 8, 64 and 512.
const PYRAMID: usize = CHUNK + 64 + 8 + 1;
/// What a workgroup's memory has room for.
const MAX_CANDIDATES: usize = 128;
const MAX_BIASES: usize = 1024;
/// Words of a request before biases and draws.
const HEADER: usize = 12;
/// The word that says how many of the best tokens to report.
const TOP_LOGPROBS: u64 = 4;
/// Bytes of a result, and of each of the best tokens that may follow.
const RESULT: usize = 16;
const TOP: usize = 8;
const MAX_TOP: usize = 32;

pub struct Sampler {
    /// `sample_chunks` and `sample`.
    pub dispatches: [Dispatch; 2],
    request: wgpu::Buffer,
    /// The ring of tokens that are penalized.
    recent: wgpu::Buffer,
    result: wgpu::Buffer,
    /// Buffers for results, not in flight.
    idle: Vec<wgpu::Buffer>,
    ahead: Ahead,
    run: Option<Run>,
    bytes: u64,
}

/// Tokens that were asked for.
struct Run {
    /// The position of its first token.
    start: usize,
    limit: usize,
    submitted: usize,
    returned: usize,
    top_logprobs: usize,
    /// Of its first token.
    first_top_logprobs: usize,
    in_flight: VecDeque<Mapping>,
}

impl Run {
    /// How many of the best tokens are reported with the run's `token`-th.
    fn top_logprobs(&self, token: usize) -> usize {
        if token == 0 { self.first_top_logprobs } else { self.top_logprobs }
    }
}

impl Sampler {
    /// `None`: the vocabulary is too large.
    pub fn new(planner: &mut Planner) -> Result<Option<Sampler>> {
        let (gpu, spec, buffers) = (planner.gpu, planner.spec, planner.buffers);
        let chunks = spec.vocab.div_ceil(CHUNK);
        if chunks > MAX_CHUNKS {
            return Ok(None);
        }
        let room = |label: &str, words: u64| gpu.buffer(label, 4 * words);
        let [request, pyramids, sums] = words(spec);
        let request = room("request", request)?;
        let pyramids = room("pyramids", pyramids)?;
        let sums = room("chunks", sums)?;
        let recent = room("recent", PENALTY_WINDOW as u64)?;
        let result = gpu.buffer("sampled", (RESULT + TOP * MAX_TOP) as u64)?;
        let permutation = |planner: &Planner, kernel| {
            planner
                .base(kernel)
                .number("WG", WORKGROUP)
                .number("VOCAB", spec.vocab)
                .number("CHUNKS", chunks)
                .number("PENALTY_WINDOW", PENALTY_WINDOW)
                .number("MAX_CANDIDATES", MAX_CANDIDATES)
                .number("MAX_BIASES", MAX_BIASES)
        };
        let of_chunks = permutation(planner, "sample_chunks");
        let of_chunks = planner.pipelines.get(gpu, of_chunks).bind(
            gpu,
            &[&buffers.logits, &request, &pyramids, &sums, &recent],
            [chunks as u32, 1, 1],
        );
        let sample = permutation(planner, "sample").flag("STATE_ADVANCES");
        let sample = planner.pipelines.get(gpu, sample).bind(
            gpu,
            &[&buffers.state, &buffers.logits, &request, &pyramids, &sums, &recent, &buffers.tokens, &result],
            [1, 1, 1],
        );
        let bytes = [&request, &pyramids, &sums].into_iter().map(wgpu::Buffer::size).sum();
        Ok(Some(Sampler {
            dispatches: [of_chunks, sample],
            request,
            recent,
            result,
            idle: Vec::new(),
            ahead: Ahead::default(),
            run: None,
            bytes,
        }))
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Of the buffers that grow with the model: request, pyramids, sums of the chunks.
fn words(spec: &DecoderSpec) -> [u64; 3] {
    let chunks = spec.vocab.div_ceil(CHUNK);
    [
        (HEADER + 2 * MAX_BIASES + 1) as u64 + spec.context_length as u64,
        (2 * PYRAMID * chunks) as u64,
        4 * chunks as u64,
    ]
}

/// What [`Sampler::bytes`] will be.
pub fn bytes_of(spec: &DecoderSpec) -> u64 {
    let fits = spec.vocab.div_ceil(CHUNK) <= MAX_CHUNKS;
    if fits { words(spec).into_iter().map(|words| buffer_bytes(4 * words)).sum() } else { 0 }
}

/// Whether the device can do it exactly as the host; how many candidates it then has.
fn candidates(sampling: &Sampling, vocab: usize, limit: usize) -> Option<usize> {
    let greedy = sampling.temperature <= 0.0 || sampling.top_k == 1;
    let candidates = match sampling.top_k {
        _ if greedy => 1,
        0 => vocab,
        top_k => top_k.min(vocab),
    };
    let biases_are_distinct = sampling.logit_bias.windows(2).all(|pair| pair[0].0 < pair[1].0);
    let possible = candidates <= MAX_CANDIDATES
        && sampling.logit_bias.len() <= MAX_BIASES
        && biases_are_distinct
        && sampling.recent.len() <= PENALTY_WINDOW
        && first_top_logprobs(sampling) <= MAX_TOP
        && (greedy || sampling.draws.len() >= limit);
    possible.then_some(candidates)
}

fn first_top_logprobs(sampling: &Sampling) -> usize {
    sampling.top_logprobs.max(sampling.first_top_logprobs)
}

/// `Request` of `shared/sample_keys.wgsl`, up to the draws.
fn request(sampling: &Sampling, candidates: usize) -> Vec<u8> {
    let penalized =
        sampling.repeat_penalty != 1.0 || sampling.frequency_penalty != 0.0 || sampling.presence_penalty != 0.0;
    let temperature = if candidates == 1 { 1.0 } else { sampling.temperature };
    // Off: never reached, and below everything.
    let top_p = if sampling.top_p < 1.0 { sampling.top_p } else { 2.0 };
    let log_min_p = if sampling.min_p > 0.0 { sampling.min_p.ln() } else { f32::MIN };
    let header: [u32; HEADER] = [
        candidates as u32,
        (penalized || !sampling.logit_bias.is_empty()).into(),
        sampling.logit_bias.len() as u32,
        sampling.recent.len() as u32,
        first_top_logprobs(sampling) as u32,
        temperature.to_bits(),
        top_p.to_bits(),
        log_min_p.to_bits(),
        sampling.repeat_penalty.to_bits(),
        sampling.presence_penalty.to_bits(),
        sampling.frequency_penalty.to_bits(),
        0,
    ];
    let biases = sampling.logit_bias.iter().flat_map(|&(id, bias)| [id, bias.to_bits()]);
    header.into_iter().chain(biases).flat_map(u32::to_le_bytes).collect()
}

impl WebGpuBackend {
    pub(super) fn start_on_device(&mut self, sampling: &Sampling) -> Result<bool> {
        self.gpu.check()?;
        self.stop_on_device();
        let Batch { start, tokens, head_rows, .. } = self.batch;
        let start = start + tokens;
        let Self { gpu, spec, .. } = self;
        let model = self.model.as_mut().ok_or_else(not_loaded)?;
        let Some(sampler) = model.sampler.as_mut().filter(|_| head_rows == 1) else { return Ok(false) };
        // The last token needs no place in the context.
        let limit = sampling.limit.min(spec.context_length + 1 - start);
        let Some(candidates) = candidates(sampling, spec.vocab, limit) else { return Ok(false) };
        gpu.write(&sampler.request, 0, &request(sampling, candidates));
        let draws: Vec<u8> = sampling.draws.iter().take(limit).flat_map(|draw| draw.to_le_bytes()).collect();
        gpu.write(&sampler.request, 4 * (HEADER + 2 * MAX_BIASES) as u64, &draws);
        let nothing = std::iter::repeat_n(u32::MAX, PENALTY_WINDOW - sampling.recent.len());
        let recent: Vec<u8> = sampling.recent.iter().copied().chain(nothing).flat_map(u32::to_le_bytes).collect();
        gpu.write(&sampler.recent, 0, &recent);
        sampler.ahead.restart();
        sampler.run = Some(Run {
            start,
            limit,
            submitted: 0,
            returned: 0,
            top_logprobs: sampling.top_logprobs,
            first_top_logprobs: first_top_logprobs(sampling),
            in_flight: VecDeque::new(),
        });
        self.run_ahead()?;
        Ok(true)
    }

    /// Submits tokens until enough are in flight.
    fn run_ahead(&mut self) -> Result<()> {
        loop {
            let Some((run, ahead)) = self.run() else { return Ok(()) };
            if run.in_flight.len() >= ahead.depth || run.submitted == run.limit {
                return Ok(());
            }
            // The first token's logits are there.
            let position = run.submitted.checked_sub(1).map(|step| run.start + step);
            if let Some(position) = position {
                self.grow(position + 1)?;
            }
            let model = self.model.as_mut().ok_or_else(not_loaded)?;
            if let Some(position) = position {
                // What grows the cache copies what is in flight, too.
                model.cache.len = position + 1;
            }
            submit(&self.gpu, model, position);
        }
    }

    fn run(&mut self) -> Option<(&mut Run, &mut Ahead)> {
        let sampler = self.model.as_mut()?.sampler.as_mut()?;
        Some((sampler.run.as_mut()?, &mut sampler.ahead))
    }

    pub(super) async fn next_on_device(&mut self) -> Result<Sampled> {
        let mapping = self.run().and_then(|(run, _)| run.in_flight.pop_front());
        let mapping = mapping.ok_or_else(|| Error::BadRequest("no more tokens were asked for".into()))?;
        let (bytes, staging) = self.gpu.read(mapping).await?;
        let (now, vocab) = ((self.gpu.clock())(), self.spec.vocab);
        let sampler = self.model.as_mut().and_then(|model| model.sampler.as_mut()).ok_or_else(not_loaded)?;
        sampler.idle.push(staging);
        if !self.gpu.options.few_in_flight {
            sampler.ahead.token(now);
        }
        let run = sampler.run.as_mut().ok_or_else(not_loaded)?;
        let top = run.top_logprobs(run.returned).min(vocab);
        run.returned += 1;
        let word = |i: usize| u32::from_le_bytes([0, 1, 2, 3].map(|byte| bytes[4 * i + byte]));
        let float = |i: usize| f32::from_bits(word(i));
        let sampled = Sampled {
            id: word(0),
            logprob: float(1),
            entropy: float(2),
            margin: float(3),
            top: (0..top).map(|i| (word(4 + 2 * i), float(5 + 2 * i))).collect(),
        };
        self.run_ahead()?;
        Ok(sampled)
    }

    pub(super) fn stop_on_device(&mut self) {
        let Some(model) = &mut self.model else { return };
        let Some(sampler) = &mut model.sampler else { return };
        let Some(run) = sampler.run.take() else { return };
        sampler.idle.extend(run.in_flight.into_iter().map(Mapping::cancel));
        // All tokens but the newest; what was written beyond them is written again.
        model.cache.len = run.start + run.returned.saturating_sub(1);
    }

    /// For tests of the sampler: as if a head had made them.
    #[doc(hidden)]
    pub fn set_logits(&mut self, logits: &[f32]) -> Result<()> {
        self.stop_on_device();
        let bytes: Vec<u8> = logits.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.gpu.write(&self.model()?.buffers.logits, 0, &bytes);
        self.batch = Batch { tokens: 1, head_rows: 1, ..Batch::default() };
        self.write_state(0, 1, 0)
    }
}

/// One token, and its result on the way back. `position`: where its input stands; none where the logits are there.
fn submit(gpu: &Gpu, model: &mut Model, position: Option<usize>) {
    let Some(sampler) = &mut model.sampler else { return };
    let Some(run) = &mut sampler.run else { return };
    let top = run.top_logprobs(run.submitted);
    // What the queue writes now comes after the first token and before the second.
    if run.submitted == 1 && top != run.first_top_logprobs {
        gpu.write(&sampler.request, 4 * TOP_LOGPROBS, &(top as u32).to_le_bytes());
    }
    let bytes = (RESULT + TOP * top) as u64;
    let staging = sampler.idle.pop().unwrap_or_else(|| gpu.staging("sampled", (RESULT + TOP * MAX_TOP) as u64));
    let mut encoder = gpu.device.create_command_encoder(&Default::default());
    let mut pass = encoder.begin_compute_pass(&Default::default());
    if let Some(position) = position {
        let plan = &model.plan;
        plan.embed.iter().for_each(|dispatch| dispatch.encode(&mut pass));
        let layers = plan.layers.iter().flat_map(|layer| layer.at(position));
        layers.for_each(|(dispatch, grid)| dispatch.encode_grid(&mut pass, grid));
        plan.head.iter().for_each(|dispatch| dispatch.encode(&mut pass));
    }
    sampler.dispatches.iter().for_each(|dispatch| dispatch.encode(&mut pass));
    drop(pass);
    encoder.copy_buffer_to_buffer(&sampler.result, 0, &staging, 0, bytes);
    let submission = gpu.queue.submit([encoder.finish()]);
    run.in_flight.push_back(gpu.map(staging, bytes, submission));
    run.submitted += 1;
}

/// How many tokens are in flight: as many as make the answer faster. Where the way back from the device is slow
/// (Firefox: 100 ms) more help, elsewhere they are only more to throw away at the end.
#[derive(Clone, Copy, Debug)]
struct Ahead {
    depth: usize,
    /// Milliseconds of a token at half the depth, while that is being tried.
    before: Option<f64>,
    settled: bool,
    /// Tokens of this measurement, the first of them at `since`.
    tokens: usize,
    since: f64,
}

impl Default for Ahead {
    fn default() -> Self {
        Self { depth: 3, before: None, settled: false, tokens: 0, since: 0.0 }
    }
}

const MAX_DEPTH: usize = 16;

impl Ahead {
    /// Time passes between runs.
    fn restart(&mut self) {
        self.tokens = 0;
    }

    /// One has come back.
    fn token(&mut self, now: f64) {
        if self.settled {
            return;
        }
        // Those in flight when a measurement begins still came at the old pace.
        if self.tokens == self.depth {
            self.since = now;
        }
        self.tokens += 1;
        if self.tokens < 4 * self.depth {
            return;
        }
        let time = (now - self.since) / (self.tokens - self.depth - 1) as f64;
        self.tokens = 0;
        if self.before.is_some_and(|before| time > 0.8 * before) {
            (self.depth, self.settled) = (self.depth.div_ceil(2), true);
        } else if self.depth == MAX_DEPTH {
            self.settled = true;
        } else {
            (self.depth, self.before) = ((2 * self.depth).min(MAX_DEPTH), Some(time));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a device that takes `device` ms a token, and `way` ms to say so.
    fn settled(device: f64, way: f64) -> usize {
        let mut ahead = Ahead::default();
        let mut submitted: VecDeque<f64> = VecDeque::new();
        let (mut now, mut free) = (0.0f64, 0.0f64);
        for _ in 0..1000 {
            while submitted.len() < ahead.depth {
                free = free.max(now) + device;
                submitted.push_back(free);
            }
            now = now.max(submitted.pop_front().unwrap() + way);
            ahead.token(now);
        }
        assert!(ahead.settled);
        ahead.depth
    }

    #[test]
    fn as_many_tokens_are_in_flight_as_help() {
        assert_eq!(settled(10.0, 0.5), 3, "the device is never idle");
        assert_eq!(settled(1.0, 100.0), 16, "a slow way back");
        assert!((4..=12).contains(&settled(5.0, 25.0)), "between");
    }
}
