//! The wasm binaries, the npm package and the site, from one source tree.

use std::fs;
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
    LEVELS.iter().try_for_each(|(level, flags)| wasm(level, flags))
}

/// Builds and binds one binary into pkg/wasm/LEVEL. wasm-opt would undo the order that LLVM gave the kernels. Each level
/// has a target directory of its own: in a shared one, the two would take turns to overwrite each other.
fn wasm(level: &str, flags: &str) -> Result<()> {
    step("Building", &format!("pkg/wasm/{level}"));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir));
    let target = target.join(format!("wasm-{level}"));
    run(web_cargo("build", flags).args(["--profile", "web", "--target-dir"]).arg(&target))?;
    let built = target.join("wasm32-unknown-unknown/web/kinglet.wasm");
    let bytes = fs::read(&built).with_context(|| built.display().to_string())?;

    let out = root().join("pkg/wasm").join(level);
    if out.exists() {
        fs::remove_dir_all(&out)?;
    }
    Bindgen::new()
        .input_bytes("kinglet", bytes)
        .web(true)?
        .omit_default_module_path(true)
        .typescript(false)
        .remove_name_section(true)
        .remove_producers_section(true)
        .generate(&out)
}

pub fn web_cargo(subcommand: &str, flags: &str) -> std::process::Command {
    let mut cargo = command("cargo", ".");
    cargo.arg(subcommand).args(WEB).env("RUSTFLAGS", flags).env_remove("CARGO_ENCODED_RUSTFLAGS");
    cargo
}
