//! The key-value pairs of a header, with typed access.

use crate::{Error, Result};

/// A metadata value; arrays are kept flat so that a vocabulary of 262,144 strings stays small.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Bool(bool),
    Int(i64),
    /// Only for what does not fit [`Value::Int`].
    Uint(u64),
    Float(f64),
    String(String),
    Bools(Vec<bool>),
    Ints(Vec<i64>),
    Floats(Vec<f32>),
    Strings(StringArray),
}

impl Value {
    fn kind(&self) -> &'static str {
        match self {
            Value::Bool(_) => "a boolean",
            Value::Int(_) | Value::Uint(_) => "an integer",
            Value::Float(_) => "a number",
            Value::String(_) => "a string",
            Value::Bools(_) => "an array of booleans",
            Value::Ints(_) => "an array of integers",
            Value::Floats(_) => "an array of numbers",
            Value::Strings(_) => "an array of strings",
        }
    }
}

/// Many strings in one buffer. GGUF strings are bytes; invalid UTF-8 is kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StringArray {
    pub(super) bytes: Vec<u8>,
    /// End of each string in `bytes`.
    pub(super) ends: Vec<u32>,
}

impl StringArray {
    pub fn push(&mut self, s: &[u8]) {
        self.bytes.extend_from_slice(s);
        self.ends.push(self.bytes.len() as u32);
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub fn get(&self, i: usize) -> Option<&[u8]> {
        let end = *self.ends.get(i)? as usize;
        let start = if i == 0 { 0 } else { self.ends[i - 1] as usize };
        Some(&self.bytes[start..end])
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> + '_ {
        (0..self.len()).map(|i| self.get(i).expect("in range"))
    }
}

/// Key-value pairs of the header, with typed access: `None` where the key is absent, [`Error::Metadata`] where the value
/// has another type or does not fit.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    entries: Vec<(String, Value)>,
}

impl Metadata {
    pub fn new(entries: Vec<(String, Value)>) -> Self {
        Self { entries }
    }

    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries.iter().find(|(k, _)| k == key).map(|(_, v)| v)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(k, v)| (k.as_str(), v))
    }

    /// Removes and returns a value: the vocabulary's arrays are taken once and not kept.
    pub fn take(&mut self, key: &str) -> Option<Value> {
        let i = self.entries.iter().position(|(k, _)| k == key)?;
        Some(self.entries.swap_remove(i).1)
    }

    pub fn string(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "a string", |value| match value {
            Value::String(s) => Some(s.as_str()),
            _ => None,
        })
    }

    pub fn bool(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "a boolean", |value| match value {
            Value::Bool(b) => Some(*b),
            _ => None,
        })
    }

    pub fn u32(&self, key: &str) -> Result<Option<u32>> {
        let wide = self.typed(key, "an integer", |value| match value {
            Value::Int(i) => Some(i128::from(*i)),
            Value::Uint(u) => Some(i128::from(*u)),
            _ => None,
        })?;
        let narrow =
            |wide| u32::try_from(wide).map_err(|_| wrong(key, format!("is {wide}, expected 0 to {}", u32::MAX)));
        wide.map(narrow).transpose()
    }

    pub fn usize(&self, key: &str) -> Result<Option<usize>> {
        Ok(self.u32(key)?.map(|v| v as usize))
    }

    pub fn f32(&self, key: &str) -> Result<Option<f32>> {
        self.typed(key, "a number", |value| match value {
            Value::Float(f) => Some(*f as f32),
            Value::Int(i) => Some(*i as f32),
            Value::Uint(u) => Some(*u as f32),
            _ => None,
        })
    }

    pub fn strings(&self, key: &str) -> Result<Option<&StringArray>> {
        self.typed(key, "an array of strings", |value| match value {
            Value::Strings(strings) => Some(strings),
            _ => None,
        })
    }

    pub fn ints(&self, key: &str) -> Result<Option<&[i64]>> {
        self.typed(key, "an array of integers", |value| match value {
            Value::Ints(ints) => Some(ints.as_slice()),
            _ => None,
        })
    }

    pub fn floats(&self, key: &str) -> Result<Option<&[f32]>> {
        self.typed(key, "an array of numbers", |value| match value {
            Value::Floats(floats) => Some(floats.as_slice()),
            _ => None,
        })
    }

    fn typed<'a, T>(&'a self, key: &str, expected: &str, read: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let read = read(value).ok_or_else(|| wrong(key, format!("is {}, expected {expected}", value.kind())))?;
        Ok(Some(read))
    }
}

fn wrong(key: &str, problem: String) -> Error {
    Error::Metadata { key: key.into(), problem }
}
