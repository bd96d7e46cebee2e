//! The calibration as a file: JSON that names what it was made for, and is read with suspicion.

use super::calibration::{Fitted, Model};
use super::certify::{Point, Target};
use super::drift::Reference;
use super::examples::Example;
use super::feasibility::Feasibility;
use super::isotonic::Isotonic;
use super::logistic::{Logistic, Term};
use crate::generate::answer_signals::{SIGNAL_NAMES, SIGNAL_VERSION, SIGNALS};
use crate::generate::{AnswerSignals, GenerateOptions};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

const FORMAT: &str = "kinglet-calibration";
const VERSION: u32 = 1;
/// Far more than a calibration takes.
const MAX_BYTES: usize = 1 << 20;
/// Certified thresholds that are kept, the first and the last among them.
const MAX_POINTS: usize = 32;
const MAX_LIST: usize = 100_000;

/// What answers a calibration speaks of. Another model, template, sampler, definition of a signal or precision gives other
/// figures for the same answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MadeFor {
    /// SHA-256 of the file, in hex.
    pub model: String,
    /// A hash of the chat template.
    pub template: String,
    /// The options that choose tokens, spelled out.
    pub sampler: String,
    /// [`SIGNAL_VERSION`].
    pub signals: u32,
    /// Of the backend: "cpu", "webgpu" and the like.
    pub precision: String,
}

impl MadeFor {
    /// `model`: the SHA-256 of its file. `template`: the text of its chat template, empty if it has none. `precision`: the
    /// backend's.
    pub fn new(model: &str, template: &str, sampler: &GenerateOptions, precision: &str) -> Self {
        let GenerateOptions { temperature, top_k, top_p, min_p, .. } = sampler;
        let GenerateOptions { repeat_penalty, presence_penalty, frequency_penalty, logit_bias, .. } = sampler;
        let penalties = format!("{repeat_penalty},{presence_penalty},{frequency_penalty},{logit_bias:?}");
        let sampler = match sampler.is_greedy() {
            true => format!("greedy {penalties}"),
            false => format!("{temperature},{top_k},{top_p},{min_p} {penalties}"),
        };
        let (model, precision) = (model.to_string(), precision.to_string());
        Self { model, template: hash([template]), sampler, signals: SIGNAL_VERSION, precision }
    }

