//! Whether the answers still look like those of the calibration: its promise is about answers of that kind only.

use crate::generate::AnswerSignals;
use crate::generate::answer_signals::Signal;
use serde::Serialize;

/// Answers of one test.
pub const WINDOW: usize = 200;
/// How often a test of one figure may call out for nothing; two figures are tested a window.
const FALSE_ALARMS: f64 = 0.001;
/// Windows without a finding that end an alarm.
const QUIET: usize = 5;
/// Values that stand for a distribution.
const SKETCH: usize = 256;

/// The calibration's answers: evenly spaced quantiles, rising, of each figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reference {
    /// Answers.
    pub n: usize,
    pub p_ok: Vec<f64>,
    /// Empty: the examples did not say.
    pub log_length: Vec<f64>,
}

impl Reference {
    pub fn new(p_ok: &[f64], log_length: &[f64]) -> Self {
        let log_length = if log_length.len() == p_ok.len() { sketch(log_length) } else { Vec::new() };
        Self { n: p_ok.len(), p_ok: sketch(p_ok), log_length }
    }
}

fn sketch(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    if n <= SKETCH {
        return sorted;
    }
    // The middles of equal shares.
    (0..SKETCH).map(|i| sorted[(2 * i + 1) * n / (2 * SKETCH)]).collect()
}

/// The two-sample statistic of Kolmogorov and Smirnov: how far the two distribution functions part. Both rising.
pub fn kolmogorov_smirnov(a: &[f64], b: &[f64]) -> f64 {
    let (mut i, mut j, mut widest) = (0, 0, 0.0f64);
    while i < a.len() && j < b.len() {
        let x = a[i].min(b[j]);
        i += a[i..].iter().take_while(|&&value| value <= x).count();
        j += b[j..].iter().take_while(|&&value| value <= x).count();
        widest = widest.max((i as f64 / a.len() as f64 - j as f64 / b.len() as f64).abs());
    }
    widest
}

/// The statistic of two samples of one distribution that is exceeded as seldom as `level`.
fn critical(level: f64, n: usize, m: usize) -> f64 {
    let (n, m) = (n as f64, m as f64);
    (-0.5 * (0.5 * level).ln()).sqrt() * ((n + m) / (n * m)).sqrt()
}

/// One test.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Answers seen when the window was full.
    pub at: usize,
    /// Distances of the distributions; `critical` is what either must exceed.
    pub p_ok: f64,
    pub log_length: f64,
    pub critical: f64,
}

impl Finding {
    pub fn is_drift(&self) -> bool {
        self.p_ok > self.critical || self.log_length > self.critical
    }
}

/// Watches answers as they come, in windows that do not overlap.
#[derive(Clone, Debug)]
pub struct DriftMonitor {
    reference: Reference,
    /// Of the window under way, rising.
    p_ok: Vec<f64>,
    log_length: Vec<f64>,
    seen: usize,
    quiet: usize,
    alarm: Option<Finding>,
    last: Option<Finding>,
}

impl DriftMonitor {
    pub fn new(reference: Reference) -> Self {
        let (p_ok, log_length) = (Vec::with_capacity(WINDOW), Vec::with_capacity(WINDOW));
        Self { reference, p_ok, log_length, seen: 0, quiet: 0, alarm: None, last: None }
    }

    /// The finding, where the answer fills a window.
    pub fn push(&mut self, p_ok: f64, signals: &AnswerSignals) -> Option<Finding> {
        self.seen += 1;
        insert(&mut self.p_ok, p_ok);
        if let Some(log_length) = signals.get(Signal::LogLength) {
            insert(&mut self.log_length, log_length);
        }
        if self.p_ok.len() < WINDOW {
            return None;
        }
        let known = self.log_length.len() == WINDOW && !self.reference.log_length.is_empty();
        let finding = Finding {
            at: self.seen,
            p_ok: kolmogorov_smirnov(&self.reference.p_ok, &self.p_ok),
            log_length: if known { kolmogorov_smirnov(&self.reference.log_length, &self.log_length) } else { 0.0 },
            critical: critical(FALSE_ALARMS, WINDOW, self.reference.n),
        };
        self.p_ok.clear();
        self.log_length.clear();
        self.last = Some(finding);
        if finding.is_drift() {
            self.quiet = 0;
            self.alarm.get_or_insert(finding);
        } else {
            self.quiet += 1;
            if self.quiet >= QUIET {
                self.alarm = None;
            }
        }
        Some(finding)
    }

    /// What raised the alarm that is on. It ends after five windows in a row that look as they should.
    pub fn alarm(&self) -> Option<&Finding> {
        self.alarm.as_ref()
    }

    /// Of the last full window.
    pub fn last(&self) -> Option<&Finding> {
        self.last.as_ref()
    }
}

/// Where it belongs among rising values.
fn insert(rising: &mut Vec<f64>, value: f64) {
    let at = rising.partition_point(|known| known.total_cmp(&value).is_lt());
    rising.insert(at, value);
}
