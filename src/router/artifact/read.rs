//! The file as it comes in: every figure within its range, or an error that names it. By hand over parsed JSON, because the
//! code that serde derives for so many objects takes ten times the room in wasm.

use super::{Calibration, FORMAT, MAX_POINTS, MadeFor, VERSION, round_all};
use crate::generate::answer_signals::{SIGNAL_NAMES, SIGNAL_VERSION};
use crate::router::calibration::Model;
use crate::router::certify::{Point, Target};
use crate::router::drift::Reference;
use crate::router::feasibility::Feasibility;
use crate::router::isotonic::Isotonic;
use crate::router::logistic::{Logistic, Term};
use serde_json::Value;

/// Far more than a calibration takes.
const MAX_BYTES: usize = 1 << 20;
const MAX_LIST: usize = 100_000;
/// The products of smaller figures are finite.
const LARGE: f64 = 1e9;

type Found<T> = Result<T, String>;

pub fn calibration(json: &str) -> Found<Calibration> {
    if json.len() > MAX_BYTES {
        return Err(format!("it has {} bytes, no calibration has more than {MAX_BYTES}", json.len()));
    }
    let value: Value = serde_json::from_str(json).map_err(|error| format!("it is not JSON ({error})"))?;
    if value["format"] != FORMAT {
        return Err(format!("its format is not \"{FORMAT}\""));
    }
    if value["version"] != VERSION {
        return Err(format!("its version is {}, this program reads {VERSION}", value["version"]));
    }
    let names = ["format", "version", "key", "madeFor", "model", "certified", "drift", "feasibility"];
    let file = Object::new("the file", &value, &names)?;
    let made_for = made_for(file.value("madeFor"))?;
    if *file.value("key") != made_for.as_ref().map(MadeFor::key).map_or(Value::Null, Value::from) {
        return Err("its key is not that of what it was made for".into());
    }
    let mut model = model(file.value("model"))?;
    let mut certified: Vec<Point> = file.list("certified", MAX_POINTS)?.iter().map(point).collect::<Found<_>>()?;
    let mut reference = reference(file.value("drift"))?;
    let mut feasibility = feasibility(file.value("feasibility"))?;
    round_all(&mut model, &mut certified, &mut reference, &mut feasibility);
    check_points(&certified, &feasibility)?;
    Ok(Calibration { made_for, model, certified, reference, feasibility })
}

/// A JSON object, and what it is called in errors.
struct Object<'a> {
    name: &'static str,
    value: &'a Value,
}

impl<'a> Object<'a> {
    /// All of `names` and nothing else.
    fn new(name: &'static str, value: &'a Value, names: &[&str]) -> Found<Self> {
        let Some(map) = value.as_object() else { return Err(format!("{name} is not an object")) };
        match (names.iter().find(|known| !map.contains_key(**known)), map.len() > names.len()) {
            (Some(missing), _) => Err(format!("{name} lacks {missing}")),
            (None, true) => Err(format!("{name} has an unknown field")),
            (None, false) => Ok(Self { name, value }),
        }
    }

    fn value(&self, name: &str) -> &'a Value {
        &self.value[name]
    }

    fn text(&self, name: &str) -> Found<&'a str> {
        self.value(name).as_str().ok_or_else(|| format!("{name} of {} is not a text", self.name))
    }

    fn number(&self, name: &str, low: f64, high: f64) -> Found<f64> {
        number(self.value(name), low, high).ok_or_else(|| format!("{name} of {} is out of range", self.name))
    }

    fn share(&self, name: &str) -> Found<f64> {
        self.number(name, 0.0, 1.0)
    }

    fn count(&self, name: &str) -> Found<usize> {
        let count = self.value(name).as_u64().and_then(|count| u32::try_from(count).ok());
        count.map(|count| count as usize).ok_or_else(|| format!("{name} of {} is not a number of examples", self.name))
    }

    /// `None` for null.
    fn optional<T>(&self, name: &str, read: impl Fn(&Self, &str) -> Found<T>) -> Found<Option<T>> {
        if self.value(name).is_null() { Ok(None) } else { read(self, name).map(Some) }
    }

    fn list(&self, name: &str, most: usize) -> Found<&'a [Value]> {
        let list = self.value(name).as_array().filter(|list| list.len() <= most);
        Ok(list.ok_or_else(|| format!("{name} of {} is not a list of at most {most}", self.name))?)
    }

    /// Never falling.
    fn rising(&self, name: &str, most: usize, low: f64, high: f64) -> Found<Vec<f64>> {
        let list = self.list(name, most)?;
        let values: Vec<f64> = list.iter().map_while(|value| number(value, low, high)).collect();
        match values.len() == list.len() && values.windows(2).all(|two| two[0] <= two[1]) {
            true => Ok(values),
            false => Err(format!("{name} of {} is not a rising list within its range", self.name)),
        }
    }
}

fn number(value: &Value, low: f64, high: f64) -> Option<f64> {
    value.as_f64().filter(|number| (low..=high).contains(number))
}

