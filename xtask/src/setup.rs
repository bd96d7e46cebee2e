//! What a fresh machine with Rust and Node.js still lacks (for the tests also Python 3.11 or newer). Quick when everything is there.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::shell::{command, output, root, run, step};

const TARGET: &str = "wasm32-unknown-unknown";
const NODE: u32 = 20;
const CHROMIUM: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
const FIREFOX: [&str; 2] = ["firefox-esr", "firefox"];
/// Real servers that the router is tested with: `tests/servers/NAME.txt` lists the packages.
const SERVERS: [&str; 2] = ["llama-cpp", "litellm"];
/// Where Vulkan looks for drivers.
const ICDS: [&str; 3] = ["/usr/share/vulkan/icd.d", "/usr/local/share/vulkan/icd.d", "/etc/vulkan/icd.d"];

pub fn everything() -> Result<()> {
    wasm_target()?;
    rust_source()?;
    for dir in ["pkg", "pkg/typedoc", "www", "tests/browser"] {
        npm(dir)?;
    }
    for browser in [browser()?, firefox()?] {
        step("Browser", &browser.display().to_string());
    }
    webkit()?;
    for server in SERVERS {
        python(server)?;
    }
    vulkan()
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

/// The standard library's source, for the binaries that are built with one of their own.
pub fn rust_source() -> Result<()> {
    let sysroot = output("rustc", &["--print", "sysroot"]).context("rustc is missing")?;
    if !Path::new(&sysroot).join("lib/rustlib/src/rust/library/std/Cargo.toml").is_file() {
        step("Installing", "rust-src");
        run(command("rustup", ".").args(["component", "add", "rust-src"])).with_context(|| {
            format!("the source of Rust's standard library is missing in {sysroot}; without rustup, install your distribution's rust-src")
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

/// A Python environment in `target/servers/NAME`, unless what is installed is what the list says.
fn python(name: &str) -> Result<()> {
    let list_path = root().join(format!("tests/servers/{name}.txt"));
    let list = std::fs::read(&list_path).with_context(|| list_path.display().to_string())?;
    let dir = root().join("target/servers").join(name);
    let stamp = dir.join("installed.txt");
    if std::fs::read(&stamp).is_ok_and(|installed| installed == list) {
        return Ok(());
    }
    let usable = "import ensurepip, sys, venv; assert sys.version_info >= (3, 11)";
    let can_make = || output("python3", &["-c", usable]).is_some();
    if !can_make() && can_install() {
        install(&["python3", "python3-venv"])?;
    }
    if !can_make() {
        bail!("Python 3.11 or newer with venv is missing: run `sudo apt-get install python3 python3-venv`");
    }
    step("Installing", &format!("Python packages of tests/servers/{name}.txt"));
    run(command("python3", ".").args(["-m", "venv", "--clear"]).arg(&dir))?;
    // The lists are whole, and most modules are never imported.
    let options = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-compile", "-r"];
    run(command(&dir.join("bin/python").to_string_lossy(), ".").args(options).arg(&list_path))?;
    Ok(std::fs::write(stamp, list)?)
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
    program("CHROMIUM", &CHROMIUM, "chromium")
}

/// The other implementation of WebGPU: $FIREFOX, or one on the PATH, or Debian's.
pub fn firefox() -> Result<PathBuf> {
    program("FIREFOX", &FIREFOX, "firefox-esr")
}

/// The third engine of browsers, for the CPU's path: Debian's WebKit with its driver, and a display that nobody sees.
pub fn webkit() -> Result<()> {
    if on_path(&["WebKitWebDriver"]).is_some() && on_path(&["xvfb-run"]).is_some() {
        return Ok(());
    }
    if !can_install() {
        bail!("no WebKit found: run `sudo apt-get install webkit2gtk-driver xvfb`");
    }
    install(&["webkit2gtk-driver", "xvfb", "xauth"])
}

/// A Vulkan driver that plays a GPU, for machines without one. Where it cannot be installed, tests of the GPU say so.
pub fn vulkan() -> Result<()> {
    let linux = cfg!(target_os = "linux");
    if linux && !ICDS.iter().any(|dir| has_driver(Path::new(dir))) && can_install() {
        install(&["mesa-vulkan-drivers", "libvulkan1"])?;
    }
    Ok(())
}

/// Mesa's lavapipe: its file is called `lvp_icd.x86_64.json` or the like.
fn has_driver(dir: &Path) -> bool {
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
    files.into_iter().any(|file| file.file_name().to_string_lossy().starts_with("lvp_icd"))
}

fn program(variable: &str, names: &[&str], package: &str) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        let path = PathBuf::from(path);
        if !path.is_file() {
            bail!("${variable} is {}, which is not a file", path.display());
        }
        return Ok(path);
    }
    if let Some(path) = on_path(names) {
        return Ok(path);
    }
    if !can_install() {
        bail!("no {package} found: run `sudo apt-get install {package}`, or set ${variable} to the path of one");
    }
    install(&[package])?;
    on_path(names).with_context(|| format!("apt-get installed {package}, but it is not on the PATH"))
}

fn can_install() -> bool {
    output("id", &["-u"]).as_deref() == Some("0") && output("apt-get", &["--version"]).is_some()
}

fn install(packages: &[&str]) -> Result<()> {
    step("Installing", &packages.join(" "));
    run(command("apt-get", ".").args(["update", "-qq"]))?;
    let options = ["install", "-y", "-qq", "--no-install-recommends"];
    run(command("apt-get", ".").env("DEBIAN_FRONTEND", "noninteractive").args(options).args(packages))
}

fn on_path(names: &[&str]) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH")?;
    let dirs: Vec<PathBuf> = std::env::split_paths(&paths).collect();
    names.iter().flat_map(|name| dirs.iter().map(move |dir| dir.join(name))).find(|path| path.is_file())
}
