//! What one page loads before the model, and what the router adds, compressed as a web server would.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::pack::{LEVELS, ROUTER};
use crate::shell::{output, root};

/// Brotli bytes; one binary and its JavaScript.
const GATE: u64 = 700_000;
/// Gzip bytes; the router's binary and what wasm-bindgen writes to call it.
const ROUTER_GATE: u64 = 60_000;

/// Node.js carries gzip and Brotli, whose quality 11 is its default. One line of "raw gzip brotli" for each file named. Glue
/// is minified as it is in the bundles.
const MEASURE: &str = r"for (const file of process.argv.slice(1)) {
  const { gzipSync, brotliCompressSync } = require('zlib');
  const minified = (text) => require('./pkg/node_modules/esbuild').transformSync(text, { minify: true, format: 'esm' }).code;
  const read = require('fs').readFileSync(file);
  const data = /wasm.*\.js$/.test(file) ? Buffer.from(minified(read)) : read;
  console.log(data.length, gzipSync(data, { level: 9 }).length, brotliCompressSync(data).length);
}";

struct Size {
    raw: u64,
    gzip: u64,
    brotli: u64,
}

pub fn run() -> Result<()> {
    let package = root().join("pkg");
    let mut largest = 0;
    for level in LEVELS.map(|level| level.name) {
        let mut files = vec![package.join("wasm").join(level).join("kinglet_bg.wasm")];
        files.extend(scripts(&package.join("dist"), level)?);
        largest = largest.max(table(level, &files)?.brotli);
    }
    let router = package.join("wasm").join(ROUTER.name);
    let router = table(ROUTER.name, &["kinglet_bg.wasm", "kinglet.js"].map(|file| router.join(file)))?;
    gate("before the model (brotli)", largest, GATE)?;
    gate("for the router's core (gzip)", router.gzip, ROUTER_GATE)
}

fn gate(what: &str, found: u64, gate: u64) -> Result<()> {
    println!("size: {found} of {gate} bytes {what}");
    if found > gate {
        bail!("a page loads {} bytes more than the gate allows {what}", found - gate);
    }
    Ok(())
}

/// Prints the files' sizes and returns their sum.
fn table(title: &str, files: &[PathBuf]) -> Result<Size> {
    let line = |name: &str, size: &Size| println!("{name:<32} {:>10} {:>10} {:>10}", size.raw, size.gzip, size.brotli);
    let mut all = Size { raw: 0, gzip: 0, brotli: 0 };
    println!("{title:<32} {:>10} {:>10} {:>10}", "raw", "gzip", "brotli");
    for (file, size) in files.iter().zip(measure(files)?) {
        line(&format!("  {}", file.strip_prefix(root().join("pkg"))?.display()), &size);
        all = Size { raw: all.raw + size.raw, gzip: all.gzip + size.gzip, brotli: all.brotli + size.brotli };
    }
    line("  in all", &all);
    println!();
    Ok(all)
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

fn measure(files: &[PathBuf]) -> Result<Vec<Size>> {
    let mut args = vec!["-e", MEASURE];
    for file in files {
        args.push(file.to_str().context("the path of the repository is not UTF-8")?);
    }
    let table = output("node", &args).context("cannot measure the files of the package: cargo xtask pack")?;
    let parse = |line: &str| -> Option<Size> {
        let mut numbers = line.split(' ').map_while(|number| number.parse().ok());
        Some(Size { raw: numbers.next()?, gzip: numbers.next()?, brotli: numbers.next()? })
    };
    table.lines().map(|line| parse(line).with_context(|| format!("unexpected answer of node: {line}"))).collect()
}
