//! The Chrome extension.

use anyhow::Result;

use crate::shell::{command, run, step};
use crate::{pack, setup};

/// Into www/extension: `dist`, which Chrome loads unpacked, and the store's zip beside it.
pub fn build() -> Result<()> {
    pack::everything()?;
    from_package()
}

/// From the package as it is. Fails above its gate of size, which is in its script.
pub fn from_package() -> Result<()> {
    setup::npm("www")?;
    step("Building", "www/extension/dist");
    run(command("npm", "www").args(["run", "--silent", "extension"]))
}
