//! The native command line.

mod adapters;
mod answer;
mod bench;
mod inspect;
mod logits;
mod route;
mod run;
mod tokenize;

use clap::{Args, Parser, Subcommand, ValueEnum};
use kinglet::backend::any::AnyBackend;
use kinglet::backend::cpu::pool::{self, Pool};
#[cfg(feature = "webgpu")]
use kinglet::backend::webgpu::{GpuOptions, WebGpuBackend};
use kinglet::formats::gguf::shard_names;
use kinglet::session::{LoadOptions, Session};
use kinglet::source::FileSource;
use kinglet::{Error, Result};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Small language models from GGUF files.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(run::Options),
    Logits(logits::Options),
    Tokenize(tokenize::Options),
    Inspect(inspect::Options),
    Bench(bench::Options),
    Route(route::Options),
}

/// What every command that runs a model takes.
#[derive(Args)]
struct ModelOptions {
    /// GGUF file; the first of several for a split model
    model: PathBuf,
    #[arg(long, value_enum, default_value = "cpu")]
    backend: Backend,
    /// On a GPU: "f32" or "dot" rather than what suits it
    #[arg(long, hide = true)]
    arithmetic: Option<String>,
    /// On a GPU: measure the variants of its kernels while loading, for about a second
    #[arg(long)]
    tune: bool,
    /// Keys and values: of 16 bits, or signed bytes in a little over half the memory
    #[arg(long, value_enum, default_value = "f16")]
    kv_cache: KvCache,
    /// Threads on the CPU [default: one for each core, at most 8]
    #[arg(long)]
    threads: Option<usize>,
    /// Tokens of prompt and answer together [default: the model's, at most 4096]
    #[arg(long)]
    context_length: Option<usize>,
    #[command(flatten)]
    adapters: adapters::AdapterOptions,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum KvCache {
    F16,
    Int8,
}

#[derive(Clone, Copy, ValueEnum)]
enum Backend {
    Cpu,
    Webgpu,
}

impl ModelOptions {
    fn load(&self) -> Result<Session<AnyBackend>> {
        self.load_with_context(self.context_length)
    }

    fn load_with_context(&self, context_length: Option<usize>) -> Result<Session<AnyBackend>> {
        let options = LoadOptions { context_length, kv_int8: self.kv_cache == KvCache::Int8, ..LoadOptions::default() };
        let backend = async |spec, _| match self.backend {
            Backend::Cpu => Ok(AnyBackend::cpu(spec, Pool::new(self.threads.unwrap_or_else(pool::default_threads))?)),
            #[cfg(feature = "webgpu")]
            Backend::Webgpu => {
                let gpu = GpuOptions { arithmetic: self.arithmetic.clone(), tune: self.tune, ..GpuOptions::default() };
                Ok(AnyBackend::WebGpu(Box::new(WebGpuBackend::new(spec, &gpu).await?)))
            }
            #[cfg(not(feature = "webgpu"))]
            Backend::Webgpu => Err(Error::NoWebGpu("this build has none".into())),
        };
        let model = &mut open_model(&self.model)?;
        let mut session = pollster::block_on(Session::load_on(backend, model, options, |_, _| {}))?;
        self.adapters.load(&mut session)?;
        Ok(session)
    }
}

/// All parts of a model that is split over several files, or the one file.
fn open_model(path: &Path) -> Result<Vec<FileSource>> {
    let parts = path.file_name().and_then(|name| shard_names(name.to_str()?));
    match parts {
        Some(names) => names.iter().map(|name| FileSource::open(path.with_file_name(name))).collect(),
        None => Ok(vec![FileSource::open(path)?]),
    }
}

/// Prints without panicking where nobody reads on (`kinglet run ... | head`).
fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Error::Aborted,
        _ => Error::BadRequest(format!("writing the output failed: {error}")),
    })
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(options) => run::main(&options),
        Command::Logits(options) => logits::main(&options),
        Command::Tokenize(options) => tokenize::main(&options),
        Command::Inspect(options) => inspect::main(&options),
        Command::Bench(options) => bench::main(&options),
        Command::Route(options) => route::main(&options),
    };
    match result {
        Ok(()) | Err(Error::Aborted) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kinglet: {error}");
            ExitCode::FAILURE
        }
    }
}
