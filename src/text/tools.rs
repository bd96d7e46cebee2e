//! How a family of models is told of tools, and how it calls them. Files do not say; their templates show it.

use super::chat_template::{Arguments, ChatTemplate, Message};
use crate::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// How a call is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolFormat {
    /// `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`: Hermes, Qwen2.5 and Qwen3, SmolLM2 and 3; any model that is
    /// told so by a prompt.
    Tagged,
    /// `<|tool_call|>[{"name": ..., "arguments": {...}}]<|/tool_call|>`: Phi-4-mini.
    Phi,
    /// `[TOOL_CALLS][{"name": ..., "arguments": {...}}]`: Mistral.
    Mistral,
    /// `{"name": ..., "parameters": {...}}`: Llama 3.
    Llama,
}

impl ToolFormat {
    /// What stands before a call, or a list of them.
    pub fn open(self) -> Option<&'static str> {
        match self {
            ToolFormat::Tagged => Some("<tool_call>"),
            ToolFormat::Phi => Some("<|tool_call|>"),
            ToolFormat::Mistral => Some("[TOOL_CALLS]"),
            ToolFormat::Llama => None,
        }
    }

    pub fn close(self) -> Option<&'static str> {
        match self {
            ToolFormat::Tagged => Some("</tool_call>"),
            ToolFormat::Phi => Some("<|/tool_call|>"),
            ToolFormat::Mistral | ToolFormat::Llama => None,
        }
    }

    pub fn is_list(self) -> bool {
        matches!(self, ToolFormat::Phi | ToolFormat::Mistral)
    }

    /// What the arguments are called.
    pub fn arguments(self) -> &'static str {
        if self == ToolFormat::Llama { "parameters" } else { "arguments" }
    }

    fn of(template: &str) -> ToolFormat {
        let has = |text: &str| template.contains(text);
        if has("[TOOL_CALLS]") {
            ToolFormat::Mistral
        } else if has("<|tool|>") || has("<|tool_call|>") {
            ToolFormat::Phi
        } else if !has("<tool_call>") && has("<|start_header_id|>") && has("\"parameters\"") {
            ToolFormat::Llama
        } else {
            ToolFormat::Tagged
        }
    }

    fn write(self, calls: &[Value]) -> String {
        let one = |call: &Value| {
            let function = &call["function"];
            json!({ "name": function["name"], (self.arguments()): function["arguments"] }).to_string()
        };
        let calls: Vec<String> = calls.iter().map(one).collect();
        let (open, close) = (self.open().unwrap_or_default(), self.close().unwrap_or_default());
        match self {
            ToolFormat::Tagged => {
                let tagged: Vec<String> = calls.iter().map(|call| format!("{open}\n{call}\n{close}")).collect();
                tagged.join("\n")
            }
            ToolFormat::Llama => calls.join("; "),
            _ => format!("{open}[{}]{close}", calls.join(", ")),
        }
    }
}

/// Where a template takes the tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// `tools`, as `transformers` gives them.
    Tools,
    /// `xml_tools`: SmolLM3.
    XmlTools,
    /// In the system message, as text: Phi-4-mini.
    SystemField,
    /// Nowhere: they become a part of the system message.
    Prompt,
}

/// What a template does about tools, found out by giving it some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToolUse {
    pub format: ToolFormat,
    place: Place,
    /// The template writes calls and their results itself.
    knows_calls: bool,
}

impl ToolUse {
    pub(super) fn of(template: &ChatTemplate) -> ToolUse {
        let tool = json!([{ "type": "function", "function": {
            "name": "kinglet_probe", "description": "none", "parameters": { "type": "object", "properties": {} },
        } }]);
        let turn = |role: &str, content: Value, rest: Value| Message {
            role: role.into(),
            content,
            rest: rest.as_object().cloned().unwrap_or_default(),
        };
        let user = || turn("user", "hello".into(), Value::Null);
        let shows = |messages: &[Message], tools: Option<&Value>, arguments: &Arguments, wanted: &[&str]| {
            let text = template.render_with(messages, tools, arguments, true);
            text.is_ok_and(|text| wanted.iter().all(|wanted| text.contains(wanted)))
        };
        let xml = Map::from_iter([("xml_tools".to_string(), tool.clone())]);
        let system = turn("system", "hello".into(), json!({ "tools": "kinglet_probe" }));
        let place = if shows(&[user()], Some(&tool), &Arguments::new(), &["kinglet_probe"]) {
            Place::Tools
        } else if shows(&[user()], None, &xml, &["kinglet_probe"]) {
            Place::XmlTools
        } else if shows(&[system, user()], None, &Arguments::new(), &["kinglet_probe"]) {
            Place::SystemField
        } else {
            Place::Prompt
        };
        let call = json!({ "tool_calls": [{ "id": "kinglet00", "type": "function", "function": {
            "name": "kinglet_probe", "arguments": { "kinglet_key": 1 },
        } }] });
        let result =
            turn("tool", "kinglet_result".into(), json!({ "tool_call_id": "kinglet00", "name": "kinglet_probe" }));
        let conversation = [user(), turn("assistant", Value::Null, call), result];
        let written = ["kinglet_key", "kinglet_result"];
        let knows_calls = place == Place::Tools && shows(&conversation, Some(&tool), &Arguments::new(), &written);
        // A prompt of ours asks for the first format.
        let told = place == Place::Prompt;
        let format = if told { ToolFormat::Tagged } else { ToolFormat::of(template.source_for_tools()) };
        ToolUse { format, place, knows_calls }
    }

