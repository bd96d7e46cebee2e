//! Chat templates as files carry them (Jinja), with the extras that Hugging Face templates use.

use super::families::{self, Family};
use super::{Tokenizer, ToolUse, jinja, seams};
use crate::formats::Metadata;
use crate::{Error, Result};
use minijinja::Environment;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One message of a conversation, OpenAI's shape; fields beyond role and content (tool_calls, name, ...) are kept for the template.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    pub role: String,
    #[serde(default)]
    pub content: Value,
    #[serde(flatten)]
    pub rest: serde_json::Map<String, Value>,
}

/// What a request gives to the template beside the conversation (`chat_template_kwargs`).
pub type Arguments = serde_json::Map<String, Value>;

pub struct ChatTemplate {
    source: String,
    /// Taken instead of `source` when there are tools.
    tool_source: Option<String>,
    env: Environment<'static>,
    /// `bos_token` and the like.
    names: Vec<(&'static str, String)>,
    /// Seconds since 1970 in local time, for templates that ask for the date.
    now: Option<i64>,
}

impl ChatTemplate {
    /// The file's own template, else its family's, else a plain "User: ..." form. A template that does not parse fails when
    /// it is used, so that such a file still completes raw text.
    pub fn from_gguf(metadata: &Metadata, tokenizer: &Tokenizer) -> Result<ChatTemplate> {
        let source = match metadata.string("tokenizer.chat_template")? {
            Some(own) => own,
            None => Family::of(metadata, tokenizer)?.source,
        };
        let mut template = ChatTemplate::new(source, tokenizer);
        let tool_source = metadata.string("tokenizer.chat_template.tool_use")?;
        template.tool_source = tool_source.map(jinja::without_generation_tags);
        Ok(template)
    }

    /// The template that an app chose: of the model's family (`family`), of a family by its name, or `choice` itself as Jinja;
    /// with what stands in for the file's text.
    ///
    /// Errors: [`Error::BadRequest`] where there is no such family; [`Error::Template`] where the model is of none, or the text
    /// does not parse.
    #[cold]
    pub fn chosen(choice: &str, metadata: &Metadata, tokenizer: &Tokenizer) -> Result<(ChatTemplate, String)> {
        let source = match Family::named(choice) {
            Some(family) => family.source,
            None if choice == "family" => Family::of(metadata, tokenizer)?.source,
            None if choice.contains("{{") || choice.contains("{%") => choice,
            None => {
                let problem = format!("\"{choice}\" is neither a family nor a template");
                return Err(Error::BadRequest(format!("the chat template: {problem}; {}", families::choices())));
            }
        };
        let template = ChatTemplate::new(source, tokenizer);
        template.env.template_from_str(&template.source).map_err(explain)?;
        Ok((template, source.into()))
    }

    /// A template from elsewhere: a `chat_template.jinja`, or the user's own.
    pub fn new(source: &str, tokenizer: &Tokenizer) -> ChatTemplate {
        let ids = [("bos_token", tokenizer.bos()), ("eos_token", tokenizer.eos()), ("unk_token", tokenizer.unknown)];
        let name = |id| String::from_utf8_lossy(tokenizer.token_bytes(id)).into_owned();
        ChatTemplate {
            source: jinja::without_generation_tags(source),
            tool_source: None,
            env: jinja::environment(),
            names: ids.into_iter().filter_map(|(key, id)| Some((key, name(id?)))).collect(),
            now: None,
        }
    }

    /// Sets what `strftime_now` tells, in seconds since 1970 of local time, as `transformers` has it; without it the
    /// function is undefined, and templates that ask for it fall back to a date of their own, or fail.
    pub fn set_clock(&mut self, seconds: i64) {
        self.now = Some(seconds);
    }

    /// The ids of the rendered conversation, ready for an answer. Special tokens of the template become control
    /// tokens, the same text inside messages does not. BOS is there once if the file wants it.
    ///
    /// Errors: [`Error::Template`]; [`Error::BadRequest`] for content that is no text.
    pub fn encode(&self, tokenizer: &Tokenizer, messages: &[Message], tools: Option<&Value>) -> Result<Vec<u32>> {
        self.encode_with(tokenizer, messages, tools, &Arguments::new(), false)
    }

