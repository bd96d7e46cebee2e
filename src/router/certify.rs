//! Thresholds with a guarantee: fixed-sequence testing on examples that the model has not seen.
//!
//! The thresholds come from the other half of the examples, in an order fixed beforehand, and testing ends at the first that
//! fails. Of those whose risk is too high only the first one tested can mislead, with probability delta; so whichever passed
//! last holds its promise with probability 1 - delta (Angelopoulos et al., Learn then Test, arXiv 2110.01052).

use super::binomial::{cdf, mean_tail, upper_bound};
use crate::{Error, Result};
use serde::Serialize;

/// What is promised, with probability 1 - delta over the choice of the examples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Target {
    /// Of the answers kept local, at most this share is not acceptable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub risk: Option<f64>,
    /// Or: of what the cloud would cost for all, at most this share is spent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
    pub delta: f64,
}

impl Target {
    pub fn risk(alpha: f64, delta: f64) -> Self {
        Self { risk: Some(alpha), cost: None, delta }
    }

    /// Of the form `risk=0.1,delta=0.1` or `cost=0.3,delta=0.1`; delta is 0.1 where nothing is said.
    pub fn parse(text: &str) -> Result<Self> {
        let mut target = Self { risk: None, cost: None, delta: 0.1 };
        for part in text.split(',') {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let Ok(value) = value.trim().parse::<f64>() else {
                return Err(Error::BadRequest(format!("the target \"{text}\" is not of the form risk=0.1,delta=0.1")));
            };
            match name.trim() {
                "risk" => target.risk = Some(value),
                "cost" => target.cost = Some(value),
                "delta" => target.delta = value,
                other => {
                    let known = "a target has risk or cost, and delta";
                    return Err(Error::BadRequest(format!("the target's \"{other}\" is not known; {known}")));
                }
            }
        }
        target.check()?;
        Ok(target)
    }

    fn parts(&self) -> [(&'static str, Option<f64>); 3] {
        [("risk", self.risk), ("cost", self.cost), ("delta", Some(self.delta))]
    }

    /// One of risk and cost, and all between 0 and 1.
    pub fn is_possible(&self) -> bool {
        self.risk.is_some() != self.cost.is_some() && self.parts().iter().all(|(_, value)| value.is_none_or(is_share))
    }

    /// Errors: [`Error::BadRequest`], why it is not possible.
    pub fn check(&self) -> Result<()> {
        if self.is_possible() {
            return Ok(());
        }
        let wrong = self.parts().into_iter().find_map(|(name, value)| Some((name, value.filter(|&x| !is_share(x))?)));
        Err(Error::BadRequest(match wrong {
            Some((name, value)) => format!("the target's {name} is {value}; it must be between 0 and 1"),
            None => "a target is either risk=... or cost=..., one of them".into(),
        }))
    }
}

/// Closer to 0 or 1 nothing is certified on examples that anybody has.
fn is_share(value: f64) -> bool {
    (0.0005..=0.9995).contains(&value)
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match (self.risk, self.cost) {
            (Some(risk), _) => write!(f, "risk={risk},delta={}", self.delta),
            (_, cost) => write!(f, "cost={},delta={}", cost.unwrap_or_default(), self.delta),
        }
    }
}

/// A threshold that passed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    /// An answer with p(ok) of at least this stays local.
    pub tau: f64,
    /// Shares of the examples it was tested on: kept, and of those, not acceptable.
    pub local: f64,
    pub risk: f64,
    /// Clopper and Pearson's on that risk.
    pub bound: f64,
}

/// An example to test on.
#[derive(Clone, Copy, Debug)]
pub struct Tested {
    pub p_ok: f64,
    pub ok: bool,
    pub cost: f64,
}

/// Fewer answers kept than this save nothing, and it is at the far end of a ranking that luck looks like certainty.
pub const LEAST_LOCAL: f64 = 0.15;
/// More thresholds are no better: neighbours keep the same answers.
const MAX_CANDIDATES: usize = 500;