    /// The conversation as the template takes it, and what it is given beside it.
    pub(super) fn prepare(
        &self,
        messages: &[Message],
        tools: Option<&Value>,
        arguments: &Arguments,
    ) -> Result<(Vec<Message>, Option<Value>, Arguments)> {
        let mut messages = messages.to_vec();
        let mut arguments = arguments.clone();
        if !self.knows_calls {
            messages = messages.into_iter().map(|message| self.plain(message)).collect();
            merge(&mut messages);
        }
        let Some(tools) = tools else { return Ok((messages, None, arguments)) };
        let mut to_template = None;
        match self.place {
            Place::Tools => to_template = Some(tools.clone()),
            Place::XmlTools => drop(arguments.insert("xml_tools".into(), tools.clone())),
            Place::SystemField => {
                let functions: Vec<&Value> =
                    tools.as_array().into_iter().flatten().map(|tool| &tool["function"]).collect();
                let functions = serde_json::to_string(&functions).expect("plain data");
                system(&mut messages, "You are a helpful assistant with some tools.")
                    .rest
                    .insert("tools".into(), functions.into());
            }
            Place::Prompt => {
                let system = system(&mut messages, "You are a helpful assistant.");
                let before = text_of(&system.content);
                system.content = format!("{before}\n\n{}", told(tools)).into();
            }
        }
        Ok((messages, to_template, arguments))
    }

    /// Calls and results as text, for a template that knows neither.
    fn plain(&self, mut message: Message) -> Message {
        match message.role.as_str() {
            "assistant" => {
                let Some(Value::Array(mut calls)) = message.rest.shift_remove("tool_calls") else { return message };
                calls.iter_mut().for_each(super::chat_template::parse_arguments);
                let said = text_of(&message.content);
                let separator = if said.is_empty() { "" } else { "\n" };
                message.content = format!("{said}{separator}{}", self.format.write(&calls)).into();
            }
            "tool" if self.format == ToolFormat::Phi => message.role = "tool_response".into(),
            "tool" => {
                message.role = "user".into();
                message.content = format!("<tool_response>\n{}\n</tool_response>", text_of(&message.content)).into();
                message.rest.clear();
            }
            _ => {}
        }
        message
    }
}

/// The results of several calls are one turn: templates want turns to alternate.
fn merge(messages: &mut Vec<Message>) {
    let is_result = |message: &Message| {
        message.role == "user" && message.content.as_str().is_some_and(|text| text.starts_with("<tool_response>"))
    };
    messages.dedup_by(|next, before| {
        let both = is_result(next) && is_result(before);
        if both {
            before.content = format!("{}\n{}", text_of(&before.content), text_of(&next.content)).into();
        }
        both
    });
}

/// The system message, a new one where there is none.
fn system<'a>(messages: &'a mut Vec<Message>, default: &str) -> &'a mut Message {
    if messages.first().is_none_or(|message| message.role != "system") {
        messages.insert(0, Message { role: "system".into(), content: default.into(), rest: Map::new() });
    }
    &mut messages[0]
}

fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n"),
        _ => String::new(),
    }
}

/// In the words of Qwen's template, which many models were trained on.
fn told(tools: &Value) -> String {
    let tools: Vec<String> = tools.as_array().into_iter().flatten().map(Value::to_string).collect();
    format!(
        "# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with function signatures \
         within <tools></tools> XML tags:\n<tools>\n{}\n</tools>\n\nFor each function call, return a json object with function name \
         and arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n{{\"name\": <function-name>, \"arguments\": \
         <args-json-object>}}\n</tool_call>",
        tools.join("\n")
    )
}