    /// As [`ChatTemplate::encode`], with the template's own `arguments`, such as `enable_thinking`. `continued`: the last message
    /// is an answer whose text goes on.
    ///
    /// Errors: [`Error::BadRequest`] also for the name of something that a template is given anyway, and where there is nothing to go on.
    pub fn encode_with(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
        tools: Option<&Value>,
        arguments: &Arguments,
        continued: bool,
    ) -> Result<Vec<u32>> {
        check(arguments)?;
        let mut messages = self.prepare(messages)?;
        let mut tools = tools.cloned().unwrap_or_default();
        let mut arguments = Value::Object(arguments.clone());
        let mark = seams::mark(tokenizer, self.source(&tools), &mut [&mut messages, &mut tools, &mut arguments]);
        let text = match continued {
            true => self.run_continued(messages, &tools, &arguments)?,
            false => self.run(&messages, &tools, &arguments, true)?,
        };
        let mut ids = match mark {
            None => tokenizer.encode_seamed(&text, &[]),
            Some(mark) => {
                let (text, seams) = seams::unmark(&text, mark);
                tokenizer.encode_seamed(&text, &seams)
            }
        };
        if let Some(bos) = tokenizer.bos() {
            let there = ids.iter().take_while(|&&id| id == bos).count();
            match there {
                0 if tokenizer.add_bos() => ids.insert(0, bos),
                0 => {}
                _ if tokenizer.eos() == Some(bos) => {} // then it may well be an empty turn's end
                n => drop(ids.drain(1..n)),
            }
        }
        Ok(ids)
    }

    /// As text, as `transformers`' `apply_chat_template(tokenize=False, add_generation_prompt=...)`.
    pub fn render(&self, messages: &[Message], tools: Option<&Value>, add_generation_prompt: bool) -> Result<String> {
        self.render_with(messages, tools, &Arguments::new(), add_generation_prompt)
    }

    /// As [`ChatTemplate::render`], with the template's own `arguments`.
    pub fn render_with(
        &self,
        messages: &[Message],
        tools: Option<&Value>,
        arguments: &Arguments,
        add_generation_prompt: bool,
    ) -> Result<String> {
        check(arguments)?;
        let arguments = Value::Object(arguments.clone());
        self.run(&self.prepare(messages)?, tools.unwrap_or(&Value::Null), &arguments, add_generation_prompt)
    }

    /// As text, as `transformers`' `apply_chat_template(tokenize=False, continue_final_message=True)`.
    pub fn render_continued(&self, messages: &[Message], tools: Option<&Value>) -> Result<String> {
        self.run_continued(self.prepare(messages)?, tools.unwrap_or(&Value::Null), &Value::Null)
    }

    /// Rendered with a tag behind the last message's text, the conversation ends where the tag stands.
    #[cold]
    fn run_continued(&self, mut messages: Value, tools: &Value, arguments: &Value) -> Result<String> {
        const TAG: &str = "CONTINUE_FINAL_MESSAGE_TAG ";
        let last = messages.as_array_mut().and_then(|messages| messages.last_mut());
        let last = last.filter(|message| message["role"] == "assistant");
        let text = last.and_then(|message| match message.get_mut("content") {
            Some(Value::Array(parts)) => parts.last_mut().and_then(|part| part.get_mut("text")),
            content => content,
        });
        let Some(Value::String(text)) = text else {
            let problem = "continue_final_message: the last message must be the assistant's, with a text to go on from";
            return Err(Error::BadRequest(problem.into()));
        };
        let wanted = text.trim().to_string();
        text.push_str(TAG);
        let mut rendered = self.run(&messages, tools, arguments, false)?;
        let Some(end) = rendered.rfind(TAG.trim_end()).filter(|_| rendered.contains(&wanted)) else {
            let problem = "it leaves out the last message's text, which was to be continued";
            return Err(Error::Template(problem.into()));
        };
        // Where the template trims texts, the tag kept the space before it.
        let trims = !rendered[end..].starts_with(TAG);
        rendered.truncate(end);
        rendered.truncate(if trims { rendered.trim_end().len() } else { end });
        Ok(rendered)
    }

    /// What the template does about tools.
    pub fn tool_use(&self) -> ToolUse {
        ToolUse::of(self)
    }

    pub(super) fn source_for_tools(&self) -> &str {
        self.tool_source.as_ref().unwrap_or(&self.source)
    }

    /// As [`ChatTemplate::encode_with`], for a conversation with tools, or with calls of tools in it, whether or not the
    /// template knows of them.
    #[cold]
    pub fn encode_tools(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
        tools: Option<&Value>,
        arguments: &Arguments,
        continued: bool,
    ) -> Result<Vec<u32>> {
        check(arguments)?;
        let (messages, tools, arguments) = self.tool_use().prepare(messages, tools, arguments)?;
        self.encode_with(tokenizer, &messages, tools.as_ref(), &arguments, continued)
    }

    /// Whether the model's answers may begin with thoughts.
    pub fn knows_thoughts(&self) -> bool {
        self.source.contains("<think>")
    }

    fn source(&self, tools: &Value) -> &str {
        self.tool_source.as_ref().filter(|_| !tools.is_null()).unwrap_or(&self.source)
    }

