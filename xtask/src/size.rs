//! What one page loads before the model, compressed as a web server would.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::pack::LEVELS;
use crate::shell::{output, root};

/// Brotli bytes; one binary and its JavaScript.
const GATE: u64 = 650_000;

/// Node.js carries Brotli; quality 11 is its default. One line of "raw brotli" for each file named.
const MEASURE: &str = "for (const file of process.argv.slice(1)) {
  const raw = require('fs').readFileSync(file);
  console.log(raw.length, require('zlib').brotliCompressSync(raw).length);
}";

pub fn run() -> Result<()> {
    let package = root().join("pkg");
    let mut largest = 0;
    for level in LEVELS.map(|level| level.name) {
        let mut files = vec![package.join("wasm").join(level).join("kinglet_bg.wasm")];
        files.extend(scripts(&package.join("dist"), level)?);
        println!("{level:<32} {:>10} {:>10}", "raw", "brotli");
        let (mut raw, mut brotli) = (0, 0);
        for (file, size) in files.iter().zip(measure(&files)?) {
            let name = file.strip_prefix(&package)?.display().to_string();
            println!("  {name:<30} {:>10} {:>10}", size.0, size.1);
            raw += size.0;
            brotli += size.1;
        }
        println!("  {:<30} {raw:>10} {brotli:>10}\n", "in all");
        largest = largest.max(brotli);
    }
    println!("size: {largest} of {GATE} bytes (brotli) before the model");
    if largest > GATE {
        bail!("a page loads {} bytes more than the gate allows", largest - GATE);
    }
    Ok(())
}

/// What a page loads that imports the engine alone: the package's front door, the worker, the threads' one
/// where there are some, and the modules that they import.
fn scripts(dist: &Path, level: &str) -> Result<Vec<PathBuf>> {
    let mut scripts = vec![dist.join("index.js"), dist.join("worker.js")];
    scripts.extend((level == "threads").then(|| dist.join("pool.js")));
    let mut at = 0;
    while at < scripts.len() {
        let missing = || format!("{} is missing: cargo xtask pack", scripts[at].display());
        let text = fs::read_to_string(&scripts[at]).with_context(missing)?;
        // As esbuild writes them.
        for name in text.split("from\"./").skip(1).filter_map(|rest| rest.split('"').next()) {
            let script = dist.join(name);
            if !scripts.contains(&script) {
                scripts.push(script);
            }
        }
        at += 1;
    }
    Ok(scripts)
}

fn measure(files: &[PathBuf]) -> Result<Vec<(u64, u64)>> {
    let mut args = vec!["-e", MEASURE];
    for file in files {
        args.push(file.to_str().context("the path of the repository is not UTF-8")?);
    }
    let table = output("node", &args).context("cannot measure the files of the package: cargo xtask pack")?;
    let parse = |line: &str| -> Option<(u64, u64)> {
        let (raw, brotli) = line.split_once(' ')?;
        Some((raw.parse().ok()?, brotli.parse().ok()?))
    };
    table.lines().map(|line| parse(line).with_context(|| format!("unexpected answer of node: {line}"))).collect()
}
