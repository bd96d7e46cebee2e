//! Keeps message texts from becoming control tokens, whatever a template does with them.
//!
//! Wherever a message has the text of a control token, or may have its beginning at the end, a mark goes behind the
//! first character: a private-use character that stands nowhere else. The template renders the marks along with the
//! text (trimmed, split, searched, moved); afterwards they are taken out again, and where they stood are seams that no
//! control token may span. Tokens that begin in the template's own text stay what they are.

use super::Tokenizer;
use serde_json::Value;

/// Marks all strings of `values`; `None` if there is nothing to mark. `template`: where the mark may not stand either.
pub(super) fn mark(tokenizer: &Tokenizer, template: &str, values: &mut [&mut Value]) -> Option<char> {
    if !values.iter().any(|v| any_string(v, &mut |s| !tokenizer.control_starts(s).is_empty())) {
        return None;
    }
    let is_free = |c: &char| !template.contains(*c) && !values.iter().any(|v| any_string(v, &mut |s| s.contains(*c)));
    let mark = ('\u{F0000}'..='\u{FFFFD}').find(is_free)?;
    values.iter_mut().for_each(|v| mark_strings(v, tokenizer, mark));
    Some(mark)
}

/// Takes the marks out of `text`; returns where they stood, in bytes of the new text.
pub(super) fn unmark(text: &str, mark: char) -> (String, Vec<usize>) {
    let mut out = String::with_capacity(text.len());
    let mut seams = Vec::new();
    let mut pieces = text.split(mark);
    out.extend(pieces.next());
    for piece in pieces {
        seams.push(out.len());
        out.push_str(piece);
    }
    (out, seams)
}

fn any_string(value: &Value, wanted: &mut impl FnMut(&str) -> bool) -> bool {
    match value {
        Value::String(s) => wanted(s),
        Value::Array(items) => items.iter().any(|v| any_string(v, wanted)),
        Value::Object(map) => map.iter().any(|(k, v)| wanted(k) || any_string(v, wanted)),
        _ => false,
    }
}

fn mark_strings(value: &mut Value, tokenizer: &Tokenizer, mark: char) {
    match value {
        Value::String(s) => *s = marked(s, tokenizer, mark),
        Value::Array(items) => items.iter_mut().for_each(|v| mark_strings(v, tokenizer, mark)),
        Value::Object(map) => {
            map.values_mut().for_each(|v| mark_strings(v, tokenizer, mark));
            if map.keys().any(|k| !tokenizer.control_starts(k).is_empty()) {
                *map = std::mem::take(map).into_iter().map(|(k, v)| (marked(&k, tokenizer, mark), v)).collect();
            }
        }
        _ => {}
    }
}

fn marked(s: &str, tokenizer: &Tokenizer, mark: char) -> String {
    let mut out = String::with_capacity(s.len() + 16);
    let mut from = 0;
    for start in tokenizer.control_starts(s) {
        let end = start + s[start..].chars().next().map_or(0, char::len_utf8);
        out.push_str(&s[from..end]);
        out.push(mark);
        from = end;
    }
    out.push_str(&s[from..]);
    out
}
