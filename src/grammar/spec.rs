//! The forms that a request may ask for, as llguidance's grammars.

use super::Vocabulary;
use super::tools::{self, Tools};
use crate::{Error, Result};
use llguidance::api::TopLevelGrammar;
use serde::Deserialize;
use serde_json::{Value, json};

/// What `pkg/src/grammar.ts` makes of a request.
#[derive(Clone, Debug, Deserialize)]
pub struct Spec {
    #[serde(flatten)]
    pub form: Form,
    /// The answer is ended in the form before it is cut off.
    #[serde(default)]
    pub close_within_budget: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Form {
    JsonObject,
    JsonSchema {
        schema: Value,
    },
    /// The whole answer.
    Regex {
        regex: String,
    },
    /// Lark, as llguidance extends it.
    Grammar {
        grammar: String,
    },
    Tools(Tools),
}

impl Form {
    /// As the request calls it.
    pub fn option(&self) -> &'static str {
        match self {
            Form::JsonObject => "response_format",
            Form::JsonSchema { .. } => "response_format.json_schema.schema",
            Form::Regex { .. } => "response_format.regex",
            Form::Grammar { .. } => "response_format.grammar",
            Form::Tools(_) => "tools",
        }
    }
}

pub struct Parts {
    pub grammar: TopLevelGrammar,
    /// The form begins after it; without one at once.
    pub trigger: Option<Trigger>,
}

/// Text after which the form begins.
#[derive(Clone, Debug)]
pub enum Trigger {
    /// One of these, anywhere; the form begins behind it.
    Marker(Vec<String>),
    /// The first character that is no white space; the form begins with it.
    First(u8),
}

impl Trigger {
    /// Where in `text` the form begins.
    pub fn find(&self, text: &[u8]) -> Option<usize> {
        match self {
            Trigger::Marker(markers) => {
                let end = |marker: &String| {
                    let at = text.windows(marker.len()).position(|window| window == marker.as_bytes())?;
                    Some(at + marker.len())
                };
                markers.iter().filter_map(end).min()
            }
            Trigger::First(byte) => {
                let at = text.iter().position(|byte| !byte.is_ascii_whitespace())?;
                (text[at] == *byte).then_some(at)
            }
        }
    }

    /// Whether it may still be found, once more is known than `text`.
    pub fn may_come(&self, text: &[u8]) -> bool {
        match self {
            Trigger::Marker(_) => true,
            Trigger::First(_) => text.iter().all(u8::is_ascii_whitespace),
        }
    }
}

/// A schema nested as deep is refused: the compiler calls itself for each level, and a browser's stack is small.
const DEEPEST: usize = 64;
/// Bytes of a regular expression or a grammar.
const LARGEST: usize = 64 << 10;

impl Spec {
    pub(super) fn parts(&self, vocabulary: &Vocabulary) -> Result<Parts> {
        let at_once = |grammar| Ok(Parts { grammar, trigger: None });
        match &self.form {
            Form::JsonObject => {
                let any = json!({ "type": "object" });
                at_once(TopLevelGrammar::from_json_schema(json_schema(&any, SPACING)?))
            }
            Form::JsonSchema { schema } => at_once(TopLevelGrammar::from_json_schema(json_schema(schema, SPACING)?)),
            Form::Regex { regex } => {
                check_text(regex)?;
                at_once(TopLevelGrammar::from_regex(regex))
            }
            Form::Grammar { grammar } => {
                check_text(grammar)?;
                at_once(TopLevelGrammar::from_lark(grammar.clone()))
            }
            Form::Tools(tools) => tools::parts(tools, vocabulary),
        }
    }
}

/// White space between JSON's tokens: on one line, or indented. A small model that may write any amount of it never stops.
const SPACING: &str = r"\x20|\x0D?\x0A[\x20\x09]{0,24}";

/// A schema with what the compiler is told beside it.
pub(super) fn json_schema(schema: &Value, spacing: &str) -> Result<Value> {
    let mut schema = match schema {
        Value::Object(schema) => schema.clone(),
        Value::Bool(true) => Default::default(),
        _ => return Err(Error::BadRequest("a schema is an object".into())),
    };
    check_depth(&schema.values().collect::<Vec<_>>())?;
    let spacing = json!({ "whitespace_pattern": spacing });
    schema.entry("x-guidance").or_insert(spacing);
    Ok(schema.into())
}

/// Level by level, not by recursion.
fn check_depth(level: &[&Value]) -> Result<()> {
    let mut level = level.to_vec();
    for _ in 0..DEEPEST {
        level = level
            .iter()
            .flat_map(|value| match value {
                Value::Array(items) => items.iter().collect::<Vec<_>>(),
                Value::Object(map) => map.values().collect(),
                _ => Vec::new(),
            })
            .collect();
        if level.is_empty() {
            return Ok(());
        }
    }
    Err(Error::BadRequest(format!("nested deeper than {DEEPEST} levels")))
}

fn check_text(text: &str) -> Result<()> {
    if text.len() > LARGEST {
        return Err(Error::BadRequest(format!("longer than {LARGEST} bytes")));
    }
    let (mut depth, mut deepest) = (0usize, 0);
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    match deepest > 4 * DEEPEST {
        true => Err(Error::BadRequest(format!("nested deeper than {} levels", 4 * DEEPEST))),
        false => Ok(()),
    }
}
