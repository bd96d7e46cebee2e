//! Settings and questions out of JSON. By hand: derived readers of the same structs are three times the rest of the
//! router in wasm, and their errors do not say what to change.

use super::budget::{Budget, Price};
use super::consent::Destination;
use super::machine::{LocalEnd, Request};
use super::openai::Finish;
use super::policy::{Cloud, Config, Mode, Net, Policy};
use super::privacy::{Context, Pii, Privacy};
use crate::{Error, Result};
use serde_json::{Map, Value};

/// An object's fields; null and what is missing are the same.
struct Fields<'a> {
    of: &'a Value,
    /// In errors: "cloud.".
    path: &'a str,
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
    /// Errors: `of` is no object, or has a key that is not `known`: a setting that is misspelt would silently not hold.
    fn new(of: &'a Value, path: &'a str, known: &[&str]) -> Result<Self> {
        let Value::Object(map) = of else {
            let what = if path.is_empty() { "it" } else { path.trim_end_matches('.') };
            return Err(Error::BadRequest([what, " must be an object"].concat()));
        };
        match map.keys().find(|key| !known.contains(&key.as_str())) {
            None => Ok(Self { of, path }),
            Some(key) => Err(Error::BadRequest([path, key, " is not known; there are ", &known.join(", ")].concat())),
        }
    }

    fn get(&self, name: &str) -> Option<&'a Value> {
        self.of.get(name).filter(|value| !value.is_null())
    }

    fn wrong<T>(&self, name: &str, must: &str) -> Result<T> {
        Err(Error::BadRequest([self.path, name, " must be ", must].concat()))
    }

    fn read<T>(&self, name: &str, must: &str, read: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => read(value).map_or_else(|| self.wrong(name, must), |value| Ok(Some(value))),
        }
    }

    fn text(&self, name: &str) -> Result<Option<String>> {
        self.read(name, "a string", |value| value.as_str().map(String::from))
    }

    fn number(&self, name: &str) -> Result<Option<f64>> {
        self.read(name, "a number", Value::as_f64)
    }

    fn count(&self, name: &str) -> Result<Option<u64>> {
        // JavaScript writes large ones as 1e21, and means a very long time.
        let large = |value: &Value| value.as_f64().filter(|n| *n >= 0.0 && n.fract() == 0.0).map(|n| n as u64);
        self.read(name, "a whole number from 0 on", |value| value.as_u64().or_else(|| large(value)))
    }

    fn flag(&self, name: &str) -> Result<bool> {
        Ok(self.read(name, "true or false", Value::as_bool)?.unwrap_or(false))
    }

    fn list(&self, name: &str) -> Result<Vec<Value>> {
        self.list_of(name, "an array", |item| Some(item.clone()))
    }

    /// One wrong item is an error: it was meant as something.
    fn list_of<T>(&self, name: &str, must: &str, item: fn(&Value) -> Option<T>) -> Result<Vec<T>> {
        let items = self.read(name, must, |value| value.as_array()?.iter().map(item).collect::<Option<Vec<T>>>())?;
        Ok(items.unwrap_or_default())
    }

    fn map(&self, name: &str) -> Result<Map<String, Value>> {
        Ok(self.read(name, "an object", |value| value.as_object().cloned())?.unwrap_or_default())
    }

    fn one_of<T: Copy>(&self, name: &str, known: &[(&str, T)]) -> Result<Option<T>> {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        let must = ["one of ", &names.join(", ")].concat();
        self.read(name, &must, |value| Some(known.iter().find(|(name, _)| value == name)?.1))
    }

    /// Where it is missing, nothing in it is given.
    fn object(&self, name: &'a str, path: &'a str, known: &[&str]) -> Result<Fields<'a>> {
        self.get(name).map_or(Ok(Fields { of: &Value::Null, path }), |of| Fields::new(of, path, known))
    }
}

