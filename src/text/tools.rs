//! How a family of models is told of tools, and how it calls them. Files do not say; their templates show it. All of it is
//! cold: it runs once for a request and is a part of every page's download, so that small code is worth more than fast code.

use super::chat_template::{Arguments, ChatTemplate, Message};
use super::jinja::dump;
use crate::Result;
use serde::Deserialize;
use serde_json::{Map, Value};

/// How a call is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
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
    /// As JSON has it.
    pub fn name(self) -> &'static str {
        match self {
            ToolFormat::Tagged => "tagged",
            ToolFormat::Phi => "phi",
            ToolFormat::Mistral => "mistral",
            ToolFormat::Llama => "llama",
        }
    }

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

    /// Calls as the model would have written them.
    #[cold]
    fn write(self, calls: &[Value]) -> String {
        let mut out = String::new();
        let (open, close) = (self.open().unwrap_or_default(), self.close().unwrap_or_default());
        let tagged = self == ToolFormat::Tagged;
        let separator = match self {
            ToolFormat::Tagged => "\n</tool_call>\n<tool_call>\n",
            ToolFormat::Llama => "; ",
            _ => ", ",
        };
        out += open;
        out += if tagged {
            "\n"
        } else if self.is_list() {
            "["
        } else {
            ""
        };
        for (i, call) in calls.iter().enumerate() {
            let function = &call["function"];
            let parts = [
                if i > 0 { separator } else { "" },
                "{\"name\": ",
                &dump(&function["name"]),
                ", \"",
                self.arguments(),
                "\": ",
                &dump(&function["arguments"]),
                "}",
            ];
            out.extend(parts);
        }
        out += if tagged {
            "\n"
        } else if self.is_list() {
            "]"
        } else {
            ""
        };
        out + close
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

/// What templates are tried with is text, because macros that build JSON take much code.
const TOOL: &str = r#"[{"role": "", "tools": [{"type": "function", "function": {"name": "kinglet_probe", "description": "",
    "parameters": {"type": "object", "properties": {}}}}]}]"#;
const USER: &str = r#"[{"role": "user", "content": "hello"}]"#;
const SYSTEM: &str = r#"[{"role": "system", "content": "hello", "tools": "kinglet_probe"},
    {"role": "user", "content": "hello"}]"#;
const CALL: &str = r#"[{"role": "user", "content": "hello"},
    {"role": "assistant", "tool_calls": [{"id": "kinglet00", "type": "function",
        "function": {"name": "kinglet_probe", "arguments": {"kinglet_key": 1}}}]},
    {"role": "tool", "content": "kinglet_result", "tool_call_id": "kinglet00", "name": "kinglet_probe"}]"#;

/// What a template does about tools, found out by giving it some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToolUse {
    pub format: ToolFormat,
    place: Place,
    /// The template writes calls and their results itself.
    knows_calls: bool,
}

impl ToolUse {
    #[cold]
    pub(super) fn of(template: &ChatTemplate) -> ToolUse {
        let read = |json: &str| serde_json::from_str::<Vec<Message>>(json).expect("they are messages");
        let tools = read(TOOL)[0].rest["tools"].clone();
        let none = Arguments::new();
        let shows = |conversation: &str, tools: Option<&Value>, arguments: &Arguments, wanted: &[&str]| {
            let text = template.render_with(&read(conversation), tools, arguments, true);
            text.is_ok_and(|text| wanted.iter().all(|wanted| text.contains(wanted)))
        };
        let xml = Arguments::from_iter([("xml_tools".to_string(), tools.clone())]);
        let place = if shows(USER, Some(&tools), &none, &["kinglet_probe"]) {
            Place::Tools
        } else if shows(USER, None, &xml, &["kinglet_probe"]) {
            Place::XmlTools
        } else if shows(SYSTEM, None, &none, &["kinglet_probe"]) {
            Place::SystemField
        } else {
            Place::Prompt
        };
        let written = ["kinglet_key", "kinglet_result"];
        let knows_calls = place == Place::Tools && shows(CALL, Some(&tools), &none, &written);
        // A prompt of ours asks for the first format.
        let told = place == Place::Prompt;
        let format = if told { ToolFormat::Tagged } else { ToolFormat::of(template.source_for_tools()) };
        ToolUse { format, place, knows_calls }
    }

    /// The conversation as the template takes it, and what it is given beside it.
    #[cold]
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
                let functions = tools.as_array().into_iter().flatten().map(|tool| tool["function"].clone()).collect();
                system(&mut messages, "You are a helpful assistant with some tools.")
                    .rest
                    .insert("tools".into(), dump(&Value::Array(functions)).into());
            }
            Place::Prompt => {
                let system = system(&mut messages, "You are a helpful assistant.");
                system.content = (text_of(&system.content) + "\n\n" + &told(tools)).into();
            }
        }
        Ok((messages, to_template, arguments))
    }

    /// Calls and results as text, for a template that knows neither.
    #[cold]
    fn plain(&self, mut message: Message) -> Message {
        match message.role.as_str() {
            "assistant" => {
                let Some(Value::Array(mut calls)) = message.rest.shift_remove("tool_calls") else { return message };
                calls.iter_mut().for_each(super::chat_template::parse_arguments);
                let said = text_of(&message.content);
                let separator = if said.is_empty() { "" } else { "\n" };
                message.content = (said + separator + &self.format.write(&calls)).into();
            }
            "tool" if self.format == ToolFormat::Phi => message.role = "tool_response".into(),
            "tool" => {
                message.role = "user".into();
                message.content =
                    ("<tool_response>\n".to_string() + &text_of(&message.content) + "\n</tool_response>").into();
                message.rest.clear();
            }
            _ => {}
        }
        message
    }
}

/// The results of several calls are one turn: templates want turns to alternate.
#[cold]
fn merge(messages: &mut Vec<Message>) {
    let is_result = |message: &Message| {
        message.role == "user" && message.content.as_str().is_some_and(|text| text.starts_with("<tool_response>"))
    };
    messages.dedup_by(|next, before| {
        let both = is_result(next) && is_result(before);
        if both {
            before.content = (text_of(&before.content) + "\n" + &text_of(&next.content)).into();
        }
        both
    });
}

/// The system message, a new one where there is none.
#[cold]
fn system<'a>(messages: &'a mut Vec<Message>, default: &str) -> &'a mut Message {
    if messages.first().is_none_or(|message| message.role != "system") {
        messages.insert(0, Message { role: "system".into(), content: default.into(), rest: Map::new() });
    }
    &mut messages[0]
}

#[cold]
fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n"),
        _ => String::new(),
    }
}

/// In the words of Qwen's template, which many models were trained on.
#[cold]
fn told(tools: &Value) -> String {
    let mut out = "# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with function \
        signatures within <tools></tools> XML tags:\n<tools>\n"
        .to_string();
    for tool in tools.as_array().into_iter().flatten() {
        out.extend([&dump(tool), "\n"]);
    }
    out + "</tools>\n\nFor each function call, return a json object with function name and arguments within \
        <tool_call></tool_call> XML tags:\n<tool_call>\n{\"name\": <function-name>, \"arguments\": <args-json-object>}\n</tool_call>"
}
