use super::{answer, open_model, print};
use clap::{Args, Subcommand};
use kinglet::formats::Checkpoint;
use kinglet::generate::GenerateOptions;
use kinglet::router::artifact::{Calibration, MadeFor};
use kinglet::router::certify::Target;
use kinglet::router::examples::{self, Example};
use kinglet::router::{calibration, replay};
use kinglet::source::{ByteSource, FileSource};
use kinglet::{Error, Result};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// The router: what may stay local, learned and certified on examples
#[derive(Args)]
pub struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Answer(answer::Options),
    /// Fit p(ok) and certify a threshold; an error where the target cannot be certified
    Calibrate(Calibrate),
    /// What the examples allow: error rate, ranking, the least that must be escalated, the share certified
    Feasibility(Feasibility),
    /// Decide a log of answers again, in its order
    Replay(Replay),
}

#[derive(Args)]
struct Learn {
    /// JSON lines {"id", "group"?, "signals" or "tokens", "label": 0|1, "cost"?}
    examples: PathBuf,
    /// risk=0.1,delta=0.1: of the answers kept at most a tenth is bad, with probability 0.9; or cost=0.3,delta=0.1: at
    /// most that share of the cloud's cost is spent
    #[arg(long)]
    target: String,
    /// Of the random halves
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

#[derive(Args)]
struct Calibrate {
    #[command(flatten)]
    learn: Learn,
    #[arg(long)]
    out: PathBuf,
    /// The GGUF file whose answers the examples are: the calibration then holds for that model alone
    #[arg(long)]
    model: Option<PathBuf>,
    /// The sampling options of those answers as JSON, e.g. {"temperature": 0}
    #[arg(long, requires = "model")]
    sampler: Option<String>,
    /// The backend that made them
    #[arg(long, requires = "model", default_value = "cpu", value_parser = ["cpu", "webgpu"])]
    backend: String,
    /// Print the feasibility report as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Feasibility {
    #[command(flatten)]
    learn: Learn,
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Replay {
    /// JSON lines as for calibrate; labels may be missing
    log: PathBuf,
    #[arg(long)]
    calibration: PathBuf,
    #[arg(long)]
    json: bool,
}

impl Learn {
    fn read(&self) -> Result<(Vec<Example>, Target)> {
        let target = Target::parse(&self.target)?;
        Ok((read_examples(&self.examples)?, target))
    }
}

/// Sampling options out of their JSON; none: the default ones.
pub fn sampler(json: Option<&str>) -> Result<GenerateOptions> {
    let wrong = |error| Error::BadRequest(format!("--sampler is not a JSON object of options: {error}"));
    json.map_or(Ok(GenerateOptions::default()), |json| serde_json::from_str(json).map_err(wrong))
}

pub fn read_text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path)
        .map_err(|error| Error::BadRequest(format!("{} cannot be read: {error}", path.display())))
}

fn read_examples(path: &Path) -> Result<Vec<Example>> {
    examples::parse(&read_text(path)?).map_err(|error| Error::BadRequest(format!("{}: {error}", path.display())))
}

pub fn main(options: &Options) -> Result<()> {
    match &options.command {
        Command::Answer(options) => answer::main(options),
        Command::Calibrate(options) => calibrate(options),
        Command::Feasibility(options) => feasibility(options),
        Command::Replay(options) => replay(options),
    }
}

fn calibrate(options: &Calibrate) -> Result<()> {
    let (examples, target) = options.learn.read()?;
    let made_for = options.model.as_ref().map(|model| options.made_for(model)).transpose()?;
    let calibration = Calibration::new(&examples, &target, options.learn.seed, made_for)?;
    std::fs::write(&options.out, calibration.to_json())
        .map_err(|error| Error::BadRequest(format!("{} cannot be written: {error}", options.out.display())))?;
    if calibration.made_for.is_none() {
        eprintln!(
            "kinglet: without --model it is not known what the calibration is for; a router will not call it calibrated"
        );
    }
    if options.json {
        return print(&json(&calibration.feasibility));
    }
    let looks_at = calibration.model.signals().join(" ");
    let table = table(&calibration.feasibility);
    print(&format!(
        "{table}signals  {looks_at}\ntau  {:.4}\nwritten to {}\n",
        calibration.tau(false),
        options.out.display()
    ))
}

impl Calibrate {
    fn made_for(&self, model: &Path) -> Result<MadeFor> {
        let sampler = sampler(self.sampler.as_deref())?;
        let mut parts = open_model(model)?;
        let checkpoint = pollster::block_on(Checkpoint::open(&mut parts))?;
        let template = checkpoint.metadata.string("tokenizer.chat_template")?.unwrap_or_default();
        Ok(MadeFor::new(&pollster::block_on(sha256(&mut parts))?, template, &sampler, &self.backend))
    }
}

/// Of the one file, or of all parts of a split model, one after the other.
async fn sha256(parts: &mut [FileSource]) -> Result<String> {
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    for part in parts {
        let mut at = 0;
        loop {
            let n = part.read_up_to(at, &mut buffer).await?;
            if n == 0 {
                break;
            }
            hash.update(&buffer[..n]);
            at += n as u64;
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn feasibility(options: &Feasibility) -> Result<()> {
    let (examples, target) = options.learn.read()?;
    let fitted = calibration::fit(&examples, &target, options.learn.seed)?;
    if options.json {
        return print(&json(&fitted.feasibility));
    }
    let verdict = match fitted.check_certifiable() {
        Ok(()) => String::new(),
        Err(error) => format!("{error}\n"),
    };
    print(&(table(&fitted.feasibility) + &verdict))
}

fn replay(options: &Replay) -> Result<()> {
    let calibration = Calibration::from_json(&read_text(&options.calibration)?)
        .map_err(|error| Error::BadRequest(format!("{}: {error}", options.calibration.display())))?;
    let report = replay::replay(&calibration, &read_examples(&options.log)?);
    print(&if options.json { json(&report) } else { table(&report) })
}

fn json(report: &impl Serialize) -> String {
    format!("{}\n", serde_json::to_string(report).expect("plain data"))
}

/// One line a figure, objects as JSON.
fn table(report: &impl Serialize) -> String {
    let Ok(serde_json::Value::Object(figures)) = serde_json::to_value(report) else { return String::new() };
    let line = |(name, value): (&String, &serde_json::Value)| match value.as_f64() {
        Some(x) if x.fract() != 0.0 => format!("{name}  {x:.4}\n"),
        _ => format!("{name}  {value}\n"),
    };
    figures.iter().map(line).collect()
}
