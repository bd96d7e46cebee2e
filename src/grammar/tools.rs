//! Calls of tools as a grammar: the names there are, each with arguments of its own schema, in the format of the model.

use super::Vocabulary;
use super::spec::{Parts, Trigger, json_schema};
use crate::text::ToolFormat;
use crate::{Error, Result};
use llguidance::api::TopLevelGrammar;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// Calls stand on one line, as templates write them.
const SPACING: &str = r"\x20";
/// The most calls in one answer: a small model may never stop.
const MOST: usize = 16;

#[derive(Clone, Debug, Deserialize)]
pub struct Tools {
    pub format: ToolFormat,
    pub tools: Vec<Tool>,
    pub choice: Choice,
    /// More than one call.
    pub parallel: bool,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Tool {
    pub function: Function,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Function {
    pub name: String,
    #[serde(default)]
    pub parameters: Option<Value>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// Text or a call: what begins like a call is one.
    Auto,
    Required,
    /// This one.
    Function(String),
}

/// Errors: [`Error::BadRequest`] where no tool has the name.
pub fn parts(tools: &Tools, vocabulary: &Vocabulary) -> Result<Parts> {
    let wanted = |tool: &&Tool| match &tools.choice {
        Choice::Function(name) => tool.function.name == *name,
        _ => true,
    };
    let chosen: Vec<&Tool> = tools.tools.iter().filter(wanted).collect();
    if chosen.is_empty() {
        return Err(Error::BadRequest("none has the name that tool_choice gives".into()));
    }
    let format = tools.format;
    let one_only = !tools.parallel || matches!(tools.choice, Choice::Function(_));
    let more = if one_only { 0 } else { MOST - 1 };
    let literal = |marker: &str| match vocabulary.control(marker) {
        Some(id) => format!("<[{id}]>"),
        None => Value::from(marker).to_string(),
    };
    let schema = calls_schema(format, &chosen)?;
    let mut lark = String::new();
    let (open, close) = (format.open().map(literal), format.close().map(literal));
    let triggered = tools.choice == Choice::Auto;
    // After a trigger the first marker is there already.
    let first_open = open.clone().filter(|_| !triggered).unwrap_or_default();
    let (open, close) = (open.unwrap_or_default(), close.unwrap_or_default());
    let written = match (format.is_list(), more) {
        (true, _) => format!(
            "start: {first_open} SPACE? list {close}\nlist: \"[\" SPACE? call (\",\" SPACE? call){{0,{more}}} \"]\"\n"
        ),
        (false, 0) => format!("start: {first_open} SPACE? call SPACE? {close}\n"),
        (false, _) => match format.close() {
            Some(_) => format!(
                "start: {first_open} SPACE? call SPACE? {close} (SPACE? {open} SPACE? call SPACE? {close}){{0,{more}}}\n"
            ),
            None => format!("start: {first_open} call (\"; \" call){{0,{more}}}\n"),
        },
    };
    lark += &written;
    lark += "SPACE: /[ \\n]{1,4}/\n";
    writeln!(lark, "call: %json {schema}").expect("a string takes all");
    let trigger = triggered.then(|| match format.open() {
        Some(marker) => Trigger::Marker(vec![marker.into()]),
        None => Trigger::First(b'{'),
    });
    Ok(Parts { grammar: TopLevelGrammar::from_lark(lark), trigger })
}

/// Any call of one of them. Their schemas stand under `$defs`, and what they refer to as `#/...` is told so.
fn calls_schema(format: ToolFormat, tools: &[&Tool]) -> Result<Value> {
    let mut definitions = Map::new();
    let mut calls = Vec::new();
    for (i, tool) in tools.iter().enumerate() {
        let key = format!("tool_{i}");
        let mut arguments = tool.function.parameters.clone().unwrap_or_else(|| json!({ "type": "object" }));
        let Some(map) = arguments.as_object_mut() else {
            return Err(Error::BadRequest(format!(
                "the parameters of \"{}\" must be a schema, an object",
                tool.function.name
            )));
        };
        map.entry("type").or_insert("object".into());
        if map.get("type") == Some(&"object".into()) {
            // Arguments that nobody described help nobody.
            map.entry("additionalProperties").or_insert(false.into());
        }
        json_schema(&arguments, SPACING)?;
        move_references(&mut arguments, &format!("#/$defs/{key}"));
        definitions.insert(key.clone(), arguments);
        calls.push(json!({
            "type": "object",
            "properties": { "name": { "const": tool.function.name }, (format.arguments()): { "$ref": format!("#/$defs/{key}") } },
            "required": ["name", format.arguments()],
            "additionalProperties": false,
        }));
    }
    json_schema(&json!({ "anyOf": calls, "$defs": definitions }), SPACING)
}

fn move_references(value: &mut Value, to: &str) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| move_references(item, to)),
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                match value {
                    Value::String(reference) if key == "$ref" && reference.starts_with('#') => {
                        *reference = format!("{to}{}", &reference[1..]).trim_end_matches('/').into();
                    }
                    value => move_references(value, to),
                }
            }
        }
        _ => {}
    }
}
