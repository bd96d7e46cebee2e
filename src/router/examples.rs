//! Answers with a verdict, one JSON object a line: what calibration learns from and a replay reads.

use crate::generate::sampler::SplitMix64;
use crate::generate::{AnswerSignals, SignalSum, Signals};
use crate::{Error, Result};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    pub id: String,
    /// Examples of one group (a document, a user) are never on both sides of a split.
    pub group: Option<String>,
    pub signals: AnswerSignals,
    /// Whether the local answer was acceptable; `None`: nobody said.
    pub label: Option<bool>,
    /// Of the cloud's answer, in dollars or whatever the target counts.
    pub cost: Option<f64>,
}

/// `signals`, or the `tokens` they are made of.
#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    id: Value,
    #[serde(default)]
    group: Value,
    signals: Option<AnswerSignals>,
    tokens: Option<Vec<Token>>,
    #[serde(default)]
    label: Value,
    cost: Option<f64>,
}

#[derive(Deserialize)]
struct Token {
    logprob: f32,
    entropy: f32,
    margin: f32,
    /// Log-probabilities of the best tokens, looked at on the first token only.
    #[serde(default)]
    top: Vec<f32>,
}

/// Errors: [`Error::BadRequest`] naming the first line that cannot be used; no example at all is one as well.
pub fn parse(text: &str) -> Result<Vec<Example>> {
    let lines = text.strip_prefix('\u{feff}').unwrap_or(text).lines().enumerate();
    let examples = lines.filter(|(_, line)| !line.trim().is_empty()).map(|(i, line)| {
        example(line, i + 1).map_err(|problem| Error::BadRequest(format!("line {}: {problem}", i + 1)))
    });
    let examples: Vec<Example> = examples.collect::<Result<_>>()?;
    if examples.is_empty() {
        let shape = r#"{"id": "1", "signals": {"meanLogprob": -0.3}, "label": 1}"#;
        return Err(Error::BadRequest(format!("there are no examples; each is a line like {shape}")));
    }
    Ok(examples)
}

fn example(line: &str, number: usize) -> Result<Example, String> {
    let line: Line = serde_json::from_str(line).map_err(|error| format!("not an example: {error}"))?;
    let signals = match (line.signals, line.tokens) {
        (Some(signals), None) => signals,
        (None, Some(tokens)) => of_tokens(&tokens),
        _ => return Err("an example has either \"signals\" or \"tokens\"".into()),
    };
    let label = match &line.label {
        Value::Null => None,
        Value::Bool(label) => Some(*label),
        value => match value.as_f64() {
            Some(0.0) => Some(false),
            Some(1.0) => Some(true),
            _ => return Err(format!("the label is {value}; it must be 0 or 1")),
        },
    };
    if let Some(cost) = line.cost.filter(|cost| !(cost.is_finite() && *cost >= 0.0)) {
        return Err(format!("the cost is {cost}; it must be 0 or more"));
    }
    Ok(Example {
        id: name(&line.id, "id")?.unwrap_or_else(|| number.to_string()),
        group: name(&line.group, "group")?,
        signals,
        label,
        cost: line.cost,
    })
}

fn name(value: &Value, what: &str) -> Result<Option<String>, String> {
    match value {
        Value::Null => Ok(None),
        Value::String(name) => Ok(Some(name.clone())),
        Value::Number(number) => Ok(Some(number.to_string())),
        _ => Err(format!("the {what} must be a string or a number")),
    }
}

fn of_tokens(tokens: &[Token]) -> AnswerSignals {
    let mut sum = SignalSum::default();
    for &Token { logprob, entropy, margin, ref top } in tokens {
        sum.first_content(top, entropy);
        sum.push(Signals { logprob, entropy, margin });
    }
    sum.get()
}

/// Two random halves, to fit on and to certify on; groups stay whole, so that the halves may differ in size.
pub fn halves<'a>(examples: &[&'a Example], seed: u64) -> [Vec<&'a Example>; 2] {
    let mut groups: BTreeMap<&str, usize> = BTreeMap::new();
    let mut units: Vec<Vec<&Example>> = Vec::new();
    for &example in examples {
        let unit = match &example.group {
            Some(group) => *groups.entry(group).or_insert(units.len()),
            None => units.len(),
        };
        if unit == units.len() {
            units.push(Vec::new());
        }
        units[unit].push(example);
    }
    SplitMix64(seed).shuffle(&mut units);
    // The largest first: the small ones even out what they leave.
    units.sort_by_key(|unit| std::cmp::Reverse(unit.len()));
    let mut halves = [Vec::new(), Vec::new()];
    for unit in units {
        let smaller = usize::from(halves[1].len() < halves[0].len());
        halves[smaller].extend(unit);
    }
    halves
}
