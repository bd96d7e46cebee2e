//! Settings and questions out of JSON. By hand: derived readers of the same structs are three times the rest of the
//! router in wasm, and their errors do not say what to change.

mod digits;
mod event;
mod parse;
mod value;
mod write;

pub use parse::{Malformed, parse};
pub use value::{Map, Number, Value};
pub use write::to_text;

use super::budget::{Budget, Price};
use super::consent::Destination;
use super::machine::{LocalEnd, Request};
use super::openai::Finish;
use super::policy::{Cloud, Config, Mode, Net, Policy};
use super::privacy::{Context, Pii, Privacy};
use crate::{Error, Result};
use std::cell::Cell;

/// The first thing that is wrong with an input. Readers note it and go on with a default, which nobody sees: code that
/// gives up after each field is twice as large.
#[derive(Default)]
pub(super) struct Problem(Cell<Option<String>>);

impl Problem {
    pub fn note(&self, parts: &[&str]) {
        let first = self.0.take().unwrap_or_else(|| parts.concat());
        self.0.set(Some(first));
    }

    /// What was read, if nothing is wrong.
    pub fn or<T>(self, read: T) -> Result<T, String> {
        self.0.into_inner().map_or(Ok(read), Err)
    }
}

/// An object's fields; null and what is missing are the same.
pub(super) struct Fields<'a> {
    of: &'a Value,
    /// In errors: "cloud.".
    path: &'a str,
    problem: &'a Problem,
}

const MODES: [(&str, Mode); 5] = [
    ("only-local", Mode::OnlyLocal),
    ("prefer-local", Mode::PreferLocal),
    ("auto", Mode::Auto),
    ("prefer-cloud", Mode::PreferCloud),
    ("only-cloud", Mode::OnlyCloud),
];

const CONFIG: [&str; 10] =
    ["tab", "seed", "cloud", "mode", "policy", "privacy", "budget", "net", "granted", "neverAsk"];
const CLOUD: [&str; 7] = ["url", "model", "price", "maxTokens", "limitName", "noUsage", "extra"];
const REQUEST: [&str; 7] = ["messages", "params", "mode", "hold", "private", "local", "pre"];

