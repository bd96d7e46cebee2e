//! The package's documentation as a site: its pages, and what typedoc reads from the types.

use anyhow::Result;

use crate::setup;
use crate::shell::{command, run};

/// Into target/docs. Whatever is exported without a word, and a broken link, is an error.
pub fn build() -> Result<()> {
    for dir in ["pkg", "pkg/typedoc"] {
        setup::npm(dir)?;
    }
    run(command("npm", "pkg/typedoc").args(["run", "--silent", "build"]))
}