/// How many answers the first threshold tested must keep: 2.5 times what suffices if none of them is wrong, at least
/// [`LEAST_LOCAL`] of `n`.
pub fn first_kept(n: usize, alpha: f64, delta: f64) -> usize {
    let perfect = delta.ln() / (1.0 - alpha).ln();
    ((2.5 * perfect).ceil() as usize).max((LEAST_LOCAL * n as f64).ceil() as usize)
}

/// Thresholds from p(ok) of examples that are not those tested, the strictest first.
fn candidates(p_ok: &[f64]) -> Vec<f64> {
    let mut sorted = p_ok.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    sorted.dedup();
    let gaps = sorted.len().saturating_sub(1).min(MAX_CANDIDATES - 1);
    let last = sorted.len().saturating_sub(1);
    sorted.get(..1).map_or(Vec::new(), |_| (0..=gaps).map(|i| sorted[i * last / gaps.max(1)]).collect())
}

/// The thresholds that pass, in the order of testing: the last is the one to use. Empty: nothing can be promised.
/// `fitted`: p(ok) of the other half.
pub fn certify(target: &Target, fitted: &[f64], tested: &[Tested]) -> Vec<Point> {
    let mut sorted = tested.to_vec();
    sorted.sort_by(|a, b| b.p_ok.total_cmp(&a.p_ok));
    let thresholds = candidates(fitted);
    match (target.risk, target.cost) {
        (Some(alpha), _) => certify_risk(alpha, target.delta, &thresholds, &sorted),
        (_, share) => certify_cost(share.unwrap_or_default(), target.delta, &thresholds, &sorted),
    }
}

fn point(tau: f64, kept: &[Tested], n: usize, delta: f64) -> Point {
    let wrong = kept.iter().filter(|example| !example.ok).count();
    let risk = wrong as f64 / kept.len().max(1) as f64;
    Point { tau, local: kept.len() as f64 / n as f64, risk, bound: upper_bound(wrong, kept.len(), delta) }
}

/// `sorted`: the highest p(ok) first.
fn kept_at(tau: f64, sorted: &[Tested]) -> &[Tested] {
    &sorted[..sorted.partition_point(|example| example.p_ok >= tau)]
}

/// From the strictest threshold on.
fn certify_risk(alpha: f64, delta: f64, thresholds: &[f64], sorted: &[Tested]) -> Vec<Point> {
    let first = first_kept(sorted.len(), alpha, delta);
    let mut passed: Vec<Point> = Vec::new();
    for &tau in thresholds {
        let kept = kept_at(tau, sorted);
        if kept.len() < first {
            continue;
        }
        let wrong = kept.iter().filter(|example| !example.ok).count();
        if cdf(wrong, kept.len(), alpha) > delta {
            break;
        }
        passed.push(point(tau, kept, sorted.len(), delta));
    }
    passed
}

/// From the loosest threshold on: the strictest that still costs little enough keeps the best answers. Costs are compared to
/// the highest seen.
fn certify_cost(share: f64, delta: f64, thresholds: &[f64], sorted: &[Tested]) -> Vec<Point> {
    let highest = sorted.iter().map(|example| example.cost).fold(0.0, f64::max);
    if highest <= 0.0 {
        return Vec::new();
    }
    let equal = sorted.iter().all(|example| example.cost == highest);
    let mut passed = Vec::new();
    for &tau in thresholds.iter().rev() {
        let kept = kept_at(tau, sorted);
        // Spent - share x all is below zero where this mean is below the share.
        let weighted = |(i, example): (usize, &Tested)| {
            let escalated = f64::from(u8::from(i >= kept.len()));
            example.cost / highest * (escalated - share) + share
        };
        let sum = sorted.iter().enumerate().map(weighted).sum();
        if mean_tail(sum, sorted.len(), share, equal) > delta {
            break;
        }
        passed.push(point(tau, kept, sorted.len(), delta));
    }
    passed
}
