//! What the user's own examples allow, and what they do not.

use super::binomial::cdf;
use super::certify::{LEAST_LOCAL, Point, Target, Tested, first_kept};
use super::curve::{Curve, auroc};
use serde::Serialize;

/// Shares are of the held-out half, but for `error_rate`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Feasibility {
    pub target: Target,
    /// Labelled examples, and those among them that were tested on.
    pub n: usize,
    pub tested: usize,
    /// The local model's, mu.
    pub error_rate: f64,
    /// How well p(ok) ranks; null where all answers are alike.
    pub auroc: Option<f64>,
    /// No rule keeps the risk and escalates less than (mu - alpha) / (1 - alpha); null for a target of cost.
    pub least_escalated: Option<f64>,
    pub certifiable: bool,
    /// The highest share of local answers that is certified for the target, 0 if none is.
    pub certified_local: f64,
    /// The quality with 80 % of the answers local, an escalated one counting 1.
    pub quality_at80: f64,
    /// How many labelled examples would certify some share; null where no number does, the lowest risk seen being too high.
    pub examples_needed: Option<usize>,
    /// The lowest risk that any threshold worth testing showed.
    pub lowest_risk: f64,
}

/// `labels`: of all examples. `scored`: (score, label) of the tested ones.
pub fn report(target: &Target, labels: &[bool], tested: &[Tested], certified: &[Point]) -> Feasibility {
    let scored: Vec<(f64, bool)> = tested.iter().map(|example| (example.p_ok, example.ok)).collect();
    let error_rate = labels.iter().filter(|ok| !**ok).count() as f64 / labels.len().max(1) as f64;
    let least_escalated = target.risk.map(|alpha| ((error_rate - alpha) / (1.0 - alpha)).max(0.0));
    let (lowest_risk, needed) = outlook(target, tested);
    Feasibility {
        target: *target,
        n: labels.len(),
        tested: tested.len(),
        error_rate,
        auroc: auroc(&scored),
        least_escalated,
        certifiable: !certified.is_empty(),
        certified_local: certified.last().map_or(0.0, |point| point.local),
        quality_at80: Curve::of_labels(&scored).quality_at(0.2),
        examples_needed: if certified.is_empty() {
            needed
        } else {
            Some(needed.unwrap_or(labels.len()).min(labels.len()))
        },
        lowest_risk,
    }
}

/// Nobody labels more.
const MOST_EXAMPLES: usize = 1_000_000;

/// The lowest risk seen, and how many examples would have certified the threshold that needs the fewest, had the other
/// examples been as these are.
fn outlook(target: &Target, tested: &[Tested]) -> (f64, Option<usize>) {
    let mut sorted = tested.to_vec();
    sorted.sort_by(|a, b| b.p_ok.total_cmp(&a.p_ok));
    let n = sorted.len();
    let least = ((LEAST_LOCAL * n as f64).ceil() as usize).max(1);
    let (mut lowest, mut needed) = (1.0f64, None::<usize>);
    let (mut kept, mut wrong) = (0, 0);
    for tied in sorted.chunk_by(|a, b| a.p_ok == b.p_ok) {
        kept += tied.len();
        wrong += tied.iter().filter(|example| !example.ok).count();
        if kept < least {
            continue;
        }
        let risk = wrong as f64 / kept as f64;
        lowest = lowest.min(risk);
        let Some(alpha) = target.risk.filter(|alpha| risk < *alpha) else { continue };
        let local = kept as f64 / n as f64;
        // Twice: a half is for fitting.
        let total = |kept: usize| 2 * (kept as f64 / local).ceil() as usize;
        let passes = |kept: usize| cdf((risk * kept as f64).ceil() as usize, kept, alpha) <= target.delta;
        // Not worth a search where the best so far would not be beaten.
        let beaten = needed.map_or(MOST_EXAMPLES, |best| (0.5 * local * best as f64) as usize);
        let (mut low, mut high) = (first_kept(0, alpha, target.delta), beaten);
        if high < low || !passes(high) {
            continue;
        }
        while low < high {
            let middle = low.midpoint(high);
            if passes(middle) { high = middle } else { low = middle + 1 }
        }
        needed = Some(total(high));
    }
    (lowest, needed.filter(|&n| n <= MOST_EXAMPLES))
}
