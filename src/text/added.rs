//! Tokens that are found in the text as a whole, before any splitting and merging: control tokens such as
//! `<|im_end|>`, and the user-defined ones.

use super::tokens::{Index, Kind, Tokens};
use crate::Result;
use std::ops::Range;

/// What an added token asks of its surroundings (`AddedToken` of Hugging Face's `tokenizers`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flags {
    /// Swallows the white space before it.
    pub lstrip: bool,
    /// Swallows the white space after it.
    pub rstrip: bool,
    /// Not inside of a word.
    pub single_word: bool,
}

pub(super) struct Added {
    pub index: Index,
    /// By first byte: the lengths of the tokens that begin so, longest first.
    lengths: Vec<Vec<usize>>,
    /// For ids with flags; sorted.
    flags: Vec<(u32, Flags)>,
    /// Tokens that steer the model, sorted by text.
    control: Vec<u32>,
}

impl Added {
    pub fn new(tokens: &Tokens, mut flags: Vec<(u32, Flags)>) -> Result<Added> {
        let ids = tokens.ids_of(Kind::is_added);
        let mut lengths = vec![Vec::new(); 256];
        for id in ids {
            let bytes = tokens.get(id);
            // What is not UTF-8 is in no text.
            if let (Some(&first), Ok(_)) = (bytes.first(), std::str::from_utf8(bytes)) {
                lengths[first as usize].push(bytes.len());
            }
        }
        for l in &mut lengths {
            l.sort_unstable_by(|a, b| b.cmp(a));
            l.dedup();
        }
        flags.sort_unstable_by_key(|(id, _)| *id);
        let mut control: Vec<u32> = tokens.ids_of(Kind::is_added).filter(|&id| steers(tokens, id)).collect();
        control.sort_unstable_by_key(|&id| tokens.get(id));
        Ok(Added { index: Index::new(tokens, Kind::is_added)?, lengths, flags, control })
    }

    /// The first of them in `text[from..]`, the longest at its place, for which `allowed(id, its place)`; its place
    /// includes the white space it swallows.
    pub fn next(
        &self,
        tokens: &Tokens,
        text: &str,
        from: usize,
        allowed: impl Fn(u32, Range<usize>) -> bool,
    ) -> Option<(u32, Range<usize>)> {
        let bytes = text.as_bytes();
        for start in from..bytes.len() {
            for &len in &self.lengths[bytes[start] as usize] {
                let Some(found) = bytes.get(start..start + len) else { continue };
                let Some(id) = self.index.find(tokens, found) else { continue };
                if !allowed(id, start..start + len) {
                    continue;
                }
                let flags =
                    self.flags.binary_search_by_key(&id, |(id, _)| *id).map_or(Flags::default(), |i| self.flags[i].1);
                let (before, after) = (&text[from..start], &text[start + len..]);
                if flags.single_word && (before.ends_with(is_word) || after.starts_with(is_word)) {
                    continue;
                }
                let begin = if flags.lstrip { from + before.trim_end().len() } else { start };
                let end = if flags.rstrip { text.len() - after.trim_start().len() } else { start + len };
                return Some((id, begin..end));
            }
        }
        None
    }

    /// Where a control token's text begins in `text`, or what may be its beginning at the end (space left aside).
    pub fn control_starts(&self, tokens: &Tokens, text: &str) -> Vec<usize> {
        let (bytes, end) = (text.as_bytes(), text.trim_end().len());
        let mut starts = Vec::new();
        for (at, &first) in bytes.iter().enumerate() {
            let lengths = &self.lengths[first as usize];
            let Some(&longest) = lengths.first() else { continue };
            let is_control = |found| self.index.find(tokens, found).is_some_and(|id| steers(tokens, id));
            let whole = lengths.iter().any(|len| bytes.get(at..at + len).is_some_and(is_control));
            let cut = at < end && at + longest > end && {
                let rest = &bytes[at..end];
                let i = self.control.partition_point(|&id| tokens.get(id) < rest);
                self.control.get(i).is_some_and(|&id| tokens.get(id).starts_with(rest))
            };
            if whole || cut {
                starts.push(at);
            }
        }
        starts
    }
}

/// Neither text nor user-defined.
fn steers(tokens: &Tokens, id: u32) -> bool {
    matches!(tokens.kind(id), Some(Kind::Control | Kind::Unknown))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}
