//! The calibration as a file: JSON that names what it was made for, and is read with suspicion.

mod read;

use super::calibration::{Fitted, Model};
use super::certify::{Point, Target};
use super::drift::Reference;
use super::examples::Example;
use super::feasibility::Feasibility;
use super::json;
use super::logistic::Term;
use crate::generate::answer_signals::{SIGNAL_NAMES, SIGNAL_VERSION};
use crate::generate::{AnswerSignals, GenerateOptions};
use crate::{Error, Result};
use serde::Serialize;
use serde_json::{Value, json};

const FORMAT: &str = "kinglet-calibration";
const VERSION: u32 = 1;
/// Certified thresholds that are kept, the first and the last among them.
const MAX_POINTS: usize = 32;

/// What answers a calibration speaks of. Another model, template, sampler, definition of a signal or precision gives other
/// figures for the same answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MadeFor {
    /// SHA-256 of the file in hex; of a split model, of its parts one after the other.
    pub model: String,
    /// A hash of the chat template.
    pub template: String,
    /// The options that choose tokens, adapters among them, spelled out.
    pub sampler: String,
    /// [`SIGNAL_VERSION`].
    pub signals: u32,
    /// Of the backend: "cpu", "webgpu" and the like.
    pub precision: String,
}

impl MadeFor {
    /// `model`: the SHA-256 of its file or files. `template`: the text of its chat template, empty if it has none. `precision`: the
    /// backend's.
    pub fn new(model: &str, template: &str, sampler: &GenerateOptions, precision: &str) -> Self {
        // All by name, so that a new option is decided upon here.
        let GenerateOptions {
            temperature,
            top_k,
            top_p,
            min_p,
            repeat_penalty,
            presence_penalty,
            frequency_penalty,
            logit_bias,
            adapters,
            // One draw of many, where an answer ends, what is told of it, and what it is chosen by just the same.
            seed: _,
            max_tokens: _,
            stop: _,
            ignore_eos: _,
            cache_prompt: _,
            logprobs: _,
            top_logprobs: _,
            drafts: _,
        } = sampler;
        let chosen = match sampler.is_greedy() {
            true => "greedy".to_string(),
            false => format!("{temperature},{top_k},{top_p},{min_p}"),
        };
        let mut sampler = format!("{chosen} {repeat_penalty},{presence_penalty},{frequency_penalty},{logit_bias:?}");
        if !adapters.is_empty() {
            sampler += &format!(" adapters {adapters:?}");
        }
        let (model, precision) = (model.to_string(), precision.to_string());
        Self { model, template: hash([template]), sampler, signals: SIGNAL_VERSION, precision }
    }

    /// None: not one of this version.
    pub fn from_json(value: &super::json::Value) -> Option<Self> {
        read::made_for(value)
    }

    /// A name for all of it.
    pub fn key(&self) -> String {
        let Self { model, template, sampler, signals, precision } = self;
        hash([model, template, sampler, &json::to_text(signals), precision])
    }

    /// The parts that differ.
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let parts = [
            ("model", self.model == other.model),
            ("template", self.template == other.template),
            ("sampler", self.sampler == other.sampler),
            ("signals", self.signals == other.signals),
            ("precision", self.precision == other.precision),
        ];
        parts.into_iter().filter(|(_, same)| !same).map(|(name, _)| name).collect()
    }
}

/// FNV-1a, 64 bits, in hex: a name, not a secret.
fn hash<const N: usize>(parts: [&str; N]) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    // 0xff is in no text: where one part ends matters.
    for byte in parts.iter().flat_map(|part| part.bytes().chain([0xff])) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let digit = |i: u32| char::from_digit((hash >> (60 - 4 * i)) as u32 & 15, 16);
    (0..16).filter_map(digit).collect()
}

/// A model of p(ok) and the thresholds that are certified for it; made by [`Calibration::new`], or read by
/// [`Calibration::from_json`].
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    /// `None`: nobody said, and it matches nothing.
    pub made_for: Option<MadeFor>,
    pub model: Model,
    /// At least one, in the order of testing.
    certified: Vec<Point>,
    pub reference: Reference,
    pub feasibility: Feasibility,
}

/// What a calibration says of one answer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// `None`: a signal that the calibration looks at is missing.
    pub p_ok: Option<f64>,
    pub tau: f64,
    pub keep: bool,
}