pub fn made_for(value: &Value) -> Found<Option<MadeFor>> {
    if value.is_null() {
        return Ok(None);
    }
    let object = Object::new("madeFor", value, &["model", "template", "sampler", "signals", "precision"])?;
    if *object.value("signals") != SIGNAL_VERSION {
        return Err(format!("its signals are of version {}, not {SIGNAL_VERSION}", object.value("signals")));
    }
    let text = |name| object.text(name).map(String::from);
    Ok(Some(MadeFor {
        model: text("model")?,
        template: text("template")?,
        sampler: text("sampler")?,
        signals: SIGNAL_VERSION,
        precision: text("precision")?,
    }))
}

fn model(value: &Value) -> Found<Model> {
    let object = Object::new("model", value, &["signals", "bias", "isotonic"])?;
    let mut terms: Vec<Term> = Vec::new();
    for value in object.list("signals", SIGNAL_NAMES.len())? {
        let object = Object::new("a signal", value, &["name", "mean", "deviation", "weight"])?;
        let name = object.text("name")?;
        let signal = SIGNAL_NAMES.iter().position(|known| *known == name);
        let signal = signal.ok_or_else(|| "there is a signal that no answer has".to_string())?;
        if terms.iter().any(|term| term.signal == signal) {
            return Err(format!("the signal {name} is there twice"));
        }
        terms.push(Term {
            signal,
            mean: object.number("mean", -LARGE, LARGE)?,
            deviation: object.number("deviation", 1e-9, LARGE)?,
            weight: object.number("weight", -LARGE, LARGE)?,
        });
    }
    let bias = object.number("bias", -LARGE, LARGE)?;
    let object = Object::new("isotonic", object.value("isotonic"), &["score", "p"])?;
    let isotonic =
        Isotonic { score: object.rising("score", MAX_LIST, 0.0, 1.0)?, p: object.rising("p", MAX_LIST, 0.0, 1.0)? };
    if isotonic.score.is_empty() || isotonic.score.len() != isotonic.p.len() {
        return Err("isotonic has no points, or not as many scores as probabilities".into());
    }
    Ok(Model { logistic: Logistic { terms, bias }, isotonic })
}

fn point(value: &Value) -> Found<Point> {
    let object = Object::new("a certified threshold", value, &["tau", "local", "risk", "bound"])?;
    let share = |name| object.share(name);
    Ok(Point { tau: share("tau")?, local: share("local")?, risk: share("risk")?, bound: share("bound")? })
}

fn check_points(points: &[Point], feasibility: &Feasibility) -> Found<()> {
    if points.is_empty() || !feasibility.certifiable {
        return Err("it has no certified threshold".into());
    }
    let promised = feasibility.target.risk;
    for point in points {
        if point.risk > point.bound || promised.is_some_and(|risk| point.bound > risk + 1e-9) {
            return Err("a certified threshold has a bound below its risk, or above the risk that is promised".into());
        }
    }
    let in_order = |two: &[Point]| if promised.is_some() { two[0].tau > two[1].tau } else { two[0].tau < two[1].tau };
    match points.windows(2).all(in_order) {
        true => Ok(()),
        false => Err("the certified thresholds are not in the order in which they were tested".into()),
    }
}

fn reference(value: &Value) -> Found<Reference> {
    let object = Object::new("drift", value, &["n", "pOk", "logLength"])?;
    let n = object.count("n")?;
    let most = n.min(MAX_LIST);
    let p_ok = object.rising("pOk", most, 0.0, 1.0)?;
    if p_ok.is_empty() {
        return Err("pOk of drift is empty".into());
    }
    Ok(Reference { n, p_ok, log_length: object.rising("logLength", most, -LARGE, LARGE)? })
}

fn feasibility(value: &Value) -> Found<Feasibility> {
    let names = [
        "target",
        "n",
        "tested",
        "errorRate",
        "auroc",
        "leastEscalated",
        "certifiable",
        "certifiedLocal",
        "qualityAt80",
        "examplesNeeded",
        "lowestRisk",
    ];
    let object = Object::new("feasibility", value, &names)?;
    let report = Feasibility {
        target: target(object.value("target"))?,
        n: object.count("n")?,
        tested: object.count("tested")?,
        error_rate: object.share("errorRate")?,
        auroc: object.optional("auroc", Object::share)?,
        least_escalated: object.optional("leastEscalated", Object::share)?,
        certifiable: *object.value("certifiable") == true,
        certified_local: object.share("certifiedLocal")?,
        quality_at80: object.share("qualityAt80")?,
        examples_needed: object.optional("examplesNeeded", Object::count)?,
        lowest_risk: object.share("lowestRisk")?,
    };
    match report.tested <= report.n {
        true => Ok(report),
        false => Err("tested of feasibility is more than there were".into()),
    }
}

fn target(value: &Value) -> Found<Target> {
    let kind = if value["risk"].is_null() { "cost" } else { "risk" };
    let object = Object::new("the target", value, &[kind, "delta"])?;
    let share = Some(object.share(kind)?);
    let (risk, cost) = if kind == "risk" { (share, None) } else { (None, share) };
    let target = Target { risk, cost, delta: object.share("delta")? };
    if target.is_possible() { Ok(target) } else { Err("the target is out of range".into()) }
}
