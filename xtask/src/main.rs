//! Developer commands: `cargo xtask <command>`. Each one first sets up what it needs.

mod demo;
mod docs;
mod extension;
mod pack;
mod serve;
mod setup;
mod shell;
mod size;
mod test;

use anyhow::{Result, bail};

const USAGE: &str = "\
usage: cargo xtask COMMAND

  setup                 checks for, and installs, what the other commands need
  pack [--wasm [NAME]]  the npm package (pkg/) and the site (www/dist); --wasm: only the wasm binaries, or one
  extension             the Chrome extension (www/extension/dist) and its zip for the store
  size                  what one page loads before the model, and for the router; fails above the gates
  docs                  the package's pages and the reference of its interfaces, in target/docs
  serve [--port N]      serves www/dist as it is
  demo [--port N]       builds everything and serves the demo page
  demo --headless TEXT  asks the demo page in headless Chromium and streams the answer
  test [--soak]         every test; --soak: long series at full counts";

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["setup"] => setup::everything(),
        ["pack"] => pack::everything(),
        ["pack", "--wasm"] => pack::wasm_only(None),
        ["pack", "--wasm", name] => pack::wasm_only(Some(name)),
        ["extension"] => extension::build(),
        ["size"] => size::run(),
        ["docs"] => docs::build(),
        ["serve"] => serve::run(None),
        ["serve", "--port", port] => serve::run(Some(port.parse()?)),
        ["demo"] => demo::open(None),
        ["demo", "--port", port] => demo::open(Some(port.parse()?)),
        ["demo", "--headless", question] => demo::headless(question),
        ["test"] => test::run(false),
        ["test", "--soak"] => test::run(true),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => bail!("{USAGE}"),
    }
}
