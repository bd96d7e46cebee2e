//! OpenAI's chat completions as servers really speak them: what one event, or one whole answer, says.

use super::fault::Fault;
use super::json;
use super::json::Value;
use super::record::Tokens;
use super::text::{self, contains};

/// How an answer ended; nothing else counts as an end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Finish {
    #[default]
    Stop,
    Length,
    ToolCalls,
    ContentFilter,
}

impl Finish {
    pub const ALL: [Finish; 4] = [Finish::Stop, Finish::Length, Finish::ToolCalls, Finish::ContentFilter];

    pub fn name(self) -> &'static str {
        match self {
            Finish::Stop => "stop",
            Finish::Length => "length",
            Finish::ToolCalls => "tool_calls",
            Finish::ContentFilter => "content_filter",
        }
    }
}

/// A piece of a tool call, or a whole one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolCall {
    pub index: u64,
    pub id: String,
    pub name: String,
    /// JSON, as text.
    pub arguments: String,
}

/// What one event adds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chunk {
    pub text: String,
    pub reasoning: String,
    pub tool_calls: Vec<ToolCall>,
    /// Err: a `finish_reason` unknown to us.
    pub finish: Option<Result<Finish, Fault>>,
    /// Tokens that the server counted.
    pub usage: Option<Tokens>,
}

impl Chunk {
    /// Whether the model produced something: what keeps a stream from counting as stalled.
    pub fn has_content(&self) -> bool {
        !self.text.is_empty() || !self.reasoning.is_empty() || !self.tool_calls.is_empty() || self.finish.is_some()
    }
}

/// The data of one event, or a whole body.
#[derive(Clone, Debug, PartialEq)]
pub enum Parsed {
    Chunk(Chunk),
    Error(Fault),
    /// Not a JSON object.
    Malformed,
}

/// Reads a chunk of a stream (`delta`) or a whole answer (`message`). Unknown keys, nulls and objects without choices
/// are no mistakes.
pub fn parse(data: &str) -> Parsed {
    let Ok(value @ Value::Object(_)) = json::parse(data) else { return Parsed::Malformed };
    if let Some(error) = value.get("error").filter(|error| !error.is_null()) {
        return Parsed::Error(error_code(error));
    }
    // Without choices: usage alone, or a server's own kind of ping.
    let first = |choice: &&Value| choice["index"].as_u64().unwrap_or(0) == 0;
    let choice = value["choices"].items().iter().find(first);
    let mut chunk = Chunk { usage: usage(&value["usage"]), ..Chunk::default() };
    if let Some(choice) = choice {
        let said = if choice["delta"].as_object().is_some() { &choice["delta"] } else { &choice["message"] };
        chunk.text = text(&said["content"]);
        chunk.reasoning = text(&said["reasoning_content"]);
        if chunk.reasoning.is_empty() {
            chunk.reasoning = text(&said["reasoning"]);
        }
        for (i, call) in said["tool_calls"].items().iter().enumerate() {
            chunk.tool_calls.push(tool_call(i as u64, call));
        }
        chunk.finish = choice["finish_reason"].as_str().filter(|reason| !reason.is_empty()).map(finish);
    }
    Parsed::Chunk(chunk)
}

/// A string, or the texts of content parts.
fn text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => String::new(),
    }
}

fn tool_call(position: u64, call: &Value) -> ToolCall {
    let string = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let function = &call["function"];
    ToolCall {
        index: call["index"].as_u64().unwrap_or(position),
        id: string(&call["id"]),
        name: string(&function["name"]),
        arguments: string(&function["arguments"]),
    }
}

/// The words of other servers for the same ends included.
fn finish(reason: &str) -> Result<Finish, Fault> {
    if let Some(finish) = Finish::ALL.into_iter().find(|finish| finish.name() == reason) {
        return Ok(finish);
    }
    Ok(match reason {
        "eos" | "eos_token" | "stop_sequence" | "end_turn" => Finish::Stop,
        "max_tokens" => Finish::Length,
        "function_call" | "tool_use" => Finish::ToolCalls,
        _ => return Err(Fault::BadFinish),
    })
}

fn usage(usage: &Value) -> Option<Tokens> {
    let input = usage["prompt_tokens"].as_u64()?;
    Some(Tokens { input, output: usage["completion_tokens"].as_u64().unwrap_or(0) })
}

/// The status that an error within a 200 stands for: its number, or what its words mean.
pub fn error_code(error: &Value) -> Fault {
    let status = |value: &Value| {
        let number = value.as_u64().or_else(|| text::number(value.as_str()?))?;
        u16::try_from(number).ok().filter(|status| (400..600).contains(status))
    };
    let keys = ["status", "status_code", "code", "type"];
    if let Some(status) = keys.iter().find_map(|key| status(&error[*key])) {
        return Fault::Http(status);
    }
    let mut words = String::new();
    for key in keys {
        words += error[key].as_str().unwrap_or_default();
        words.push(' ');
    }
    let says = |word: &str| contains(&words, word);
    Fault::Http(match () {
        () if says("quota") || says("budget") || says("billing") || says("credit") => 402,
        () if says("rate_limit") => 429,
        () if says("auth") || says("api_key") => 401,
        () if says("permission") => 403,
        () if says("not_found") => 404,
        () if says("invalid") || says("context_length") => 400,
        () if says("overloaded") => 529,
        () if says("timeout") => 408,
        () => 500,
    })
}
