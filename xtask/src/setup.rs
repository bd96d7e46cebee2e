//! What a fresh machine with Rust and Node.js still lacks. Quick when everything is there.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::shell::{command, output, root, run, step};

const TARGET: &str = "wasm32-unknown-unknown";
const NODE: u32 = 20;
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

pub fn everything() -> Result<()> {
    wasm_target()?;
    for dir in ["pkg", "www", "tests/browser"] {
        npm(dir)?;
    }
    step("Browser", &browser()?.display().to_string());
    Ok(())
}

/// Rust's library for wasm.
pub fn wasm_target() -> Result<()> {
    let installed = || {
        output("rustc", &["--print", "target-libdir", "--target", TARGET])
            .is_some_and(|dir| PathBuf::from(dir).is_dir())
    };
    if !installed() {
        step("Installing", TARGET);
        run(command("rustup", ".").args(["target", "add", TARGET])).with_context(|| {
            format!("Rust's {TARGET} library is missing; without rustup, install your distribution's")
        })?;
    }
    Ok(())
}

/// `npm ci` in `dir`, unless what is installed is what the lock file says.
pub fn npm(dir: &str) -> Result<()> {
    node()?;
    let dir_path = root().join(dir);
    let lock = std::fs::read(dir_path.join("package-lock.json")).with_context(|| format!("{dir}/package-lock.json"))?;
    let stamp = dir_path.join("node_modules/.installed-lock.json");
    if std::fs::read(&stamp).is_ok_and(|installed| installed == lock) {
        return Ok(());
    }
    step("Installing", &format!("npm packages of {dir}"));
    run(command("npm", dir).args(["ci", "--no-audit", "--no-fund", "--loglevel=error"]).stdout(Stdio::null()))?;
    std::fs::create_dir_all(dir_path.join("node_modules"))?;
    Ok(std::fs::write(stamp, lock)?)
}

fn node() -> Result<()> {
    let version = output("node", &["--version"]).context("Node.js is missing: install version 20 or newer")?;
    let major = version.trim_start_matches('v').split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_none_or(|major| major < NODE) {
        bail!("Node.js {version} is too old: install version {NODE} or newer");
    }
    Ok(())
}

/// The browser for tests and the headless demo: $CHROMIUM, or one on the PATH, or Debian's, installed now.
pub fn browser() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("CHROMIUM") {
        let path = PathBuf::from(path);
        if !path.is_file() {
            bail!("$CHROMIUM is {}, which is not a file", path.display());
        }
        return Ok(path);
    }
    if let Some(path) = on_path() {
        return Ok(path);
    }
    let is_root = output("id", &["-u"]).as_deref() == Some("0");
    if !is_root || output("apt-get", &["--version"]).is_none() {
        bail!("no Chromium found: run `sudo apt-get install chromium`, or set $CHROMIUM to the path of one");
    }
    step("Installing", "chromium");
    run(command("apt-get", ".").args(["update", "-qq"]))?;
    run(command("apt-get", ".").env("DEBIAN_FRONTEND", "noninteractive").args([
        "install",
        "-y",
        "-qq",
        "--no-install-recommends",
        "chromium",
    ]))?;
    on_path().context("apt-get installed chromium, but it is not on the PATH")
}

fn on_path() -> Option<PathBuf> {
    let paths = std::env::var_os("PATH")?;
    let dirs: Vec<PathBuf> = std::env::split_paths(&paths).collect();
    BROWSERS.iter().flat_map(|name| dirs.iter().map(move |dir| dir.join(name))).find(|path| path.is_file())
}
