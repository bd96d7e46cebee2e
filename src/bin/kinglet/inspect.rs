use super::{KvCache, open_model, print};
use kinglet::Result;
use kinglet::formats::Checkpoint;
use kinglet::model::inspect::{Question, inspect};
use std::path::PathBuf;

/// Show metadata, tensors, the quantization mix, the memory needed, and whether the model is supported or why not
#[derive(clap::Args)]
pub struct Options {
    /// GGUF file; the first of several for a split model
    model: PathBuf,
    /// Tokens of prompt and answer together [default: the model's, at most 4096]
    #[arg(long)]
    context_length: Option<usize>,
    /// Keys and values on a GPU
    #[arg(long, value_enum, default_value = "f16")]
    kv_cache: KvCache,
    /// Bytes that the CPU may take [default: what a page can address]
    #[arg(long)]
    memory_limit: Option<u64>,
    #[arg(long)]
    json: bool,
}

pub fn main(options: &Options) -> Result<()> {
    let checkpoint = pollster::block_on(Checkpoint::open(&mut open_model(&options.model)?))?;
    let report = inspect(
        &checkpoint,
        &Question {
            context_length: options.context_length,
            memory_limit: options.memory_limit,
            binding_limit: None,
            kv_int8: options.kv_cache == KvCache::Int8,
        },
    );
    if options.json {
        return print(&format!("{}\n", serde_json::to_string_pretty(&report).expect("plain data")));
    }
    print(&report.to_string())
}
