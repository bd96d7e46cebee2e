//! How a goal of the design is reported: a row of a table, checked, printed, and with KINGLET_RECORD=1 written into
//! benches/RESULTS.md.

use std::sync::Mutex;

pub struct Row {
    pub what: String,
    pub found: String,
    /// Empty: nothing was asked for.
    pub goal: String,
    pub met: bool,
}

impl Row {
    pub fn new(what: impl Into<String>, found: impl Into<String>, goal: impl Into<String>, met: bool) -> Self {
        Self { what: what.into(), found: found.into(), goal: goal.into(), met }
    }

    /// A figure without a goal.
    pub fn note(what: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(what, found, "", true)
    }
}

pub fn soak() -> bool {
    std::env::var_os("KINGLET_SOAK").is_some()
}

pub fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

static FILE: Mutex<()> = Mutex::new(());

/// Every goal is met. `section`: of RESULTS.md, between `<!-- router NAME -->` and `<!-- end -->`.
#[track_caller]
pub fn report(section: &str, rows: &[Row]) {
    let mut table = "| | found | goal | |\n|---|--:|--:|---|\n".to_string();
    for Row { what, found, goal, met } in rows {
        let verdict = if goal.is_empty() {
            ""
        } else if *met {
            "yes"
        } else {
            "**no**"
        };
        table += &format!("| {what} | {found} | {goal} | {verdict} |\n");
    }
    println!("{section}\n{table}");
    if std::env::var_os("KINGLET_RECORD").is_some_and(|value| value == "1") {
        record(section, &table);
    }
    let missed: Vec<&str> = rows.iter().filter(|row| !row.met).map(|row| row.what.as_str()).collect();
    assert!(missed.is_empty(), "missed: {missed:?}\n{table}");
}

#[track_caller]
fn record(section: &str, table: &str) {
    assert!(soak(), "only full counts are recorded: KINGLET_SOAK=1");
    assert!(super::data::folder().is_some(), "only recorded data counts: ../shared/data is missing");
    let _alone = FILE.lock().unwrap_or_else(|error| error.into_inner());
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/RESULTS.md");
    let text = std::fs::read_to_string(path).unwrap();
    let marker = format!("<!-- router {section} -->\n");
    let start = text.find(&marker).expect("the section's marker") + marker.len();
    let end = start + text[start..].find("<!-- end -->").expect("the section's end");
    std::fs::write(path, format!("{}{table}{}", &text[..start], &text[end..])).unwrap();
}
