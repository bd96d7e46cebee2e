//! A log of answers once more through a calibration, in its order, by the code that decides in the product.

use super::artifact::Calibration;
use super::binomial::upper_bound;
use super::certify::Target;
use super::curve::{Curve, auroc};
use super::drift::{DriftMonitor, Finding};
use super::examples::Example;
use serde::Serialize;
use std::collections::BTreeMap;

/// The shares of the strong model's quality in a report.
const QUALITIES: [(&str, f64); 3] = [("0.90", 0.9), ("0.95", 0.95), ("0.98", 0.98)];

/// `auroc`, `apgr` and `escalated_for` rank by the logistic score before its isotonic correction: the correction is monotone,
/// so the score refines p(ok)'s order and breaks its ties. What is kept is decided by p(ok).
///
/// Answers without a label count in `n`, `escalated`, `coverage`, `drift` and `savedUsd` only.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Replay {
    pub n: usize,
    pub labelled: usize,
    /// Null where all labels agree.
    pub auroc: Option<f64>,
    pub apgr: Option<f64>,
    /// Shares of the answers; both make 1.
    pub escalated: f64,
    pub coverage: f64,
    /// Of the labelled answers that were kept, how many are not acceptable, and Clopper and Pearson's bound on it.
    pub risk: Option<f64>,
    pub risk_bound: Option<f64>,
    pub target: Target,
    /// Whether this log confirms the target by itself: the bound on the risk keeps it; for a target of cost, what was spent.
    pub certified: bool,
    /// Share that must be escalated for that share of the strong model's quality, an escalated answer counting 1.
    pub escalated_for: BTreeMap<&'static str, Option<f64>>,
    pub drift: DriftReport,
    /// Cost of the answers that were kept; absent where the log has no costs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saved_usd: Option<f64>,
    /// Answers that lack a signal of the calibration; they were escalated.
    pub unscored: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DriftReport {
    /// Whether an alarm was raised anywhere, after how many answers first, and how many answers it marked.
    pub alarm: bool,
    pub first_at: Option<usize>,
    pub marked: usize,
    pub windows: usize,
    pub last: Option<Finding>,
}

pub fn replay(calibration: &Calibration, log: &[Example]) -> Replay {
    let mut monitor = DriftMonitor::new(calibration.reference.clone());
    let mut drift = DriftReport { alarm: false, first_at: None, marked: 0, windows: 0, last: None };
    let (mut kept, mut kept_labelled, mut wrong, mut unscored) = (0, 0, 0, 0);
    let (mut all_cost, mut saved, mut has_cost) = (0.0, 0.0, false);
    let mut scored = Vec::with_capacity(log.len());
    for example in log {
        let alarm = monitor.alarm().is_some();
        drift.marked += usize::from(alarm);
        let verdict = calibration.verdict(&example.signals, alarm);
        unscored += usize::from(verdict.p_ok.is_none());
        if let Some(p_ok) = verdict.p_ok
            && let Some(finding) = monitor.push(p_ok, &example.signals)
        {
            drift.windows += 1;
            if finding.is_drift() {
                drift.alarm = true;
                drift.first_at.get_or_insert(finding.at);
            }
        }
        kept += usize::from(verdict.keep);
        if let Some(ok) = example.label {
            // The worst score there is.
            scored.push((calibration.model.logistic.score(&example.signals).unwrap_or(-1.0), ok));
            kept_labelled += usize::from(verdict.keep);
            wrong += usize::from(verdict.keep && !ok);
        }
        has_cost |= example.cost.is_some();
        let cost = example.cost.unwrap_or(0.0);
        all_cost += cost;
        saved += if verdict.keep { cost } else { 0.0 };
    }
    drift.last = monitor.last().copied();
    let n = log.len();
    let share = |count: usize| count as f64 / n.max(1) as f64;
    let curve = (!scored.is_empty()).then(|| Curve::of_labels(&scored));
    let target = *calibration.target();
    let risk = (kept_labelled > 0).then(|| wrong as f64 / kept_labelled as f64);
    let risk_bound = risk.map(|_| upper_bound(wrong, kept_labelled, target.delta));
    let spent = if all_cost > 0.0 { 1.0 - saved / all_cost } else { share(n - kept) };
    let certified = match (target.risk, target.cost) {
        (Some(alpha), _) => risk_bound.is_some_and(|bound| bound <= alpha),
        (_, cost) => cost.is_some_and(|cost| spent <= cost),
    };
    Replay {
        n,
        labelled: scored.len(),
        auroc: auroc(&scored),
        apgr: curve.as_ref().and_then(Curve::apgr),
        escalated: share(n - kept),
        coverage: share(kept),
        risk,
        risk_bound,
        target,
        certified,
        escalated_for: QUALITIES.map(|(name, q)| (name, curve.as_ref().map(|curve| curve.escalated_for(q)))).into(),
        drift,
        saved_usd: has_cost.then_some(saved),
        unscored,
    }
}