type NetField = (&'static str, fn(&mut Net) -> &mut u64);

const NET: [NetField; 11] = [
    ("firstMs", |net| &mut net.first_ms),
    ("idleMs", |net| &mut net.idle_ms),
    ("totalMs", |net| &mut net.total_ms),
    ("graceMs", |net| &mut net.grace_ms),
    ("retries", |net| &mut net.retries),
    ("restarts", |net| &mut net.restarts),
    ("backoffMs", |net| &mut net.backoff_ms),
    ("longestWaitMs", |net| &mut net.longest_wait_ms),
    ("lockMs", |net| &mut net.lock_ms),
    ("refreshMs", |net| &mut net.refresh_ms),
    ("consentMs", |net| &mut net.consent_ms),
];

impl<'a> Fields<'a> {
    pub fn any(of: &'a Value, problem: &'a Problem) -> Self {
        Self { of, path: "", problem }
    }

    /// An object with none but `known` keys: a setting that is misspelt would silently not hold.
    fn new(of: &'a Value, path: &'a str, known: &[&str], problem: &'a Problem) -> Self {
        match of {
            Value::Object(Map(entries)) => {
                for (key, _) in entries {
                    if !known.contains(&key.as_str()) {
                        problem.note(&[path, key, " is not known; there are ", &known.join(", ")]);
                    }
                }
            }
            _ if path.is_empty() => problem.note(&["it must be an object"]),
            _ => problem.note(&[&path[..path.len() - 1], " must be an object"]),
        }
        Self { of, path, problem }
    }

    pub fn get(&self, name: &str) -> Option<&'a Value> {
        self.of.get(name).filter(|value| !value.is_null())
    }

    pub fn wrong(&self, name: &str, must: &str) {
        self.problem.note(&[self.path, name, " must be ", must]);
    }

    fn read<T>(&self, name: &str, must: &str, read: impl Fn(&'a Value) -> Option<T>) -> Option<T> {
        let value = self.get(name)?;
        let read = read(value);
        if read.is_none() {
            self.wrong(name, must);
        }
        read
    }

    fn optional_text(&self, name: &str) -> Option<String> {
        self.read(name, "a string", |value| value.as_str().map(String::from))
    }

    pub fn text(&self, name: &str) -> String {
        self.optional_text(name).unwrap_or_default()
    }

    fn number(&self, name: &str) -> Option<f64> {
        self.read(name, "a number", Value::as_f64)
    }

    fn optional_count(&self, name: &str) -> Option<u64> {
        // JavaScript writes large ones as 1e21, and means a very long time.
        let large = |value: &Value| value.as_f64().filter(|n| *n >= 0.0 && n.trunc() == *n).map(|n| n as u64);
        self.read(name, "a whole number from 0 on", |value| value.as_u64().or_else(|| large(value)))
    }

    fn count(&self, name: &str) -> u64 {
        self.optional_count(name).unwrap_or_default()
    }

    pub fn needed(&self, name: &str) -> u64 {
        let given = self.optional_count(name);
        if given.is_none() {
            self.wrong(name, "given");
        }
        given.unwrap_or_default()
    }

    fn flag(&self, name: &str) -> bool {
        self.read(name, "true or false", Value::as_bool).unwrap_or_default()
    }

    fn list(&self, name: &str, must: &str) -> &'a [Value] {
        self.read(name, must, |value| value.as_array().map(Vec::as_slice)).unwrap_or_default()
    }

    /// One wrong item is an error: it was meant as something.
    fn list_of<T>(&self, name: &str, must: &str, item: fn(&Value) -> Option<T>) -> Vec<T> {
        let mut items = Vec::new();
        for value in self.list(name, must) {
            match item(value) {
                Some(item) => items.push(item),
                None => self.wrong(name, must),
            }
        }
        items
    }

    pub fn map(&self, name: &str) -> Map {
        self.read(name, "an object", Value::as_object).cloned().unwrap_or_default()
    }

    /// The place of what is named among those known.
    fn choice(&self, name: &str, known: &[&str]) -> Option<usize> {
        let must = ["one of ", &known.join(", ")].concat();
        self.read(name, &must, |value| known.iter().position(|known| value == known))
    }

    fn one_of<T: Copy, const N: usize>(&self, name: &str, known: [(&str, T); N]) -> Option<T> {
        Some(known[self.choice(name, &known.map(|(name, _)| name))?].1)
    }

    /// Where it is missing, nothing in it is given.
    fn object(&self, name: &'a str, path: &'a str, known: &[&str]) -> Fields<'a> {
        match self.get(name) {
            Some(of) => Fields::new(of, path, known, self.problem),
            None => Fields { of: &Value::Null, path, problem: self.problem },
        }
    }
}

fn destination(value: &Value) -> Option<Destination> {
    if value.as_object()?.0.len() != 2 {
        return None;
    }
    let text = |name: &str| Some(value[name].as_str()?.to_string());
    Some(Destination { host: text("host")?, model: text("model")? })
}

