use super::ModelOptions;
use kinglet::{Error, Result};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

/// Write the logits of every position of a token sequence
#[derive(clap::Args)]
pub struct Options {
    #[command(flatten)]
    model: ModelOptions,
    /// Token ids, separated by commas; nothing is added
    #[arg(long, value_delimiter = ',', required = true)]
    tokens: Vec<u32>,
    /// Little-endian float32 [positions, vocabulary]
    #[arg(long)]
    out: PathBuf,
}

pub fn main(options: &Options) -> Result<()> {
    let mut session = options.model.load()?;
    session.use_adapters(&options.model.adapters.uses())?;
    let failed = |error: std::io::Error| Error::BadRequest(format!("{}: {error}", options.out.display()));
    let mut out = BufWriter::new(File::create(&options.out).map_err(failed)?);
    pollster::block_on(session.logits(&options.tokens, |logits| {
        let bytes: Vec<u8> = logits.iter().flat_map(|x| x.to_le_bytes()).collect();
        out.write_all(&bytes).map_err(failed)
    }))?;
    out.flush().map_err(failed)
}
