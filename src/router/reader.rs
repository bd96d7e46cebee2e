//! One response of the cloud, from its status to its end: text as it comes, and how it ended. Whatever the server sends
//! (a stream, one JSON object, a web page), and however its bytes are cut.

use super::fault::Fault;
use super::json;
use super::openai::{self, Chunk, Finish, Parsed, ToolCall};
use super::record::Tokens;
use super::sse::{EventStream, Message};
use std::sync::Arc;

/// Bytes of one response.
const LARGEST_ANSWER: usize = 32 << 20;
/// Events that are not JSON; one more is a fault.
const FORGIVEN: u32 = 1;

#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    Text(String),
    /// The model works, but says nothing to show: reasoning, pieces of a tool call, the finish.
    Progress,
    /// The answer is whole; nothing follows.
    Done,
    /// Nothing follows.
    Fault(Fault),
}

enum Body {
    /// Nothing yet but white space.
    Unknown(Vec<u8>),
    Events(EventStream),
    Whole(Vec<u8>),
}

pub struct Reader {
    body: Body,
    says_events: bool,
    bytes: usize,
    events: u32,
    malformed: u32,
    has_text: bool,
    over: bool,
    ids: Ids,
    pub finish: Option<Finish>,
    pub usage: Option<Tokens>,
    pub reasoning: String,
    pub tool_calls: Vec<ToolCall>,
}

impl Reader {
    /// Errors: the status or type of the response is a fault already.
    pub fn new(status: u16, content_type: Option<&str>) -> Result<Self, Fault> {
        if !(200..300).contains(&status) {
            return Err(Fault::Http(status));
        }
        let kind = content_type.unwrap_or_default().to_ascii_lowercase();
        if kind.starts_with("text/html") {
            return Err(Fault::Html);
        }
        Ok(Self {
            body: Body::Unknown(Vec::new()),
            says_events: kind.starts_with("text/event-stream"),
            bytes: 0,
            events: 0,
            malformed: 0,
            has_text: false,
            over: false,
            ids: Ids::default(),
            finish: None,
            usage: None,
            reasoning: String::new(),
            tool_calls: Vec::new(),
        })
    }

    /// Whether something that would be shown has come.
    pub fn has_text(&self) -> bool {
        self.has_text
    }

    pub fn push(&mut self, bytes: &[u8]) -> Vec<Item> {
        let mut items = Vec::new();
        if self.over {
            return items;
        }
        self.bytes += bytes.len();
        if self.bytes > LARGEST_ANSWER {
            self.fail(Fault::TooLarge, &mut items);
            return items;
        }
        match &mut self.body {
            Body::Unknown(start) => {
                start.extend_from_slice(bytes);
                let start = std::mem::take(start);
                self.body = sniff(&start);
                match &mut self.body {
                    Body::Unknown(kept) => *kept = start,
                    Body::Events(_) => self.events(&start, &mut items),
                    Body::Whole(whole) => *whole = start,
                }
                if let Body::Whole(whole) = &self.body
                    && first(whole) == Some(b'<')
                {
                    self.fail(Fault::Html, &mut items);
                }
            }
            Body::Events(_) => self.events(bytes, &mut items),
            Body::Whole(whole) => whole.extend_from_slice(bytes),
        }
        items
    }

    /// The body has ended, cleanly or not (`cut`): always ends with `Done` or a fault, unless that came before.
    pub fn end(&mut self, cut: bool) -> Vec<Item> {
        let mut items = Vec::new();
        if self.over {
            return items;
        }
        if !cut {
            match &mut self.body {
                Body::Unknown(_) => {}
                Body::Events(stream) => {
                    // What is not JSON here was cut within the event.
                    let whole = |m: &Message| m.data.trim() == "[DONE]" || openai::parse(&m.data) != Parsed::Malformed;
                    if let Some(message) = stream.finish().filter(whole) {
                        self.message(message, &mut items);
                    }
                }
                Body::Whole(whole) => {
                    let whole = String::from_utf8_lossy(whole).into_owned();
                    self.whole(whole.trim_start_matches('\u{feff}'), &mut items);
                }
            }
        }
        if !self.over {
            match self.finish {
                Some(_) => self.done(&mut items),
                None if self.events == 0 && !cut && self.bytes > 0 && !self.says_events => {
                    self.fail(Fault::NotAnAnswer, &mut items);
                }
                None => self.fail(Fault::Cut, &mut items),
            }
        }
        items
    }

    fn events(&mut self, bytes: &[u8], items: &mut Vec<Item>) {
        let Body::Events(stream) = &mut self.body else { return };
        for message in stream.push(bytes) {
            match message {
                Ok(message) => self.message(message, items),
                Err(_) => self.fail(Fault::TooLarge, items),
            }
        }
    }

