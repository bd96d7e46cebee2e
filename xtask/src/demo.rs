//! The demo page, for a person or for the terminal.

use anyhow::Result;

use crate::shell::{command, root, run};
use crate::{pack, serve, setup};

pub fn open(port: Option<u16>) -> Result<()> {
    pack::everything()?;
    serve::run(port)
}

pub fn headless(question: &str) -> Result<()> {
    setup::npm("tests/browser")?;
    let browser = setup::browser()?;
    pack::everything()?;
    let (address, _server) = serve::start(root().join("www/dist"), None)?;
    let page = format!("http://localhost:{}/", address.port());
    run(command("node", "tests/browser").args(["ask.mjs", &page, question]).env("CHROMIUM", browser))
}
