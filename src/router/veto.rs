//! What is wrong with a local answer whatever its confidence.

use super::json::{self, Value};
use super::text::contains;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Veto {
    Empty,
    /// By length, where a whole answer was asked for.
    Cut,
    /// Ends by repeating itself.
    Loop,
    /// JSON was asked for.
    NotJson,
    Refusal,
    /// A name or an argument that the model was not sure of.
    WeakToolCall,
}

/// `cut`: the answer ended by its length; `format`: the request's `response_format`.
pub fn veto(text: &str, cut: bool, format: &Value) -> Option<Veto> {
    if text.trim().is_empty() {
        return Some(Veto::Empty);
    }
    if loops(text) {
        return Some(Veto::Loop);
    }
    if cut {
        return Some(Veto::Cut);
    }
    let asked = format["type"].as_str().unwrap_or_default();
    if matches!(asked, "json_object" | "json_schema") && !is_json(text, &format["json_schema"]["schema"]) {
        return Some(Veto::NotJson);
    }
    refuses(text).then_some(Veto::Refusal)
}

/// Whether the end says the same up to 24 words four times over (or, without words, up to 40 characters).
fn loops(text: &str) -> bool {
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.len() >= 12 {
        return repeats(&words, 24, 12);
    }
    let characters: Vec<char> = text.chars().filter(|c| !c.is_ascii_punctuation() && !c.is_whitespace()).collect();
    repeats(&characters, 40, 48)
}

/// Whether the last `least` items or more have a period: at least four times in all.
fn repeats<T: PartialEq>(items: &[T], longest: usize, least: usize) -> bool {
    (1..=longest.min(items.len() / 4)).any(|period| {
        let same = (period..items.len()).rev().take_while(|&i| items[i] == items[i - period]).count();
        same >= 3 * period && same + period >= least
    })
}

/// An object with what the schema requires at its top.
fn is_json(text: &str, schema: &Value) -> bool {
    let parsed = json::parse(text);
    let Ok(Value::Object(object)) = &parsed else {
        // A schema may ask for something else than an object.
        return schema["type"].as_str().is_some_and(|kind| kind != "object") && parsed.is_ok();
    };
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    required.into_iter().all(|key| object.get(key).is_some())
}

/// English, as small models put it.
fn refuses(text: &str) -> bool {
    let plain = |c: char| if c == '’' { '\'' } else { c.to_ascii_lowercase() };
    let start: String = text.trim_start().chars().take(120).map(plain).collect();
    let beginnings = [
        "i'm sorry, but i",
        "i am sorry, but i",
        "i'm sorry, i ",
        "i am sorry, i ",
        "i don't know.",
        "i do not know.",
        "sorry, but i can",
        "sorry, i can",
        "i cannot ",
        "i can't ",
        "i'm unable to ",
        "i am unable to ",
        "i'm not able to ",
        "i am not able to ",
        "as an ai",
        "as a language model",
    ];
    let means =
        ["can't", "cannot", "unable", "not able", "don't have", "do not have", "won't", "don't know", "do not know"];
    let eager = ["i cannot wait", "i can't wait"].iter().any(|words| start.starts_with(words));
    !eager
        && beginnings.iter().any(|words| start.starts_with(words))
        && means.iter().any(|words| contains(&start, words))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(json: &str) -> Value {
        json::parse(json).unwrap()
    }

    #[test]
    fn answers_that_are_none() {
        let none = Value::Null;
        assert_eq!(veto(" \n", false, &none), Some(Veto::Empty));
        assert_eq!(veto("It was a long", true, &none), Some(Veto::Cut));
        assert_eq!(veto(&format!("The cat sat. {}", "And then he said no. ".repeat(5)), true, &none), Some(Veto::Loop));
        assert_eq!(veto(&"很好".repeat(30), false, &none), Some(Veto::Loop));
        assert_eq!(veto("I’m sorry, but I can’t help with that.", false, &none), Some(Veto::Refusal));
        assert_eq!(veto("I am sorry, I do not know. I am best at stories.", false, &none), Some(Veto::Refusal));
        let object = format(r#"{ "type": "json_object" }"#);
        assert_eq!(veto("Sure! {\"a\": 1}", false, &object), Some(Veto::NotJson));
        let schema = format(r#"{ "type": "json_schema", "json_schema": { "schema": { "required": ["a", "b"] } } }"#);
        assert_eq!(veto("{\"a\": 1}", false, &schema), Some(Veto::NotJson));
        assert_eq!(veto("{\"a\": 1, \"b\": 2}", false, &schema), None);
        let array = format(r#"{ "type": "json_schema", "json_schema": { "schema": { "type": "array" } } }"#);
        assert_eq!(veto("[1]", false, &array), None);
    }

    #[test]
    fn honest_answers_pass() {
        for text in [
            "Paris.",
            "No, no, no, no!",
            "I am sorry, I was late because the bus broke down.",
            "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16",
            "I cannot wait to tell you: the answer is 42.",
            "Row, row, row your boat, gently down the stream, merrily, merrily, merrily, merrily, life is but a dream.",
            "================================================",
        ] {
            assert_eq!(veto(text, false, &Value::Null), None, "{text}");
        }
    }
}