fn destination(value: &Value) -> Option<Destination> {
    if value.as_object()?.len() != 2 {
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
        let all = Fields::new(value, "", &CONFIG)?;
        let policy = all.object("policy", "policy.", &["early", "pre", "hold"])?;
        let privacy = all.object("privacy", "privacy.", &["pii", "context", "terms"])?;
        let budget = all.object("budget", "budget.", &["usd", "periodMs"])?;
        let pii = [("redact", Pii::Redact), ("block", Pii::Block), ("allow", Pii::Allow)];
        let context = [("last-turn", Context::LastTurn), ("all", Context::All)];
        Ok(Self {
            tab: all.text("tab")?.unwrap_or_default(),
            seed: all.count("seed")?.unwrap_or_default(),
            cloud: all.get("cloud").map(|_| cloud(&all.object("cloud", "cloud.", &CLOUD)?)).transpose()?,
            mode: all.one_of("mode", &MODES)?.unwrap_or_default(),
            policy: Policy { early: policy.number("early")?, pre: policy.number("pre")?, hold: policy.flag("hold")? },
            privacy: Privacy {
                pii: privacy.one_of("pii", &pii)?.unwrap_or_default(),
                context: privacy.one_of("context", &context)?.unwrap_or_default(),
                terms: privacy.list_of("terms", "an array of strings", |term| term.as_str().map(String::from))?,
            },
            budget: Budget { usd: budget.number("usd")?, period_ms: budget.count("periodMs")? },
            net: net(&all.object("net", "net.", &NET.map(|(name, _)| name))?)?,
            granted: all.list_of("granted", "an array of { host, model }", destination)?,
            never_ask: all.flag("neverAsk")?,
        })
    }
}

fn cloud(fields: &Fields) -> Result<Cloud> {
    let price = fields.object("price", "cloud.price.", &["input", "output"])?;
    let needed = |name: &str| price.number(name)?.map_or_else(|| price.wrong(name, "given"), Ok);
    Ok(Cloud {
        url: fields.text("url")?.unwrap_or_default(),
        model: fields.text("model")?.unwrap_or_default(),
        price: match price.of {
            Value::Null => None,
            _ => Some(Price { input: needed("input")?, output: needed("output")? }),
        },
        max_tokens: fields.count("maxTokens")?,
        limit_name: fields.text("limitName")?,
        no_usage: fields.flag("noUsage")?,
        extra: fields.map("extra")?,
    })
}

fn net(fields: &Fields) -> Result<Net> {
    let mut net = Net::default();
    for (name, field) in NET {
        if let Some(given) = fields.count(name)? {
            *field(&mut net) = given;
        }
    }
    Ok(net)
}

impl Request {
    /// `{ messages, params, mode, hold, private, local, pre }`. Errors: [`Error::BadRequest`] naming the field, be it wrong
    /// or unknown.
    pub fn from_json(value: &Value) -> Result<Self> {
        let all = Fields::new(value, "", &REQUEST)?;
        Ok(Self {
            messages: all.list("messages")?,
            params: all.map("params")?,
            mode: all.one_of("mode", &MODES)?,
            hold: all.get("hold").map(|_| all.flag("hold")).transpose()?,
            private: all.flag("private")?,
            local: all.flag("local")?,
            pre: all.number("pre")?,
        })
    }
}

impl LocalEnd {
    /// `{ text, finish, toolCalls, reasoning, pOk, weakToolCall, features, promptTokens, completionTokens }`. Errors:
    /// [`Error::BadRequest`] naming the field.
    pub fn from_json(value: &Value) -> Result<Self> {
        let all = Fields { of: value, path: "" };
        let ends = Finish::ALL.map(|finish| (finish.name(), finish));
        let mut features = all.map("features")?;
        // Whatever else stands there could be text.
        features.retain(|_, value| value.is_number());
        Ok(Self {
            text: all.text("text")?.unwrap_or_default(),
            finish: all.one_of("finish", &ends)?.unwrap_or_default(),
            tool_calls: all.list("toolCalls")?,
            reasoning: all.text("reasoning")?.unwrap_or_default(),
            p_ok: all.number("pOk")?,
            weak_tool_call: all.flag("weakToolCall")?,
            prompt_tokens: all.count("promptTokens")?.unwrap_or_default(),
            completion_tokens: all.count("completionTokens")?.unwrap_or_default(),
            features,
        })
    }
}