    /// A name for all of it.
    pub fn key(&self) -> String {
        let Self { model, template, sampler, signals, precision } = self;
        hash([model, template, sampler, &signals.to_string(), precision])
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
    format!("{hash:016x}")
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

/// To twelve digits: what serde_json reads back exactly without its slower parser, so that a calibration and its file say
/// the same of every answer.
fn round(x: &mut f64) {
    *x = if x.abs() < 1e-9 { 0.0 } else { format!("{x:.11e}").parse().unwrap_or(*x) };
}

fn round_all(model: &mut Model, points: &mut [Point], reference: &mut Reference, report: &mut Feasibility) {
    for term in &mut model.logistic.terms {
        [&mut term.mean, &mut term.deviation, &mut term.weight].into_iter().for_each(round);
    }
    round(&mut model.logistic.bias);
    model.isotonic.score.iter_mut().chain(&mut model.isotonic.p).for_each(round);
    // Scores that differ in the thirteenth digit only.
    model.isotonic.make_distinct();
    for point in points {
        [&mut point.tau, &mut point.local, &mut point.risk, &mut point.bound].into_iter().for_each(round);
    }
    reference.p_ok.iter_mut().chain(&mut reference.log_length).for_each(round);
    let Feasibility { error_rate, auroc, least_escalated, certified_local, quality_at80, lowest_risk, .. } = report;
    [error_rate, certified_local, quality_at80, lowest_risk]
        .into_iter()
        .chain(auroc)
        .chain(least_escalated)
        .for_each(round);
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    format: String,
    version: u32,
    /// Of `made_for`, for logs.
    key: Option<String>,
    made_for: Option<MadeFor>,
    model: FileModel,
    certified: Vec<Point>,
    drift: Reference,
    feasibility: Feasibility,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileModel {
    signals: Vec<FileTerm>,
    bias: f64,
    isotonic: Isotonic,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileTerm {
    name: String,
    mean: f64,
    deviation: f64,
    weight: f64,
}

impl Calibration {
    pub fn to_json(&self) -> String {
        let Model { logistic, isotonic } = &self.model;
        let term = |&Term { signal, mean, deviation, weight }: &Term| FileTerm {
            name: SIGNAL_NAMES[signal].into(),
            mean,
            deviation,
            weight,
        };
        let file = File {
            format: FORMAT.into(),
            version: VERSION,
            key: self.made_for.as_ref().map(MadeFor::key),
            made_for: self.made_for.clone(),
            model: FileModel {
                signals: logistic.terms.iter().map(term).collect(),
                bias: logistic.bias,
                isotonic: isotonic.clone(),
            },
            certified: self.certified.clone(),
            drift: self.reference.clone(),
            feasibility: self.feasibility.clone(),
        };
        serde_json::to_string(&file).expect("plain data") + "\n"
    }

    /// Errors: [`Error::BadRequest`]: what in the file cannot be; nothing in it is taken on trust.
    pub fn from_json(json: &str) -> Result<Self> {
        read(json).map_err(|problem| {
            Error::BadRequest(format!(
                "the calibration cannot be used: {problem}; make it again with `kinglet route calibrate`"
            ))
        })
    }
}

fn read(json: &str) -> Result<Calibration, String> {
    if json.len() > MAX_BYTES {
        return Err(format!("it has {} bytes, no calibration has more than {MAX_BYTES}", json.len()));
    }
    // Of another version all else may differ.
    #[derive(Deserialize)]
    struct Head {
        format: String,
        version: u32,
    }
    let head: Head = serde_json::from_str(json).map_err(|error| format!("it is not a calibration ({error})"))?;
    if head.format != FORMAT {
        return Err(format!(
            "its format is \"{}\", not \"{FORMAT}\"",
            head.format.chars().take(40).collect::<String>()
        ));
    }
    if head.version != VERSION {
        return Err(format!("its version is {}, this program reads {VERSION}", head.version));
    }
    let mut file: File = serde_json::from_str(json).map_err(|error| error.to_string())?;
    if file.key != file.made_for.as_ref().map(MadeFor::key) {
        return Err("its key is not that of what it was made for".into());
    }
    if let Some(made_for) = file.made_for.as_ref().filter(|made_for| made_for.signals != SIGNAL_VERSION) {
        return Err(format!("its signals are of version {}, not {SIGNAL_VERSION}", made_for.signals));
    }
    let mut model = read_model(&file.model)?;
    round_all(&mut model, &mut file.certified, &mut file.drift, &mut file.feasibility);
    check_points(&file.certified, &file.feasibility)?;
    check_reference(&file.drift)?;
    check_report(&file.feasibility)?;
    Ok(Calibration {
        made_for: file.made_for,
        model,
        certified: file.certified,
        reference: file.drift,
        feasibility: file.feasibility,
    })
}

fn read_model(file: &FileModel) -> Result<Model, String> {
    let mut terms: Vec<Term> = Vec::with_capacity(SIGNALS);
    for &FileTerm { ref name, mean, deviation, weight } in &file.signals {
        let signal = SIGNAL_NAMES.iter().position(|known| known == name);
        let signal =
            signal.ok_or_else(|| format!("there is no signal \"{}\"", name.chars().take(40).collect::<String>()))?;
        if terms.iter().any(|term| term.signal == signal) {
            return Err(format!("the signal {name} is there twice"));
        }
        // The products of what passes are finite.
        let plain = |x: f64| x.abs() < 1e9;
        if !(plain(mean) && plain(weight) && plain(deviation) && deviation >= 1e-9) {
            return Err(format!("the figures of the signal {name} are out of range"));
        }
        terms.push(Term { signal, mean, deviation, weight });
    }
    // Negated, so that NaN fails.
    if !(file.bias.abs() < 1e9) {
        return Err("the bias is out of range".into());
    }
    let Isotonic { score, p } = &file.isotonic;
    if score.is_empty() || score.len() != p.len() || score.len() > MAX_LIST {
        return Err("the isotonic regression has no points, or not as many scores as probabilities".into());
    }
    if !shares(score) || !shares(p) || !score.windows(2).all(|two| two[0] < two[1]) || !is_rising(p) {
        return Err("the isotonic regression does not rise from 0 to 1".into());
    }
    Ok(Model { logistic: Logistic { terms, bias: file.bias }, isotonic: file.isotonic.clone() })
}

fn check_points(points: &[Point], feasibility: &Feasibility) -> Result<(), String> {
    if points.is_empty() || points.len() > MAX_POINTS || !feasibility.certifiable {
        return Err(format!("it has {} certified thresholds; it must have 1 to {MAX_POINTS}", points.len()));
    }
    for (i, point) in points.iter().enumerate() {
        if !shares(&[point.tau, point.local, point.risk, point.bound]) || point.risk > point.bound {
            return Err(format!("the certified threshold {i} is out of range"));
        }
        let promised = feasibility.target.risk.unwrap_or(1.0);
        if point.bound > promised + 1e-9 {
            return Err(format!(
                "the certified threshold {i} has a bound of {}, above the risk of {promised}",
                point.bound
            ));
        }
    }
    let loosens = points.windows(2).all(|two| two[0].tau > two[1].tau);
    let tightens = points.windows(2).all(|two| two[0].tau < two[1].tau);
    match feasibility.target.risk {
        Some(_) if !loosens => Err("the certified thresholds do not go from strict to loose".into()),
        None if !tightens => Err("the certified thresholds do not go from loose to strict".into()),
        _ => Ok(()),
    }
}

fn check_reference(reference: &Reference) -> Result<(), String> {
    let Reference { n, p_ok, log_length } = reference;
    let most = (*n).min(MAX_LIST);
    if p_ok.is_empty() || p_ok.len() > most || !shares(p_ok) || !is_rising(p_ok) {
        return Err("the reference of p(ok) is not a rising list from 0 to 1".into());
    }
    if log_length.len() > most || !is_rising(log_length) || !log_length.iter().all(|x| x.abs() < 1e9) {
        return Err("the reference of lengths is not a rising list".into());
    }
    Ok(())
}

fn check_report(report: &Feasibility) -> Result<(), String> {
    report.target.check().map_err(|error| error.to_string())?;
    let figures = [
        Some(report.error_rate),
        report.auroc,
        report.least_escalated,
        Some(report.certified_local),
        Some(report.quality_at80),
        Some(report.lowest_risk),
    ];
    if !figures.iter().flatten().all(|&x| shares(&[x])) || report.tested > report.n {
        return Err("the feasibility report is out of range".into());
    }
    Ok(())
}

fn shares(values: &[f64]) -> bool {
    values.iter().all(|value| (0.0..=1.0).contains(value))
}

fn is_rising(values: &[f64]) -> bool {
    values.windows(2).all(|two| two[0] <= two[1])
}
