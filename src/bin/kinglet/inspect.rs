use super::{open_model, print};
use kinglet::Result;
use kinglet::formats::Checkpoint;
use kinglet::formats::inspect::{Needs, inspect};
use kinglet::model::{arch, memory};
use kinglet::session::{check_vocabulary, default_context};
use kinglet::text::Tokenizer;
use std::path::{Path, PathBuf};

/// Show metadata, tensors, the quantization mix, the memory needed, and whether the model is supported or why not
#[derive(clap::Args)]
pub struct Options {
    /// GGUF file; the first of several for a split model
    model: PathBuf,
    #[arg(long)]
    json: bool,
}

pub fn main(options: &Options) -> Result<()> {
    let checkpoint = pollster::block_on(Checkpoint::open(&mut open_model(&options.model)?))?;
    let report = inspect(&checkpoint, needs(&options.model));
    if options.json {
        return print(&format!("{}\n", serde_json::to_string_pretty(&report).expect("plain data")));
    }
    print(&report.to_string())
}

/// Opens the file again: the tokenizer takes its arrays out of the metadata, and the report shows them.
fn needs(model: &Path) -> Result<Needs> {
    let mut checkpoint = pollster::block_on(Checkpoint::open(&mut open_model(model)?))?;
    let spec = arch::describe(&checkpoint)?.spec;
    check_vocabulary(&Tokenizer::from_gguf(&mut checkpoint.metadata)?, &spec)?;
    Ok(Needs { context_length: default_context(&spec), cache_bytes_per_position: memory::kv_bytes_per_position(&spec) })
}
