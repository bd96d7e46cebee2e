//! Placeholders for personal data, and the way back.

use super::super::{json, text};
use super::find::{self, Kind};
use serde::ser::{Serialize, SerializeMap, Serializer};

/// How many values of each kind were hidden; an object in JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redactions(Vec<(Kind, usize)>);

impl Redactions {
    fn add(&mut self, kind: Kind) {
        match self.0.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, n)) => *n += 1,
            None => self.0.push((kind, 1)),
        }
    }

    pub fn of(&self, kind: Kind) -> usize {
        self.0.iter().find(|(known, _)| *known == kind).map_or(0, |(_, n)| *n)
    }
}

impl Serialize for Redactions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (kind, n) in &self.0 {
            map.serialize_entry(kind.name(), n)?;
        }
        map.end()
    }
}

/// The values of one request and what stands for them: the same value always has the same placeholder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vault {
    /// (placeholder, value).
    entries: Vec<(String, String)>,
    counts: Redactions,
}

impl Vault {
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many values of each kind are hidden.
    pub fn counts(&self) -> &Redactions {
        &self.counts
    }

    /// `text` with what was `found` in it replaced. `taken` says whether a placeholder stands in the request already,
    /// as the user's own words.
    pub(super) fn redact(&mut self, text: &str, found: &[find::Found], taken: impl Fn(&str) -> bool) -> String {
        let (mut out, mut done) = (String::with_capacity(text.len()), 0);
        for (range, kind) in found {
            out += &text[done..range.start];
            out += self.placeholder(*kind, &text[range.clone()], &taken);
            done = range.end;
        }
        out + &text[done..]
    }

    fn placeholder(&mut self, kind: Kind, value: &str, taken: &impl Fn(&str) -> bool) -> &str {
        let at = self.entries.iter().position(|(_, known)| known == value).unwrap_or_else(|| {
            self.counts.add(kind);
            let label = kind.name().to_ascii_uppercase();
            let name = |n: u32| ["[", &label, "_", &json::to_text(&n), "]"].concat();
            let used = |name: &str| self.entries.iter().any(|(known, _)| known == name) || taken(name);
            let mut n = 1;
            while used(&name(n)) {
                n += 1;
            }
            self.entries.push((name(n), value.to_string()));
            self.entries.len() - 1
        });
        &self.entries[at].0
    }

    /// A whole text.
    pub fn restore(&self, text: &str) -> String {
        let mut restorer = Restorer::default();
        restorer.push(self, text) + &restorer.finish()
    }
}

/// Restores a text that comes in pieces; what may be the beginning of a placeholder waits.
#[derive(Clone, Debug, Default)]
pub struct Restorer {
    held: String,
}

impl Restorer {
    pub fn push(&mut self, vault: &Vault, text: &str) -> String {
        if vault.is_empty() {
            return text.to_string();
        }
        self.held += text;
        let held = std::mem::take(&mut self.held);
        let (mut out, mut rest) = (String::with_capacity(held.len()), held.as_str());
        while let Some(at) = text::find(rest, "[", 0) {
            out += &rest[..at];
            rest = &rest[at..];
            if let Some((placeholder, value)) = vault.entries.iter().find(|(name, _)| rest.starts_with(name.as_str())) {
                out += value;
                rest = &rest[placeholder.len()..];
            } else if vault.entries.iter().any(|(name, _)| name.starts_with(rest)) {
                self.held = rest.to_string();
                return out;
            } else {
                out.push('[');
                rest = &rest[1..];
            }
        }
        out + rest
    }

    /// What was held, when nothing follows any more.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}
