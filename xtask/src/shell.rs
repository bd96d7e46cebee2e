//! Running other programs, in the repository.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the repository").to_path_buf()
}

/// A command that starts in `dir`, relative to the root.
pub fn command(program: &str, dir: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root().join(dir));
    command
}

/// Runs to the end; an exit status other than 0 is an error that names the command line.
pub fn run(command: &mut Command) -> Result<()> {
    let line = line(command);
    let status = command.status().with_context(|| format!("cannot start `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(())
}

/// What the program prints on stdout, trimmed; `None` if it cannot be started or fails.
pub fn output(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).current_dir(root()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Announces a step on stderr, as cargo does.
pub fn step(verb: &str, what: &str) {
    eprintln!("{verb:>12} {what}");
}

pub fn line(command: &Command) -> String {
    let args = command.get_args().map(|a| a.to_string_lossy());
    std::iter::once(command.get_program().to_string_lossy()).chain(args).collect::<Vec<_>>().join(" ")
}
