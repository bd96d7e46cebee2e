//! The wasm binaries, the npm package and the site, from one source tree.

use std::fs;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use wasm_bindgen_cli_support::Bindgen;

use crate::setup;
use crate::shell::{command, root, run, step};

/// A browser binary: its directory under pkg/wasm, the crate's feature, cargo's profile and Rust's flags.
pub struct Binary {
    pub name: &'static str,
    pub feature: &'static str,
    pub profile: &'static str,
    pub flags: &'static str,
    /// Cargo's options for a standard library of its own; empty: the one that comes with Rust. Rust's stable compiler builds one
    /// only when it is told to take unstable options; it is the same compiler that builds the other binaries, with kernels in the
    /// same order.
    pub std: &'static [&'static str],
}

/// The engine, for each level of a CPU. Without loop strength reduction the offsets of loads stay in the loads: prefill gains
/// about 5 %.
pub const LEVELS: [Binary; 3] = [
    Binary {
        name: "simd",
        feature: "web",
        profile: "web",
        flags: "-C target-feature=+simd128 -C llvm-args=-disable-lsr",
        std: &[],
    },
    Binary {
        name: "relaxed",
        feature: "web",
        profile: "web",
        flags: "-C target-feature=+simd128,+relaxed-simd -C llvm-args=-disable-lsr",
        std: &[],
    },
    // The memory is the page's, up to what wasm32 can address; what is exported is what wasm-bindgen needs to give a thread
    // its stack and its thread-local storage.
    Binary {
        name: "threads",
        feature: "threads",
        profile: "web",
        flags: "-C target-feature=+simd128,+relaxed-simd,+atomics,+bulk-memory -C llvm-args=-disable-lsr \
                -C link-arg=--shared-memory -C link-arg=--import-memory -C link-arg=--max-memory=4294967296 \
                -C link-arg=--export=__wasm_init_tls -C link-arg=--export=__tls_size -C link-arg=--export=__tls_align \
                -C link-arg=--export=__tls_base -C link-arg=--export=__heap_base",
        // For memory that threads share.
        std: &["-Z", "build-std=std,panic_abort"],
    },
];

/// Only pages that route load it. A panic is a trap without a message, which neither std nor the router then has to make.
pub const ROUTER: Binary = Binary {
    name: "router",
    feature: "router-web",
    profile: "router",
    flags: "-C target-feature=+simd128 -Z unstable-options -C panic=immediate-abort -Z location-detail=none \
            -Z fmt-debug=none -C llvm-args=-inline-threshold=10",
    std: &["-Z", "build-std=std,panic_abort", "-Z", "build-std-features=optimize_for_size"],
};

/// Only the first request that wants its answer in a form loads it.
pub const GRAMMAR: Binary = Binary {
    name: "grammar",
    feature: "grammar-web",
    profile: "router",
    flags: "-C target-feature=+simd128",
    std: &[],
};

pub fn everything() -> Result<()> {
    wasm_only(None)?;
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

/// All binaries, or the one named.
pub fn wasm_only(wanted: Option<&str>) -> Result<()> {
    setup::wasm_target()?;
    setup::rust_source()?;
    let mut binaries: Vec<&Binary> = LEVELS.iter().chain([&ROUTER, &GRAMMAR]).collect();
    binaries.retain(|binary| wanted.is_none_or(|wanted| wanted == binary.name));
    if binaries.is_empty() {
        bail!("there is no binary of that name");
    }
    binaries.into_iter().try_for_each(wasm)
}

/// Builds and binds one binary into pkg/wasm/NAME. wasm-opt would undo the order that LLVM gave the kernels. Each has a
/// target directory of its own: in a shared one, they would take turns to overwrite each other.
fn wasm(binary: &Binary) -> Result<()> {
    let Binary { name, profile, .. } = binary;
    step("Building", &format!("pkg/wasm/{name}"));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir));
    let target = target.join(format!("wasm-{name}"));
    run(web_cargo("build", binary).args(["--profile", profile, "--target-dir"]).arg(&target))?;
    let built = target.join("wasm32-unknown-unknown").join(profile).join("kinglet.wasm");
    let bytes = fs::read(&built).with_context(|| built.display().to_string())?;
    let bytes = without_c_functions(&bytes)?;

    let out = root().join("pkg/wasm").join(name);
    if out.exists() {
        fs::remove_dir_all(&out)?;
    }
    Bindgen::new()
        .input_bytes("kinglet", bytes)
        .web(true)?
        .omit_default_module_path(true)
        .typescript(false)
        // For profiles.
        .remove_name_section(std::env::var_os("KINGLET_NAMES").is_none())
        .remove_producers_section(true)
        .generate(&out)
}

/// llguidance exports its functions for C, and an export keeps all that it calls: 50 kB of brotli for nobody.
fn without_c_functions(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut module = walrus::Module::from_buffer(bytes)?;
    let unwanted = |name: &str| name.starts_with("llg_") || name == "now";
    let exports: Vec<_> = module.exports.iter().filter(|e| unwanted(&e.name)).map(|e| e.id()).collect();
    exports.into_iter().for_each(|export| module.exports.delete(export));
    Ok(module.emit_wasm())
}

pub fn web_cargo(subcommand: &str, binary: &Binary) -> std::process::Command {
    let mut cargo = command("cargo", ".");
    cargo.args([subcommand, "--no-default-features", "--features", binary.feature, "--lib"]);
    cargo.args(["--target", "wasm32-unknown-unknown"]);
    cargo.env("RUSTFLAGS", binary.flags).env_remove("CARGO_ENCODED_RUSTFLAGS");
    if !binary.std.is_empty() {
        cargo.args(binary.std).env("RUSTC_BOOTSTRAP", "1");
    }
    cargo
}
