use super::{ModelOptions, print};
use kinglet::backend::any::AnyBackend;
#[cfg(feature = "webgpu")]
use kinglet::backend::webgpu::profile::Profile;
use kinglet::generate::sampler::SplitMix64;
use kinglet::generate::{Drafting, GenerateOptions};
use kinglet::session::{Info, Session, Stats, Step};
use kinglet::{Error, Result};
use serde::Serialize;
use std::time::Instant;

/// Measure reading a prompt and writing an answer; tokens are random, the answer greedy
#[derive(clap::Args)]
pub struct Options {
    #[command(flatten)]
    model: ModelOptions,
    /// Tokens of the prompt
    #[arg(short, default_value_t = 128)]
    prompt: usize,
    /// Tokens of the answer
    #[arg(short = 'n', default_value_t = 64)]
    completion: usize,
    /// Runs, of which the median counts; one more before them warms up
    #[arg(short, default_value_t = 3)]
    repeat: usize,
    #[arg(long)]
    json: bool,
}

/// There is none.
#[cfg(not(feature = "webgpu"))]
#[derive(Serialize)]
struct Profile;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    #[serde(flatten)]
    info: Info,
    load_ms: f64,
    prompt_tokens: usize,
    prefill_ms: f64,
    prefill_tokens_per_second: f64,
    completion_tokens: usize,
    decode_ms: f64,
    decode_tokens_per_second: f64,
    /// Weights, KV cache and scratch.
    memory_bytes: u64,
    /// Of the GPU.
    profile: Option<Profile>,
}

pub fn main(options: &Options) -> Result<()> {
    if options.prompt == 0 || options.completion < 2 || options.repeat == 0 {
        return Err(Error::BadRequest("-p must be at least 1, -n 2 and -r 1".into()));
    }
    let start = Instant::now();
    let mut session = options.model.load()?;
    let load_ms = start.elapsed().as_secs_f64() * 1e3;
    let vocabulary = session.info().vocabulary as u64;
    let mut random = SplitMix64(1);
    let prompt: Vec<u32> = (0..options.prompt).map(|_| (random.next_u64() % vocabulary) as u32).collect();
    let greedy = GenerateOptions {
        max_tokens: Some(options.completion),
        temperature: 0.0,
        ignore_eos: true,
        cache_prompt: false,
        drafts: Drafting::Never,
        adapters: options.model.adapters.uses(),
        ..GenerateOptions::default()
    };
    let mut runs: Vec<Stats> = Vec::new();
    for _ in 0..=options.repeat {
        session.start_tokens(prompt.clone(), &greedy, false)?;
        let stats = loop {
            if let Step::Done { stats, .. } = pollster::block_on(session.step())? {
                break stats;
            }
        };
        runs.push(stats);
    }
    runs.remove(0);
    let tokens = runs[0].completion_tokens;
    let prefill_ms = median(runs.iter().map(|run| run.prefill_ms).collect());
    let decode_ms = median(runs.iter().map(|run| run.decode_ms).collect());
    let memory = session.memory();
    let report = Report {
        info: session.info().clone(),
        load_ms,
        prompt_tokens: options.prompt,
        prefill_ms,
        prefill_tokens_per_second: options.prompt as f64 / prefill_ms * 1e3,
        completion_tokens: tokens,
        decode_ms,
        decode_tokens_per_second: (tokens - 1) as f64 / decode_ms * 1e3,
        memory_bytes: memory.weights + memory.kv_cache + memory.scratch,
        profile: profile(session, options.prompt + options.completion - 1)?,
    };
    if options.json {
        return print(&format!("{}\n", serde_json::to_string(&report).expect("plain data")));
    }
    let Report { info, .. } = &report;
    if let Some(profile) = &report.profile {
        print(&table(profile))?;
    }
    print(&format!(
        "{} {} on {}, {:.1} M parameters, loaded in {load_ms:.0} ms, {:.1} MB\n\
         prompt  {:6} tokens {:9.1} tokens/s\nanswer  {:6} tokens {:9.1} tokens/s\n",
        info.name.as_deref().unwrap_or(&info.architecture),
        info.quantization,
        info.backend,
        info.parameters as f64 / 1e6,
        report.memory_bytes as f64 / 1e6,
        report.prompt_tokens,
        report.prefill_tokens_per_second,
        report.completion_tokens,
        report.decode_tokens_per_second,
    ))
}

/// One token at `position`, kernel by kernel.
#[cfg(feature = "webgpu")]
fn profile(session: Session<AnyBackend>, position: usize) -> Result<Option<Profile>> {
    match session.into_backend() {
        AnyBackend::WebGpu(mut backend) => pollster::block_on(backend.profile(position)).map(Some),
        AnyBackend::Cpu(_) => Ok(None),
    }
}

#[cfg(not(feature = "webgpu"))]
fn profile(_: Session<AnyBackend>, _: usize) -> Result<Option<Profile>> {
    Ok(None)
}

#[cfg(feature = "webgpu")]
fn table(profile: &Profile) -> String {
    let read = profile.stream_read_gigabytes_per_second;
    let mut table = format!(
        "{}: reads {read:.1} GB/s; {:.0} G float and {:.0} G byte multiply-adds/s\n\
         {} dispatches a token, encoded in {:.0} us and submitted in {:.0} us\n\
         {:<14} {:>10} {:>10} {:>8} {:>8}\n",
        profile.adapter,
        profile.peak_f32_gmacs,
        profile.peak_dot_gmacs,
        profile.dispatches_per_token,
        profile.encode_microseconds,
        profile.submit_microseconds,
        "kernel",
        "dispatches",
        "us",
        "GB/s",
        "of read"
    );
    for kernel in &profile.kernels {
        let speed = kernel.gigabytes_per_second;
        table += &format!("{:<14} {:>10} {:>10.1}", kernel.name, kernel.dispatches, kernel.microseconds);
        table +=
            &if kernel.bytes > 0 { format!(" {speed:>8.1} {:>6.0} %\n", 100.0 * speed / read) } else { "\n".into() };
    }
    table
}

#[cfg(not(feature = "webgpu"))]
fn table(_: &Profile) -> String {
    String::new()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
