//! Writes GGUF models of true shapes with seeded random weights and, where it is at hand, the real vocabulary.
//!
//! ```text
//! cargo run --example make-model -- [--out FOLDER] [--data FOLDER] SHAPE:MIX ...
//! cargo run --example make-model -- phi-4-mini:Q4_K_M smollm2-135m:Q4_0
//! ```
//!
//! Each becomes FOLDER/SHAPE-MIX.gguf (default: benches/web/models); what is there already is kept. `--data`: a folder with
//! the tokenizers' folders (default: ../shared/data/tokenizers).

mod blocks;
mod header;
mod shapes;
mod tokens;

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use kinglet::generate::sampler::SplitMix64;
use shapes::{Architecture, Mix, SHAPES, Shape, Tensor};

/// What is made and written at once.
const CHUNK_BYTES: usize = 8 << 20;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("make-model: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut out, mut data) = (root.join("benches/web/models"), root.join("../shared/data/tokenizers"));
    let mut wanted = Vec::new();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--out" => out = PathBuf::from(args.next().ok_or("--out needs a folder")?),
            "--data" => data = PathBuf::from(args.next().ok_or("--data needs a folder")?),
            model => wanted.push(parse(model)?),
        }
    }
    if wanted.is_empty() {
        return Err(format!("say which models, SHAPE:MIX; {}", choices()));
    }
    fs::create_dir_all(&out).map_err(|error| format!("{}: {error}", out.display()))?;
    for (shape, mix_name, mix) in wanted {
        let path = out.join(format!("{}-{mix_name}.gguf", shape.name));
        if path.exists() {
            println!("{}: there already", path.display());
            continue;
        }
        let part = path.with_extension("part");
        let failed = |error: std::io::Error| format!("{}: {error}", part.display());
        write(shape, mix, &data, &part)?.map_err(failed)?;
        let bytes = fs::metadata(&part).map_err(failed)?.len();
        fs::rename(&part, &path).map_err(failed)?;
        println!("{}: {:.1} MB", path.display(), bytes as f64 / 1e6);
    }
    Ok(())
}

fn choices() -> String {
    let shapes: Vec<&str> = SHAPES.iter().map(|shape| shape.name).collect();
    let mixes = Mix::ALL.map(|(name, _)| name);
    format!("shapes are {}; mixes are {}", shapes.join(", "), mixes.join(", "))
}

fn parse(model: &str) -> Result<(&'static Shape, &'static str, Mix), String> {
    let (shape, mix) = model.split_once(':').unwrap_or((model, ""));
    let mix = Mix::ALL.into_iter().find(|(name, _)| *name == mix);
    match (shapes::shape(shape), mix) {
        (Some(shape), Some((name, mix))) => Ok((shape, name, mix)),
        _ => Err(format!("{model}: {}", choices())),
    }
}

/// The outer error is the vocabulary's, the inner one the file's.
fn write(shape: &Shape, mix: Mix, data: &Path, path: &Path) -> Result<std::io::Result<()>, String> {
    let tokens = tokens::read(shape, data)?;
    let tensors = shapes::tensors(shape, mix);
    let header = header::header(shape, mix, &tensors, &tokens);
    let seed = shape.name.bytes().fold(mix.file_type().into(), |seed: u64, byte| seed.rotate_left(8) ^ u64::from(byte));
    let mut random = SplitMix64(seed);
    let mut write_all = || {
        let mut file = BufWriter::new(File::create(path)?);
        file.write_all(&header)?;
        for tensor in &tensors {
            write_tensor(shape, tensor, &mut random, &mut file)?;
        }
        file.flush()
    };
    Ok(write_all())
}

fn write_tensor(shape: &Shape, tensor: &Tensor, random: &mut SplitMix64, file: &mut impl Write) -> std::io::Result<()> {
    let bytes = tensor.bytes();
    if tensor.is_vector() {
        for i in 0..tensor.cols {
            file.write_all(&vector_element(shape, &tensor.name, i, tensor.cols).to_le_bytes())?;
        }
    } else {
        let of_embedding = tensor.name == "token_embd.weight";
        let deviation = if of_embedding { 0.05 } else { 0.6 / (tensor.cols as f32).sqrt() };
        let row = tensor.format.row_bytes(tensor.cols);
        let mut chunk = vec![0; (CHUNK_BYTES / row).max(1) * row];
        let mut left = bytes;
        while left > 0 {
            let now = chunk.len().min(left);
            blocks::fill(tensor.format, deviation, random, &mut chunk[..now]);
            file.write_all(&chunk[..now])?;
            left -= now;
        }
    }
    file.write_all(&vec![0; header::padded(bytes) - bytes])
}

/// Norms of ones, small biases, and longrope's factors rising to Phi-4-mini's largest.
fn vector_element(shape: &Shape, name: &str, i: usize, cols: usize) -> f32 {
    match name {
        "rope_factors_long.weight" => {
            debug_assert_eq!(shape.architecture, Architecture::Phi3);
            47.77f32.powf(i as f32 / (cols - 1) as f32)
        }
        name if name.ends_with(".bias") => 0.1 * ((i * 37 % 19) as f32 / 9.0 - 1.0),
        _ => 1.0,
    }
}
