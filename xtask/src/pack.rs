//! The wasm binaries, the npm package and the site, from one source tree.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result};
use wasm_bindgen_cli_support::Bindgen;

use crate::setup;
use crate::shell::{command, root, run, step};

/// One binary per CPU level: directory under pkg/wasm, and Rust's flags. Without loop strength reduction the offsets of
/// loads stay in the loads: prefill gains about 5 %.
pub const LEVELS: [(&str, &str); 2] = [
    ("simd", "-C target-feature=+simd128 -C llvm-args=-disable-lsr"),
    ("relaxed", "-C target-feature=+simd128,+relaxed-simd -C llvm-args=-disable-lsr"),
];

/// The arguments of cargo that make a browser binary, whatever the subcommand.
pub const WEB: [&str; 6] =
    ["--no-default-features", "--features", "web", "--lib", "--target", "wasm32-unknown-unknown"];

pub fn everything() -> Result<()> {
    wasm_only()?;
    for dir in ["pkg", "www"] {
        setup::npm(dir)?;
    }
    step("Building", "pkg");
    run(command("npm", "pkg").args(["run", "--silent", "build"]))?;
    for old in fs::read_dir(root().join("pkg"))?.flatten() {
        if old.path().extension().is_some_and(|e| e == "tgz") {
            fs::remove_file(old.path())?;
        }
    }
    run(command("npm", "pkg").args(["pack", "--ignore-scripts", "--loglevel=error"]).stdout(Stdio::null()))?;
    step("Building", "www/dist");
    run(command("npm", "www").args(["run", "--silent", "build"]))
}

pub fn wasm_only() -> Result<()> {
    setup::wasm_target()?;
    setup::npm("xtask")?;
    LEVELS.iter().try_for_each(|(level, flags)| wasm(level, flags))
}

/// Builds, binds and optimises one binary into pkg/wasm/LEVEL. Each level has a target directory of its own: in a
/// shared one, the two would take turns to overwrite each other and nothing would stay built.
fn wasm(level: &str, flags: &str) -> Result<()> {
    step("Building", &format!("pkg/wasm/{level}"));
    let target = root().join("target").join(format!("wasm-{level}"));
    run(web_cargo("build", flags).args(["--profile", "web", "--target-dir"]).arg(&target))?;
    let built = target.join("wasm32-unknown-unknown/web/kinglet.wasm");
    let bytes = fs::read(&built).with_context(|| built.display().to_string())?;

    let out = root().join("pkg/wasm").join(level);
    let stamp = target.join("packed.stamp");
    let recipe = recipe(&bytes)?;
    if out.join("kinglet_bg.wasm").is_file() && fs::read_to_string(&stamp).is_ok_and(|old| old == recipe) {
        return Ok(());
    }
    if out.exists() {
        fs::remove_dir_all(&out)?;
    }
    Bindgen::new()
        .input_bytes("kinglet", bytes)
        .web(true)?
        .omit_default_module_path(true)
        .typescript(false)
        .generate(&out)?;
    optimise(&out.join("kinglet_bg.wasm"))?;
    Ok(fs::write(stamp, recipe)?)
}

pub fn web_cargo(subcommand: &str, flags: &str) -> std::process::Command {
    let mut cargo = command("cargo", ".");
    cargo.arg(subcommand).args(WEB).env("RUSTFLAGS", flags).env_remove("CARGO_ENCODED_RUSTFLAGS");
    cargo
}

/// Shrinks in place. The features are read from the binary's own target-features section.
fn optimise(wasm: &Path) -> Result<()> {
    let wasm = wasm.to_str().context("the path of the repository is not UTF-8")?;
    run(command("node", "xtask").args(["node_modules/binaryen/bin/wasm-opt", wasm, "-o", wasm]).args(OPTIMISE))
}

/// Not above -O1: from -O2 on the kernels lose 40 % of their prefill and a quarter of their decode speed in V8, to save
/// 2 % of the compressed size.
const OPTIMISE: [&str; 3] = ["-O1", "--strip-debug", "--strip-producers"];

/// Changes whenever the finished files could.
fn recipe(built: &[u8]) -> Result<String> {
    let mut hash = DefaultHasher::new();
    built.hash(&mut hash);
    fs::read(root().join("xtask/package-lock.json"))?.hash(&mut hash);
    fs::read(root().join("Cargo.lock"))?.hash(&mut hash);
    OPTIMISE.hash(&mut hash);
    Ok(format!("{:016x}", hash.finish()))
}
