use super::{open_model, print};
use kinglet::formats::Checkpoint;
use kinglet::text::Tokenizer;
use kinglet::text::tokenizer::Special;
use kinglet::{Error, Result};
use std::fs::File;
use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

/// Read JSON strings, one a line, on stdin; print one JSON array of ids a line
///
/// Special tokens in the text count as such; none are added.
#[derive(clap::Args)]
pub struct Options {
    /// GGUF file or tokenizer.json
    model: PathBuf,
    /// The reverse: read arrays of ids, print strings
    #[arg(long)]
    decode: bool,
}

pub fn main(options: &Options) -> Result<()> {
    let tokenizer = load(&options.model)?;
    for (i, line) in std::io::stdin().lock().lines().enumerate() {
        let line = line.map_err(|error| Error::BadRequest(format!("line {} of stdin: {error}", i + 1)))?;
        if !line.trim().is_empty() {
            let answer = if options.decode { decode(&tokenizer, &line) } else { encode(&tokenizer, &line) };
            let answer = answer.map_err(|problem| Error::BadRequest(format!("line {} of stdin: {problem}", i + 1)))?;
            print(&format!("{answer}\n"))?;
        }
    }
    Ok(())
}

fn encode(tokenizer: &Tokenizer, line: &str) -> Result<String, String> {
    let text: String = serde_json::from_str(line).map_err(|error| format!("not a JSON string: {error}"))?;
    let ids = tokenizer.encode(&text, Special::Parse);
    Ok(serde_json::to_string(&ids).expect("numbers"))
}

fn decode(tokenizer: &Tokenizer, line: &str) -> Result<String, String> {
    let ids: Vec<u32> = serde_json::from_str(line).map_err(|error| format!("not a JSON array of ids: {error}"))?;
    let vocab = tokenizer.vocab_size();
    if let Some(id) = ids.iter().find(|&&id| id as usize >= vocab) {
        return Err(format!("there is no token {id}, only 0 to {}", vocab - 1));
    }
    Ok(serde_json::to_string(&tokenizer.decode(&ids, true)).expect("a string"))
}

fn load(path: &Path) -> Result<Tokenizer> {
    let failed = |error: std::io::Error| Error::Source(format!("{}: {error}", path.display()));
    let mut file = File::open(path).map_err(failed)?;
    let mut first = [0];
    file.read_exact(&mut first).map_err(failed)?;
    if first != *b"{" {
        let mut checkpoint = pollster::block_on(Checkpoint::open(&mut open_model(path)?))?;
        return Tokenizer::from_gguf(&mut checkpoint.metadata);
    }
    let mut json = first.to_vec();
    file.read_to_end(&mut json).map_err(failed)?;
    Tokenizer::from_tokenizer_json(&json)
}
