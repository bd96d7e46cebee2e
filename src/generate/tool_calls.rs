//! Calls of tools in an answer, told from its text while it is written.

use crate::text::ToolFormat;
use serde::Serialize;

/// A piece of a call. The first one of a call has its name; the pieces of the arguments together are JSON.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CallPiece {
    /// Which call of the answer.
    pub index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub arguments: String,
}

/// A piece of an answer, sorted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sorted {
    pub text: String,
    pub calls: Vec<CallPiece>,
}

/// Whether a token stands for one of the marks around calls.
pub fn is_marker(token: &[u8]) -> bool {
    let formats = [ToolFormat::Tagged, ToolFormat::Phi, ToolFormat::Mistral];
    formats
        .iter()
        .any(|format| [format.open(), format.close()].into_iter().flatten().any(|mark| mark.as_bytes() == token))
}

/// Text goes in piece by piece and comes out sorted, wherever the pieces are cut.
#[derive(Clone, Debug)]
pub struct ToolCalls {
    format: ToolFormat,
    state: State,
    held: String,
    /// Calls whose name is known.
    calls: usize,
    /// Nothing but white space has come so far.
    at_start: bool,
}

#[derive(Clone, Debug)]
enum State {
    Text,
    /// Behind a mark, or between two calls.
    Between,
    Call(Object),
}

impl ToolCalls {
    pub fn new(format: ToolFormat) -> Self {
        Self { format, state: State::Text, held: String::new(), calls: 0, at_start: true }
    }

    /// Whether there was a call.
    pub fn any(&self) -> bool {
        self.calls > 0
    }

    pub fn push(&mut self, piece: &str) -> Sorted {
        let mut sorted = Sorted::default();
        self.held.push_str(piece);
        while self.sort(&mut sorted) {}
        sorted
    }

    /// What was held back, when nothing follows any more.
    pub fn finish(&mut self) -> Sorted {
        let mut sorted = Sorted::default();
        let held = std::mem::take(&mut self.held);
        match &mut self.state {
            State::Text => sorted.text = held,
            State::Between => {}
            // What never became a call is text.
            State::Call(object) if !object.named => sorted.text = std::mem::take(&mut object.raw),
            State::Call(_) => {}
        }
        sorted
    }

    /// Sorts some of the held text; `false`: no more without another piece.
    #[cold]
    fn sort(&mut self, sorted: &mut Sorted) -> bool {
        match &mut self.state {
            State::Text => self.sort_text(sorted),
            State::Between => {
                self.held = self.held.trim_start_matches(|c: char| c.is_whitespace() || "[],;".contains(c)).to_string();
                if self.held.starts_with('{') {
                    self.state = State::Call(Object::new(self.format.arguments()));
                    return true;
                }
                let marks = [self.format.open(), self.format.close()];
                for mark in marks.into_iter().flatten() {
                    if let Some(rest) = self.held.strip_prefix(mark) {
                        self.held = rest.to_string();
                        return true;
                    }
                }
                if self.held.is_empty() || marks.into_iter().flatten().any(|mark| mark.starts_with(&self.held)) {
                    return false;
                }
                self.state = State::Text;
                true
            }
            State::Call(object) => {
                let index = self.calls - usize::from(object.named);
                let (taken, done) = object.read(&self.held, index, &mut sorted.calls, &mut self.calls);
                self.held.drain(..taken);
                if done {
                    if !object.named {
                        sorted.text.push_str(&object.raw);
                    }
                    self.state = State::Between;
                }
                done
            }
        }
    }

    #[cold]
    fn sort_text(&mut self, sorted: &mut Sorted) -> bool {
        let Some(mark) = self.format.open() else {
            // Without a mark only an answer that begins with a brace is a call.
            if self.at_start && self.held.trim_start().is_empty() {
                return false;
            }
            if self.at_start && self.held.trim_start().starts_with('{') {
                self.at_start = false;
                self.state = State::Between;
                return true;
            }
            self.at_start = false;
            sorted.text.push_str(&std::mem::take(&mut self.held));
            return false;
        };
        if let Some(at) = self.held.find(mark) {
            // The white space before a call is the call's.
            sorted.text.push_str(self.held[..at].trim_end());
            self.held.drain(..at + mark.len());
            self.state = State::Between;
            return true;
        }
        let begun = (1..mark.len()).rev().find(|&n| self.held.ends_with(&mark[..n])).unwrap_or(0);
        let sure = self.held[..self.held.len() - begun].trim_end().len();
        sorted.text.extend(self.held.drain(..sure));
        false
    }
}

