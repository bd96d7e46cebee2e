//! Every test, nearly all one after the other: later ones still run when an earlier one fails.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::shell::{command, line, root, step};
use crate::{docs, extension, pack, serve, setup, size};

/// Lines of the runners that say how it went; repeated at the end.
const SUMMARIES: [&str; 5] = ["test result:", "ℹ tests ", "ℹ pass ", "ℹ fail ", "ℹ skipped "];

struct Outcome {
    name: &'static str,
    seconds: u64,
    summary: Vec<String>,
    error: Option<anyhow::Error>,
}

/// Runs a part and returns its summary.
type Body = fn(&Suite) -> Result<Vec<String>>;

#[derive(Default)]
struct Suite {
    outcomes: Vec<Outcome>,
    soak: bool,
}

pub fn run(soak: bool) -> Result<()> {
    let start = Instant::now();
    setup::everything()?;
    let chromium = setup::browser()?;
    let firefox = setup::firefox()?;
    setup::webkit()?;
    let mut suite = Suite { soak, ..Suite::default() };

    suite.part("format", |suite| suite.watch(command("cargo", ".").args(["fmt", "--all", "--check"])));
    suite.part("lint", |suite| {
        suite.watch(command("cargo", ".").args(CLIPPY).args(["--workspace", "--all-targets"]).args(DENY))
    });
    // The binary with threads has all of the others'; none is read with a standard library of its own.
    let [_, relaxed, threads] = pack::LEVELS;
    for binary in [threads, pack::ROUTER, pack::GRAMMAR] {
        let binary = &pack::Binary { std: &[], flags: relaxed.flags, ..binary };
        suite.part("lint wasm", |suite| suite.watch(pack::web_cargo("clippy", binary).arg("--quiet").args(DENY)));
    }
    // Native tests leave a third of two cores idle (by hand), and the linking of a whole binary one of them.
    suite.parts_at_once([
        ("native", |suite| suite.watch(command("cargo", ".").args(["test", "--workspace", "--no-fail-fast"]))),
        ("pack", |_| pack::everything().map(|()| Vec::new())),
    ]);
    suite.part("extension", |_| extension::from_package().map(|()| Vec::new()));
    suite.part("size", |_| size::run().map(|()| Vec::new()));
    suite.part("docs", |_| docs::build().map(|()| Vec::new()));
    for dir in ["pkg", "www", "tests/browser"] {
        suite.part("types", |suite| suite.watch(command("npm", dir).args(["run", "--silent", "check"])));
    }
    // Nobody runs the benches in the tests; they have to be JavaScript at least.
    suite.part("benches", |suite| {
        let scripts =
            ["benches/web/bench.mjs", "benches/web/report.mjs", "benches/kernels/run.mjs", "benches/gpu/table.mjs"];
        scripts.iter().try_fold(Vec::new(), |_, script| suite.watch(command("node", ".").args(["--check", script])))
    });
    suite.part("browser", |suite| {
        let mut npm = command("npm", "tests/browser");
        suite.watch(npm.args(["run", "--silent", "test"]).env("CHROMIUM", &chromium).env("FIREFOX", &firefox))
    });
    suite.part("headless demo", |suite| {
        let (address, _server) = serve::start(root().join("www/dist"), None)?;
        let page = format!("http://localhost:{}/", address.port());
        let ask = ["ask.mjs", &page, "Tell me a story about a bird."];
        suite.watch(command("node", "tests/browser").args(ask).env("CHROMIUM", &chromium))
    });

    if soak {
        suite.part("large model", |suite| {
            suite.watch(command("node", "tests/browser").arg("large.mjs").env("CHROMIUM", &chromium))
        });
    }

    println!();
    for outcome in &suite.outcomes {
        let verdict = if outcome.error.is_some() { "FAILED" } else { "ok" };
        println!("{:<14} {verdict:<6} {:>5} s", outcome.name, outcome.seconds);
        for line in &outcome.summary {
            println!("    {line}");
        }
        if let Some(error) = &outcome.error {
            println!("    {error:#}");
        }
    }
    let failed = suite.outcomes.iter().filter(|outcome| outcome.error.is_some()).count();
    let minutes = start.elapsed().as_secs_f64() / 60.0;
    println!("\n{} parts, {failed} failed, {minutes:.1} minutes", suite.outcomes.len());
    if failed > 0 {
        bail!("{failed} of {} parts failed", suite.outcomes.len());
    }
    Ok(())
}

const CLIPPY: [&str; 2] = ["clippy", "--quiet"];
const DENY: [&str; 3] = ["--", "-D", "warnings"];

impl Suite {
    fn part(&mut self, name: &'static str, body: impl FnOnce(&Self) -> Result<Vec<String>>) {
        let outcome = self.outcome(name, body);
        self.outcomes.push(outcome);
    }

    /// Where each leaves a part of two cores idle.
    fn parts_at_once(&mut self, parts: [(&'static str, Body); 2]) {
        let outcomes = std::thread::scope(|scope| {
            let suite = &*self;
            let threads = parts.map(|(name, body)| scope.spawn(move || suite.outcome(name, body)));
            threads.map(|thread| thread.join().expect("a part of the tests panicked"))
        });
        self.outcomes.extend(outcomes);
    }

    fn outcome(&self, name: &'static str, body: impl FnOnce(&Self) -> Result<Vec<String>>) -> Outcome {
        step("Testing", name);
        let start = Instant::now();
        let (summary, error) = match body(self) {
            Ok(summary) => (summary, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        if let Some(error) = &error {
            step("Failed", &format!("{name}: {error:#}"));
        }
        Outcome { name, seconds: start.elapsed().as_secs(), summary, error }
    }

    /// Runs a test program, passes its output on and returns its summary lines.
    fn watch(&self, command: &mut Command) -> Result<Vec<String>> {
        let line = line(command);
        if self.soak {
            command.env("KINGLET_SOAK", "1");
        }
        let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start `{line}`"))?;
        let mut summary = Vec::new();
        for text in BufReader::new(child.stdout.take().expect("stdout is piped")).split(b'\n') {
            let text = String::from_utf8_lossy(&text?).into_owned();
            println!("{text}");
            if SUMMARIES.iter().any(|prefix| text.starts_with(prefix)) {
                summary.push(text);
            }
        }
        let status = child.wait()?;
        if !status.success() {
            summary.push(format!("`{line}` failed ({status})"));
            bail!("{}", summary.join("\n    "));
        }
        Ok(summary)
    }
}
