//! The file as it comes in: every figure within its range, or an error that names it. By hand over parsed JSON, because the
//! code that serde derives for so many objects takes ten times the room in wasm.

use super::{Calibration, FORMAT, MAX_POINTS, MadeFor, VERSION, round_all};
use crate::generate::answer_signals::{SIGNAL_NAMES, SIGNAL_VERSION};
use crate::router::calibration::Model;
use crate::router::certify::{Point, Target};
use crate::router::drift::Reference;
use crate::router::feasibility::Feasibility;
use crate::router::isotonic::Isotonic;
use crate::router::json::{self, Problem, Value};
use crate::router::logistic::{Logistic, Term};

/// Far more than a calibration takes.
const MAX_BYTES: usize = 1 << 20;
const MAX_LIST: usize = 100_000;
/// The products of smaller figures are finite.
const LARGE: f64 = 1e9;

pub fn calibration(text: &str) -> Result<Calibration, String> {
    if text.len() > MAX_BYTES {
        return Err("it is larger than a calibration can be".into());
    }
    let value = json::parse(text).map_err(|_| "it is not JSON".to_string())?;
    let problem = Problem::default();
    let calibration = file(&value, &problem);
    problem.or(calibration)
}

/// None: not one of this version.
pub fn made_for(value: &Value) -> Option<MadeFor> {
    let problem = Problem::default();
    let made_for = described(value, &problem);
    problem.or(made_for).ok()?
}

fn file(value: &Value, problem: &Problem) -> Calibration {
    if value["format"] != FORMAT {
        problem.note(&["its format is not \"", FORMAT, "\""]);
    }
    of_version("its version is ", &value["version"], VERSION, problem);
    let names = ["format", "version", "key", "madeFor", "model", "certified", "drift", "feasibility"];
    let file = Object::new("the file", value, &names, problem);
    let made_for = described(file.value("madeFor"), problem);
    let (key, made) = (file.value("key"), made_for.as_ref().map(MadeFor::key));
    if key.as_str() != made.as_deref() || made.is_none() && !key.is_null() {
        problem.note(&["its key is not that of what it was made for"]);
    }
    let mut model = model(file.value("model"), problem);
    let mut certified: Vec<Point> = Vec::new();
    for value in file.list("certified", MAX_POINTS) {
        certified.push(point(value, problem));
    }
    let mut reference = reference(file.value("drift"), problem);
    let mut feasibility = feasibility(file.value("feasibility"), problem);
    round_all(&mut model, &mut certified, &mut reference, &mut feasibility);
    check_points(&certified, &feasibility, problem);
    Calibration { made_for, model, certified, reference, feasibility }
}

fn of_version(what: &str, found: &Value, read: u32, problem: &Problem) {
    if found.as_u64() != Some(read.into()) {
        problem.note(&[what, &json::to_text(found), ", not ", &json::to_text(&read)]);
    }
}

/// A JSON object, and what it is called in errors. What it has not is noted, and read as a figure within its range.
struct Object<'a> {
    name: &'static str,
    value: &'a Value,
    problem: &'a Problem,
}

impl<'a> Object<'a> {
    /// All of `names` and nothing else.
    fn new(name: &'static str, value: &'a Value, names: &[&str], problem: &'a Problem) -> Self {
        match value.as_object() {
            None => problem.note(&[name, " is not an object"]),
            Some(map) => match names.iter().find(|known| map.get(known).is_none()) {
                Some(missing) => problem.note(&[name, " lacks ", missing]),
                None if map.0.len() > names.len() => problem.note(&[name, " has an unknown field"]),
                None => {}
            },
        }
        Self { name, value, problem }
    }

    fn value(&self, name: &str) -> &'a Value {
        &self.value[name]
    }

    fn wrong(&self, name: &str, what: &str) {
        self.problem.note(&[name, " of ", self.name, what]);
    }

    fn text(&self, name: &str) -> &'a str {
        self.value(name).as_str().unwrap_or_else(|| {
            self.wrong(name, " is not a text");
            ""
        })
    }

    fn number(&self, name: &str, low: f64, high: f64) -> f64 {
        number(self.value(name), low, high).unwrap_or_else(|| {
            self.wrong(name, " is out of range");
            high
        })
    }

    fn share(&self, name: &str) -> f64 {
        self.number(name, 0.0, 1.0)
    }

    fn count(&self, name: &str) -> usize {
        let count = self.value(name).as_u64().and_then(|count| u32::try_from(count).ok());
        count.unwrap_or_else(|| {
            self.wrong(name, " is not a number of examples");
            0
        }) as usize
    }

    /// `None` for null.
    fn optional<T>(&self, name: &str, read: impl Fn(&Self, &str) -> T) -> Option<T> {
        if self.value(name).is_null() { None } else { Some(read(self, name)) }
    }

    fn list(&self, name: &str, most: usize) -> &'a [Value] {
        let list = self.value(name).as_array().filter(|list| list.len() <= most);
        list.map(Vec::as_slice).unwrap_or_else(|| {
            self.wrong(name, " is not a list, or has too many items");
            &[]
        })
    }

    /// Never falling.
    fn rising(&self, name: &str, most: usize, low: f64, high: f64) -> Vec<f64> {
        let mut values: Vec<f64> = Vec::new();
        for value in self.list(name, most) {
            match number(value, values.last().copied().unwrap_or(low), high) {
                Some(value) => values.push(value),
                None => self.wrong(name, " is not a rising list within its range"),
            }
        }
        values
    }
}