/// One object on its way: its name, and its arguments as they are written.
#[derive(Clone, Debug)]
struct Object {
    arguments_key: &'static str,
    /// All of it so far, until the name is known.
    raw: String,
    named: bool,
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// The string that is read, at the object's own level.
    string: String,
    key: Option<String>,
    /// Arguments that came before the name.
    early: String,
    has_arguments: bool,
}

impl Object {
    fn new(arguments_key: &'static str) -> Self {
        Self {
            arguments_key,
            raw: String::new(),
            named: false,
            depth: 0,
            in_string: false,
            escaped: false,
            string: String::new(),
            key: None,
            early: String::new(),
            has_arguments: false,
        }
    }

    /// Bytes read, and whether the object is complete.
    #[cold]
    fn read(&mut self, text: &str, index: usize, pieces: &mut Vec<CallPiece>, calls: &mut usize) -> (usize, bool) {
        let mut arguments = String::new();
        let mut done = None;
        for (at, c) in text.char_indices() {
            if !self.named {
                self.raw.push(c);
            }
            let is_value = self.key.is_some();
            let in_arguments = self.key.as_deref() == Some(self.arguments_key);
            let was_string = self.in_string;
            if self.in_string {
                self.in_string = self.escaped || c != '"';
                self.escaped = !self.escaped && c == '\\';
                if self.depth == 1 {
                    self.string.push(c);
                }
            } else {
                match c {
                    '"' => {
                        self.in_string = true;
                        self.string = "\"".into();
                    }
                    '{' | '[' => self.depth += 1,
                    '}' | ']' => self.depth = self.depth.saturating_sub(1),
                    _ => {}
                }
            }
            let ended_string = was_string && !self.in_string && self.depth == 1;
            if self.depth == 0 {
                done = Some(at + c.len_utf8());
            } else if in_arguments {
                // White space around the value is not the value's.
                let outside = self.depth == 1 && !was_string && !self.in_string && (c == ',' || c.is_whitespace());
                arguments.extend((!outside).then_some(c));
            }
            if self.depth == 1 && !self.in_string {
                if ended_string && is_value && self.key.as_deref() == Some("name") && !self.named {
                    self.named = true;
                    let name = unquoted(&self.string);
                    *calls += 1;
                    pieces.push(CallPiece { index, name: Some(name), arguments: std::mem::take(&mut self.early) });
                } else if c == ':' && !was_string && self.key.is_none() {
                    self.key = Some(unquoted(&self.string));
                } else if c == ',' && !was_string {
                    self.key = None;
                }
            }
            if done.is_some() {
                break;
            }
        }
        self.has_arguments |= !arguments.is_empty();
        if done.is_some() && !self.has_arguments {
            arguments.push_str("{}");
        }
        if !self.named {
            self.early.push_str(&arguments);
        } else if !arguments.is_empty() {
            match pieces.last_mut().filter(|piece| piece.index == index) {
                Some(piece) => piece.arguments.push_str(&arguments),
                None => pieces.push(CallPiece { index, name: None, arguments }),
            }
        }
        (done.unwrap_or(text.len()), done.is_some())
    }
}