impl Calibration {
    /// Errors: [`Error::BadRequest`] where the target cannot be certified, or the examples cannot be used.
    pub fn new(examples: &[Example], target: &Target, seed: u64, made_for: Option<MadeFor>) -> Result<Self> {
        let fitted = super::calibration::fit(examples, target, seed)?;
        fitted.check_certifiable()?;
        let Fitted { mut model, mut certified, mut reference, mut feasibility } = fitted;
        round_all(&mut model, &mut certified, &mut reference, &mut feasibility);
        certified.dedup_by(|later, earlier| {
            let same = later.tau == earlier.tau;
            // It passed as well, and last.
            *earlier = if same { *later } else { *earlier };
            same
        });
        let last = certified.len() - 1;
        let gaps = last.min(MAX_POINTS - 1);
        let certified = (0..=gaps).map(|i| certified[i * last / gaps.max(1)]).collect();
        Ok(Self { made_for, model, certified, reference, feasibility })
    }

    pub fn target(&self) -> &Target {
        &self.feasibility.target
    }

    pub fn certified(&self) -> &[Point] {
        &self.certified
    }

    /// The threshold in use: after a drift alarm the strictest that is certified.
    pub fn tau(&self, alarm: bool) -> f64 {
        let strictest = self.certified.iter().map(|point| point.tau).fold(0.0, f64::max);
        if alarm { strictest } else { self.certified[self.certified.len() - 1].tau }
    }

    pub fn verdict(&self, signals: &AnswerSignals, alarm: bool) -> Verdict {
        let (p_ok, tau) = (self.model.p_ok(signals), self.tau(alarm));
        Verdict { p_ok, tau, keep: p_ok.is_some_and(|p_ok| p_ok >= tau) }
    }

    /// What differs between what it was made for and what runs: nothing where its promise holds.
    pub fn mismatch(&self, running: &MadeFor) -> Vec<&'static str> {
        self.made_for
            .as_ref()
            .map_or(vec!["what it was made for is not known"], |made_for| made_for.differences(running))
    }
}

impl Calibration {
    pub fn to_json(&self) -> String {
        let Model { logistic, isotonic } = &self.model;
        let term = |&Term { signal, mean, deviation, weight }: &Term| json!({ "name": SIGNAL_NAMES[signal], "mean": mean, "deviation": deviation, "weight": weight });
        let signals: Vec<Value> = logistic.terms.iter().map(term).collect();
        let file = json!({
            "format": FORMAT,
            "version": VERSION,
            // For logs.
            "key": self.made_for.as_ref().map(MadeFor::key),
            "madeFor": self.made_for,
            "model": { "signals": signals, "bias": logistic.bias, "isotonic": isotonic },
            "certified": self.certified,
            "drift": self.reference,
            "feasibility": self.feasibility,
        });
        format!("{file}\n")
    }

    /// Errors: [`Error::BadRequest`]: what in the file cannot be; nothing in it is taken on trust.
    pub fn from_json(json: &str) -> Result<Self> {
        read::calibration(json).map_err(|problem| {
            let advice = "; make it again with `kinglet route calibrate`";
            Error::BadRequest(["the calibration cannot be used: ", &problem, advice].concat())
        })
    }
}

/// To twelve digits: what [`json::parse`] reads back exactly, so that a calibration and its file say
/// the same of every answer. (Formatting and parsing would do it too, in 7 kB of wasm.)
fn round(x: &mut f64) {
    // Powers of ten are exact up to 10^22, and so is the quotient to the last bit.
    let mut scale = 1e2;
    while x.abs() * scale < 1e11 && scale < 1e20 {
        scale *= 10.0;
    }
    *x = if x.abs() < 1e-9 { 0.0 } else { (*x * scale).round() / scale };
}

fn round_all(model: &mut Model, points: &mut [Point], reference: &mut Reference, report: &mut Feasibility) {
    let Model { logistic, isotonic } = model;
    for term in &mut logistic.terms {
        [&mut term.mean, &mut term.deviation, &mut term.weight].into_iter().for_each(round);
    }
    round(&mut logistic.bias);
    for list in [&mut isotonic.score, &mut isotonic.p, &mut reference.p_ok, &mut reference.log_length] {
        list.iter_mut().for_each(round);
    }
    // Scores that differ in the thirteenth digit only.
    isotonic.make_distinct();
    for point in points {
        [&mut point.tau, &mut point.local, &mut point.risk, &mut point.bound].into_iter().for_each(round);
    }
    let Feasibility { error_rate, auroc, least_escalated, certified_local, quality_at80, lowest_risk, .. } = report;
    [error_rate, certified_local, quality_at80, lowest_risk].into_iter().for_each(round);
    auroc.iter_mut().for_each(round);
    least_escalated.iter_mut().for_each(round);
}