impl Config {
    /// `{ tab, seed, cloud: { url, model, price: { input, output }, maxTokens, limitName, noUsage, extra }, mode,
    /// policy: { early, pre, hold }, privacy: { pii, context, terms }, budget: { usd, periodMs }, net: { firstMs, ... },
    /// granted: [{ host, model }], neverAsk }`. Errors: [`Error::BadRequest`] naming the field, be it wrong or unknown.
    pub fn from_json(value: &Value) -> Result<Self> {
        let problem = Problem::default();
        let all = Fields::new(value, "", &CONFIG, &problem);
        let policy = all.object("policy", "policy.", &["early", "pre", "hold"]);
        let privacy = all.object("privacy", "privacy.", &["pii", "context", "terms"]);
        let budget = all.object("budget", "budget.", &["usd", "periodMs"]);
        let pii = [("redact", Pii::Redact), ("block", Pii::Block), ("allow", Pii::Allow)];
        let context = [("last-turn", Context::LastTurn), ("all", Context::All)];
        let config = Self {
            tab: all.text("tab"),
            seed: all.count("seed"),
            cloud: all.get("cloud").map(|_| cloud(&all.object("cloud", "cloud.", &CLOUD))),
            mode: all.one_of("mode", MODES).unwrap_or_default(),
            policy: Policy { early: policy.number("early"), pre: policy.number("pre"), hold: policy.flag("hold") },
            privacy: Privacy {
                pii: privacy.one_of("pii", pii).unwrap_or_default(),
                context: privacy.one_of("context", context).unwrap_or_default(),
                terms: privacy.list_of("terms", "an array of strings", |term| term.as_str().map(String::from)),
            },
            budget: Budget { usd: budget.number("usd"), period_ms: budget.optional_count("periodMs") },
            net: net(&all.object("net", "net.", &NET.map(|(name, _)| name))),
            granted: all.list_of("granted", "an array of { host, model }", destination),
            never_ask: all.flag("neverAsk"),
        };
        problem.or(config).map_err(Error::BadRequest)
    }
}

fn cloud(fields: &Fields) -> Cloud {
    let price = fields.object("price", "cloud.price.", &["input", "output"]);
    let needed = |name: &str| {
        let given = price.number(name);
        if given.is_none() {
            price.wrong(name, "given");
        }
        given.unwrap_or_default()
    };
    Cloud {
        url: fields.text("url"),
        model: fields.text("model"),
        price: fields.get("price").map(|_| Price { input: needed("input"), output: needed("output") }),
        max_tokens: fields.optional_count("maxTokens"),
        limit_name: fields.optional_text("limitName"),
        no_usage: fields.flag("noUsage"),
        extra: fields.map("extra"),
    }
}

fn net(fields: &Fields) -> Net {
    let mut net = Net::default();
    for (name, field) in NET {
        if let Some(given) = fields.optional_count(name) {
            *field(&mut net) = given;
        }
    }
    net
}

fn request(value: &Value, problem: &Problem) -> Request {
    let all = Fields::new(value, "", &REQUEST, problem);
    Request {
        messages: all.list("messages", "an array").to_vec(),
        params: all.map("params"),
        mode: all.one_of("mode", MODES),
        hold: all.get("hold").map(|_| all.flag("hold")),
        private: all.flag("private"),
        local: all.flag("local"),
        pre: all.number("pre"),
    }
}

fn local_end(value: &Value, problem: &Problem) -> LocalEnd {
    let all = Fields::any(value, problem);
    let mut features = all.map("features");
    // Whatever else stands there could be text.
    features.0.retain(|(_, value)| matches!(value, Value::Number(_)));
    LocalEnd {
        text: all.text("text"),
        finish: all.one_of("finish", Finish::ALL.map(|finish| (finish.name(), finish))).unwrap_or_default(),
        tool_calls: all.list("toolCalls", "an array").to_vec(),
        reasoning: all.text("reasoning"),
        p_ok: all.number("pOk"),
        weak_tool_call: all.flag("weakToolCall"),
        prompt_tokens: all.count("promptTokens"),
        completion_tokens: all.count("completionTokens"),
        features,
    }
}

impl Request {
    /// `{ messages, params, mode, hold, private, local, pre }`. Errors: [`Error::BadRequest`] naming the field, be it wrong
    /// or unknown.
    pub fn from_json(value: &Value) -> Result<Self> {
        let problem = Problem::default();
        let read = request(value, &problem);
        problem.or(read).map_err(Error::BadRequest)
    }
}