/// Names of tools and of what calls have need no escapes.
fn unquoted(string: &str) -> String {
    string.trim_matches('"').into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sort(format: ToolFormat, pieces: &[&str]) -> (String, Vec<(String, String)>) {
        let mut sorter = ToolCalls::new(format);
        let mut text = String::new();
        let mut calls: Vec<(String, String)> = Vec::new();
        let mut add = |sorted: Sorted| {
            text += &sorted.text;
            for CallPiece { index, name, arguments } in sorted.calls {
                if let Some(name) = name {
                    assert_eq!(index, calls.len());
                    calls.push((name, String::new()));
                }
                calls[index].1 += &arguments;
            }
        };
        pieces.iter().for_each(|piece| add(sorter.push(piece)));
        add(sorter.finish());
        assert_eq!(sorter.any(), !calls.is_empty());
        (text, calls)
    }

    #[test]
    fn the_same_at_every_split() {
        use ToolFormat::*;
        let nested = r#"{"city": "Zürich \" }", "n": [1, {"a": 2}]}"#;
        let cases = [
            (Tagged, format!("Let me see.\n<tool_call>\n{{\"name\": \"weather\", \"arguments\": {nested}}}\n</tool_call>"), "Let me see.", vec![("weather", nested)]),
            (Tagged, "<tool_call>{\"arguments\": {\"name\": 1} , \"name\": \"ab\"}</tool_call>\n<tool_call>\n{\"name\":\"c\"}</tool_call> and so".into(), "and so", vec![("ab", "{\"name\": 1}"), ("c", "{}")]),
            (Phi, "<|tool_call|>[{\"name\":\"a\",\"arguments\":{}}, {\"name\": \"b\", \"arguments\": {\"x\": []}}]<|/tool_call|>".into(), "", vec![("a", "{}"), ("b", "{\"x\": []}")]),
            (Mistral, "[TOOL_CALLS] [{\"name\": \"a\", \"arguments\": {\"s\": \"]\"}}]".into(), "", vec![("a", "{\"s\": \"]\"}")]),
            (Llama, " {\"name\": \"a\", \"parameters\": {\"q\": \"1; 2\"}}; {\"name\": \"b\", \"parameters\": {}}".into(), "", vec![("a", "{\"q\": \"1; 2\"}"), ("b", "{}")]),
            (Llama, "No {\"name\": \"a\"} here".into(), "No {\"name\": \"a\"} here", vec![]),
            (Tagged, "a <tool_cal and <b> {\"name\": 1}\n".into(), "a <tool_cal and <b> {\"name\": 1}\n", vec![]),
            (Tagged, "<tool_call>{\"title\": \"x\"}</tool_call>".into(), "{\"title\": \"x\"}", vec![]),
            (Tagged, "<tool_call>{\"name\": \"cut\", \"arguments\": {\"a\": tr".into(), "", vec![("cut", "{\"a\": tr")]),
            (Tagged, "".into(), "", vec![]),
        ];
        for (format, text, shown, calls) in cases {
            let calls = calls.into_iter().map(|(name, arguments)| (name.to_string(), arguments.to_string())).collect();
            let expected = (shown.to_string(), calls);
            let borders: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
            for &a in &borders {
                for &b in borders.iter().filter(|&&b| b >= a) {
                    assert_eq!(sort(format, &[&text[..a], &text[a..b], &text[b..]]), expected, "{text:?} at {a}, {b}");
                }
            }
            let single: Vec<&str> = borders.windows(2).map(|w| &text[w[0]..w[1]]).collect();
            assert_eq!(sort(format, &single), expected, "{text:?}");
        }
    }

    /// Nothing is held longer than it is in doubt.
    #[test]
    fn streams() {
        let mut calls = ToolCalls::new(ToolFormat::Tagged);
        assert_eq!(calls.push("Yes: <tool").text, "Yes:");
        assert_eq!(
            calls.push("_call>\n{\"name\": \"f\""),
            Sorted {
                text: String::new(),
                calls: vec![CallPiece { index: 0, name: Some("f".into()), arguments: String::new() }]
            }
        );
        assert_eq!(
            calls.push(", \"arguments\": {\"a").calls,
            [CallPiece { index: 0, name: None, arguments: "{\"a".into() }]
        );
        assert_eq!(calls.push("\": 1}").calls, [CallPiece { index: 0, name: None, arguments: "\": 1}".into() }]);
        assert_eq!(calls.push("}</tool_call>"), Sorted::default());
    }
}