fn number(value: &Value, low: f64, high: f64) -> Option<f64> {
    value.as_f64().filter(|number| (low..=high).contains(number))
}

fn described(value: &Value, problem: &Problem) -> Option<MadeFor> {
    if value.is_null() {
        return None;
    }
    let object = Object::new("madeFor", value, &["model", "template", "sampler", "signals", "precision"], problem);
    of_version("its signals are of version ", object.value("signals"), SIGNAL_VERSION, problem);
    let text = |name| object.text(name).to_string();
    Some(MadeFor {
        model: text("model"),
        template: text("template"),
        sampler: text("sampler"),
        signals: SIGNAL_VERSION,
        precision: text("precision"),
    })
}

fn model(value: &Value, problem: &Problem) -> Model {
    let object = Object::new("model", value, &["signals", "bias", "isotonic"], problem);
    let mut terms: Vec<Term> = Vec::new();
    for value in object.list("signals", SIGNAL_NAMES.len()) {
        let object = Object::new("a signal", value, &["name", "mean", "deviation", "weight"], problem);
        let name = object.text("name");
        let Some(signal) = SIGNAL_NAMES.iter().position(|known| *known == name) else {
            problem.note(&["there is a signal that no answer has"]);
            continue;
        };
        if terms.iter().any(|term| term.signal == signal) {
            problem.note(&["the signal ", name, " is there twice"]);
        }
        terms.push(Term {
            signal,
            mean: object.number("mean", -LARGE, LARGE),
            deviation: object.number("deviation", 1e-9, LARGE),
            weight: object.number("weight", -LARGE, LARGE),
        });
    }
    let bias = object.number("bias", -LARGE, LARGE);
    let object = Object::new("isotonic", object.value("isotonic"), &["score", "p"], problem);
    let rising = |name| object.rising(name, MAX_LIST, 0.0, 1.0);
    let isotonic = Isotonic { score: rising("score"), p: rising("p") };
    if isotonic.score.is_empty() || isotonic.score.len() != isotonic.p.len() {
        problem.note(&["isotonic has no points, or not as many scores as probabilities"]);
    }
    Model { logistic: Logistic { terms, bias }, isotonic }
}

fn point(value: &Value, problem: &Problem) -> Point {
    let object = Object::new("a certified threshold", value, &["tau", "local", "risk", "bound"], problem);
    let share = |name| object.share(name);
    Point { tau: share("tau"), local: share("local"), risk: share("risk"), bound: share("bound") }
}

fn check_points(points: &[Point], feasibility: &Feasibility, problem: &Problem) {
    if points.is_empty() || !feasibility.certifiable {
        problem.note(&["it has no certified threshold"]);
    }
    let promised = feasibility.target.risk;
    for point in points {
        if point.risk > point.bound || promised.is_some_and(|risk| point.bound > risk + 1e-9) {
            problem.note(&["a certified threshold has a bound below its risk, or above the risk that is promised"]);
        }
    }
    let in_order = |two: &[Point]| if promised.is_some() { two[0].tau > two[1].tau } else { two[0].tau < two[1].tau };
    if !points.windows(2).all(in_order) {
        problem.note(&["the certified thresholds are not in the order in which they were tested"]);
    }
}

fn reference(value: &Value, problem: &Problem) -> Reference {
    let object = Object::new("drift", value, &["n", "pOk", "logLength"], problem);
    let n = object.count("n");
    let most = n.min(MAX_LIST);
    let p_ok = object.rising("pOk", most, 0.0, 1.0);
    if p_ok.is_empty() {
        problem.note(&["pOk of drift is empty"]);
    }
    Reference { n, p_ok, log_length: object.rising("logLength", most, -LARGE, LARGE) }
}

fn feasibility(value: &Value, problem: &Problem) -> Feasibility {
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
    let object = Object::new("feasibility", value, &names, problem);
    let report = Feasibility {
        target: target(object.value("target"), problem),
        n: object.count("n"),
        tested: object.count("tested"),
        error_rate: object.share("errorRate"),
        auroc: object.optional("auroc", Object::share),
        least_escalated: object.optional("leastEscalated", Object::share),
        certifiable: object.value("certifiable").as_bool() == Some(true),
        certified_local: object.share("certifiedLocal"),
        quality_at80: object.share("qualityAt80"),
        examples_needed: object.optional("examplesNeeded", Object::count),
        lowest_risk: object.share("lowestRisk"),
    };
    if report.tested > report.n {
        problem.note(&["tested of feasibility is more than there were"]);
    }
    report
}

fn target(value: &Value, problem: &Problem) -> Target {
    let kind = if value["risk"].is_null() { "cost" } else { "risk" };
    let object = Object::new("the target", value, &[kind, "delta"], problem);
    let share = Some(object.share(kind));
    let (risk, cost) = if kind == "risk" { (share, None) } else { (None, share) };
    let target = Target { risk, cost, delta: object.share("delta") };
    if !target.is_possible() {
        problem.note(&["the target is out of range"]);
    }
    target
}