    fn run(&self, messages: &Value, tools: &Value, arguments: &Value, add_generation_prompt: bool) -> Result<String> {
        use minijinja::Value as V;
        let mut context = vec![
            ("messages", jinja::value_of(messages)),
            ("tools", jinja::value_of(tools)),
            ("documents", V::from(())),
            ("add_generation_prompt", V::from(add_generation_prompt)),
        ];
        context.extend(self.names.iter().map(|(key, name)| (*key, V::from(name.as_str()))));
        if let Some(now) = self.now {
            context.push(("strftime_now", V::from_function(move |format: String| jinja::strftime(now, &format))));
        }
        let own = arguments.as_object().into_iter().flatten();
        context.extend(own.map(|(key, value)| (key.as_str(), jinja::value_of(value))));
        let template = self.env.template_from_str(self.source(tools)).map_err(explain)?;
        template.render(V::from_pairs(context)).map_err(explain)
    }

    /// Messages as templates expect them: text parts joined where the template wants a string, the arguments of tool
    /// calls as objects (OpenAI has them as JSON text).
    fn prepare(&self, messages: &[Message]) -> Result<Value> {
        let listed = messages.iter().any(|m| m.content.is_array());
        let keep_lists = listed && self.reads_lists();
        let mut prepared = Vec::with_capacity(messages.len());
        for (i, message) in messages.iter().enumerate() {
            let mut map = serde_json::Map::new();
            map.insert("role".into(), message.role.as_str().into());
            // As `transformers` has it: what is null is left out, for templates would print "None".
            if !message.content.is_null() {
                map.insert("content".into(), content(&message.content, i, keep_lists)?);
            }
            for (key, value) in message.rest.iter().filter(|(_, value)| !value.is_null()) {
                let mut value = value.clone();
                if key == "tool_calls" {
                    value.as_array_mut().into_iter().flatten().for_each(parse_arguments);
                }
                map.insert(key.clone(), value);
            }
            prepared.push(Value::Object(map));
        }
        Ok(Value::Array(prepared))
    }

    /// Whether the template takes content in parts: asked by giving it some.
    fn reads_lists(&self) -> bool {
        let probe = serde_json::json!([{ "role": "user", "content": [{ "type": "text", "text": "kinglet" }] }]);
        self.run(&probe, &Value::Null, &Value::Null, false)
            .is_ok_and(|text| text.contains("kinglet") && !text.contains("'kinglet'"))
    }
}

/// Errors: [`Error::BadRequest`] where an argument would replace what the template is given.
fn check(arguments: &Arguments) -> Result<()> {
    const GIVEN: [&str; 7] =
        ["messages", "tools", "add_generation_prompt", "strftime_now", "bos_token", "eos_token", "unk_token"];
    match GIVEN.iter().find(|name| arguments.contains_key(**name)) {
        Some(name) => Err(Error::BadRequest(format!("chat_template_kwargs: {name} is not the request's to set"))),
        None => Ok(()),
    }
}

/// Text, or parts of text: as they are with `keep_lists`, else joined by newlines.
fn content(content: &Value, message: usize, keep_lists: bool) -> Result<Value> {
    let wrong = |found: &str| {
        Error::BadRequest(format!("messages[{message}].content has {found}; it must be a string or text parts"))
    };
    match content {
        Value::String(_) => Ok(content.clone()),
        Value::Array(parts) => {
            let mut texts = Vec::with_capacity(parts.len());
            for part in parts {
                match (part["type"].as_str(), part["text"].as_str()) {
                    (Some("text"), Some(text)) => texts.push(text),
                    (Some("text") | None, _) => return Err(wrong("a part without text")),
                    (Some(other), _) => return Err(wrong(&format!("a part of type \"{other}\""))),
                }
            }
            Ok(if keep_lists { content.clone() } else { texts.join("\n").into() })
        }
        _ => Err(wrong("another type")),
    }
}

pub(super) fn parse_arguments(call: &mut Value) {
    let Some(arguments) = call.pointer_mut("/function/arguments") else { return };
    if let Some(Ok(object)) = arguments.as_str().map(serde_json::from_str::<serde_json::Map<_, _>>) {
        *arguments = Value::Object(object);
    }
}

/// What the template says, or where it is wrong.
fn explain(error: minijinja::Error) -> Error {
    use minijinja::ErrorKind;
    let what = match (error.kind(), error.detail()) {
        (ErrorKind::OutOfFuel, _) => "it takes too long or makes too much text".to_string(),
        (ErrorKind::InvalidOperation, Some(detail)) => detail.to_string(),
        (kind, Some(detail)) => format!("{kind}: {detail}"),
        (kind, None) => kind.to_string(),
    };
    let line = error.line().map(|line| format!(" (line {line} of the template)")).unwrap_or_default();
    Error::Template(what + &line)
}