    fn message(&mut self, message: Message, items: &mut Vec<Item>) {
        if self.over || self.ids.is_repeated(&message) {
            return;
        }
        self.events += 1;
        let data = message.data.trim();
        if message.name == "error" {
            let value = json::parse(data).unwrap_or_default();
            let error = value.get("error").unwrap_or(&value);
            return self.fail(openai::error_code(error), items);
        }
        if data == "[DONE]" {
            // Servers that never say why they stop have at least said that they did.
            let inferred = if self.tool_calls.is_empty() { Finish::Stop } else { Finish::ToolCalls };
            self.finish.get_or_insert(inferred);
            return self.done(items);
        }
        match openai::parse(data) {
            _ if data.is_empty() => {}
            Parsed::Chunk(chunk) => self.chunk(chunk, items),
            Parsed::Error(fault) => self.fail(fault, items),
            Parsed::Malformed => {
                self.malformed += 1;
                if self.malformed > FORGIVEN {
                    self.fail(Fault::Malformed, items);
                }
            }
        }
    }

    fn chunk(&mut self, chunk: Chunk, items: &mut Vec<Item>) {
        if chunk.usage.is_some() {
            self.usage = chunk.usage;
        }
        // After its finish an answer has no more text.
        if self.finish.is_some() {
            return;
        }
        if chunk.has_content() {
            items.push(Item::Progress);
        }
        self.reasoning += &chunk.reasoning;
        for piece in chunk.tool_calls {
            match self.tool_calls.iter_mut().find(|call| call.index == piece.index) {
                Some(call) => {
                    call.name += &piece.name;
                    call.arguments += &piece.arguments;
                }
                None => self.tool_calls.push(piece),
            }
        }
        if !chunk.text.is_empty() {
            self.has_text = true;
            items.push(Item::Text(chunk.text));
        }
        match chunk.finish {
            Some(Ok(finish)) => self.finish = Some(finish),
            Some(Err(fault)) => self.fail(fault, items),
            None => {}
        }
    }

    fn whole(&mut self, body: &str, items: &mut Vec<Item>) {
        match openai::parse(body) {
            Parsed::Chunk(chunk) => {
                self.chunk(chunk, items);
                if !self.over {
                    self.finish.get_or_insert(Finish::Stop);
                    self.done(items);
                }
            }
            Parsed::Error(fault) => self.fail(fault, items),
            Parsed::Malformed => {
                // The beginning of an object, or something else altogether.
                let cut = json::parse(body).is_err_and(|malformed| malformed.cut);
                self.fail(if cut { Fault::Cut } else { Fault::NotAnAnswer }, items);
            }
        }
    }

    fn done(&mut self, items: &mut Vec<Item>) {
        if !self.has_text && self.tool_calls.is_empty() {
            return self.fail(Fault::Empty, items);
        }
        self.over = true;
        items.push(Item::Done);
    }

    fn fail(&mut self, fault: Fault, items: &mut Vec<Item>) {
        if !self.over {
            self.over = true;
            items.push(Item::Fault(fault));
        }
    }
}

/// The first byte that is neither white space nor part of a byte order mark.
fn first(bytes: &[u8]) -> Option<u8> {
    bytes.iter().copied().find(|byte| !byte.is_ascii_whitespace() && !b"\xef\xbb\xbf".contains(byte))
}

/// No event begins with `{`, `[` or `<`, whatever the content type says.
fn sniff(start: &[u8]) -> Body {
    match first(start) {
        None => Body::Unknown(Vec::new()),
        Some(b'{' | b'[' | b'<') => Body::Whole(Vec::new()),
        Some(_) => Body::Events(EventStream::default()),
    }
}

/// Tells events that a proxy delivered twice, where the stream numbers its events.
#[derive(Default)]
struct Ids {
    last: Option<(Option<Arc<str>>, String)>,
    distinct: u32,
    /// One id stands on events that differ: it numbers nothing.
    shared: bool,
}

impl Ids {
    fn is_repeated(&mut self, message: &Message) -> bool {
        let same_id = self.last.as_ref().is_some_and(|(id, _)| *id == message.id);
        let same_data = self.last.as_ref().is_some_and(|(_, data)| *data == message.data);
        if message.id.is_some() {
            self.shared |= same_id && !same_data;
            self.distinct += u32::from(!same_id);
        }
        let repeated = message.id.is_some() && same_id && same_data && !self.shared && self.distinct > 1;
        if !repeated {
            self.last = Some((message.id.clone(), message.data.clone()));
        }
        repeated
    }
}
