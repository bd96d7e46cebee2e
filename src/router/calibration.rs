//! From examples to p(ok) and a threshold with a guarantee, and the file that carries both.

use super::certify::{Point, Target, Tested, certify};
use super::drift::Reference;
use super::examples::{Example, halves};
use super::feasibility::{Feasibility, report};
use super::isotonic::Isotonic;
use super::logistic::Logistic;
use crate::generate::AnswerSignals;
use crate::generate::answer_signals::{SIGNAL_NAMES, SIGNALS, Signal};
use crate::{Error, Result};

/// Below so many labelled examples thirteen weights would fit noise: the mean log-probability alone.
pub const FEW: usize = 200;
/// Below so many there is nothing to fit.
const LEAST: usize = 20;

/// p(ok) of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    pub logistic: Logistic,
    pub isotonic: Isotonic,
}

impl Model {
    /// Errors: [`Error::BadRequest`] where no signal can be used.
    pub fn fit(examples: &[&Example], few: bool) -> Result<Self> {
        let labelled: Vec<(&AnswerSignals, bool)> =
            examples.iter().filter_map(|example| Some((&example.signals, example.label?))).collect();
        let known = |&signal: &usize| labelled.iter().all(|(signals, _)| signals.at(signal).is_some());
        let usable: Vec<usize> = if few { vec![Signal::MeanLogprob as usize] } else { (0..SIGNALS).collect() };
        let usable: Vec<usize> = usable.into_iter().filter(known).collect();
        if usable.is_empty() {
            let problem = match few {
                true => format!("with fewer than {FEW} labelled examples each needs the signal meanLogprob"),
                false => format!("the examples have no signal in common; the signals are {}", SIGNAL_NAMES.join(", ")),
            };
            return Err(Error::BadRequest(problem));
        }
        let logistic = Logistic::fit(&labelled, &usable);
        let score = |(signals, label): &(&AnswerSignals, bool)| Some((logistic.score(signals)?, *label));
        let scored: Vec<(f64, bool)> = labelled.iter().filter_map(score).collect();
        Ok(Self { isotonic: Isotonic::fit(&scored), logistic })
    }

    /// `None`: a signal that the calibration used is missing.
    pub fn p_ok(&self, signals: &AnswerSignals) -> Option<f64> {
        Some(self.isotonic.at(self.logistic.score(signals)?))
    }

    /// The names of what it looks at.
    pub fn signals(&self) -> Vec<&'static str> {
        self.logistic.terms.iter().map(|term| SIGNAL_NAMES[term.signal]).collect()
    }
}

/// What was learned from examples, before anything is promised.
#[derive(Clone, Debug)]
pub struct Fitted {
    pub model: Model,
    /// In the order of testing; empty where the target cannot be certified.
    pub certified: Vec<Point>,
    pub reference: Reference,
    pub feasibility: Feasibility,
}

/// Fits on one half of the labelled examples and certifies on the other. The same seed makes the same halves.
///
/// Errors: [`Error::BadRequest`]: too few examples, costs of some only, no usable signal.
pub fn fit(examples: &[Example], target: &Target, seed: u64) -> Result<Fitted> {
    target.check()?;
    let labelled: Vec<&Example> = examples.iter().filter(|example| example.label.is_some()).collect();
    let n = labelled.len();
    if n < LEAST {
        return Err(Error::BadRequest(format!("{n} labelled examples are too few; at least {LEAST} are needed")));
    }
    check_costs(&labelled, target)?;
    let [fitting, held] = halves(&labelled, seed);
    if 4 * fitting.len().min(held.len()) < n {
        return Err(Error::BadRequest(
            "one group has more than three quarters of the labelled examples; the half to certify on needs others"
                .into(),
        ));
    }
    let model = Model::fit(&fitting, n < FEW)?;
    let p_ok: Vec<f64> = fitting.iter().filter_map(|example| model.p_ok(&example.signals)).collect();
    // Where some lack a signal that all of the other half have, nothing can be said: they count as the worst.
    let p_of = |example: &Example| model.p_ok(&example.signals).unwrap_or(0.0);
    let test = |example: &&Example| {
        Some(Tested { p_ok: p_of(example), ok: example.label?, cost: example.cost.unwrap_or(1.0) })
    };
    let tested: Vec<Tested> = held.iter().filter_map(test).collect();
    let certified = certify(target, &p_ok, &tested);
    let labels: Vec<bool> = labelled.iter().filter_map(|example| example.label).collect();
    let feasibility = report(target, &labels, &tested, &certified);
    let seen: Vec<f64> = examples.iter().map(p_of).collect();
    let lengths: Vec<f64> = examples.iter().filter_map(|example| example.signals.get(Signal::LogLength)).collect();
    Ok(Fitted { model, certified, reference: Reference::new(&seen, &lengths), feasibility })
}

fn check_costs(labelled: &[&Example], target: &Target) -> Result<()> {
    if target.cost.is_none() {
        return Ok(());
    }
    let without = labelled.iter().find(|example| example.cost.is_none());
    match (without, labelled.iter().any(|example| example.cost.is_some())) {
        (Some(example), true) => {
            Err(Error::BadRequest(format!("example {} has no cost, others have one; give all or none", example.id)))
        }
        (None, _) if labelled.iter().all(|example| example.cost == Some(0.0)) => {
            Err(Error::BadRequest("all examples cost 0; a target of cost needs what the cloud charges".into()))
        }
        _ => Ok(()),
    }
}

impl Fitted {
    /// Errors: [`Error::BadRequest`]: why the target cannot be certified, and what would help.
    pub fn check_certifiable(&self) -> Result<()> {
        let Feasibility { target, n, error_rate, lowest_risk, examples_needed, .. } = &self.feasibility;
        if !self.certified.is_empty() {
            return Ok(());
        }
        let advice = match (target.risk, examples_needed) {
            (None, _) => "allow a higher cost, or give more examples".to_string(),
            (Some(_), Some(needed)) if needed > n => format!("about {needed} labelled examples could certify it"),
            (Some(_), Some(_)) => "these were too few, or unlucky: give more labelled examples".to_string(),
            (Some(_), None) => format!(
                "no share of the answers worth keeping had a risk below {lowest_risk:.3}: allow a higher risk, or use a \
                 better local model"
            ),
        };
        Err(Error::BadRequest(format!(
            "{target} cannot be certified on {n} labelled examples, of which {:.1} % are not acceptable; {advice}",
            100.0 * error_rate
        )))
    }
}
