//! GGUF v2 and v3: the header through a [`ByteSource`] without reading the file whole.

use super::Format;
use crate::Result;
use crate::source::ByteSource;

/// What a header says: metadata and where each tensor lies. Several files (`-00001-of-00003.gguf`) make one checkpoint.
pub struct Checkpoint {
    pub metadata: Metadata,
    /// In file order: by shard, then by offset.
    pub tensors: Vec<TensorInfo>,
    /// Bytes of all files.
    pub file_bytes: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    pub name: String,
    /// `[rows, columns]` for a matrix, `[columns]` for a vector; columns are contiguous (GGUF stores the reverse).
    pub shape: Vec<usize>,
    pub format: Format,
    /// Which file.
    pub shard: usize,
    /// Absolute, in its file.
    pub offset: u64,
    pub bytes: u64,
}

impl Checkpoint {
    /// Reads and checks the headers of all shards (usually one).
    pub async fn open<S: ByteSource>(_shards: &mut [S]) -> Result<Checkpoint> {
        todo!()
    }

    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.iter().find(|t| t.name == name)
    }
}

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

/// Many strings in one buffer. GGUF strings are bytes; invalid UTF-8 is kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StringArray {
    bytes: Vec<u8>,
    /// End of each string in `bytes`.
    ends: Vec<u32>,
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

/// Key-value pairs of the header, with typed access; a wrong type is [`Error::Metadata`](crate::Error::Metadata).
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

    pub fn string(&self, _key: &str) -> Result<Option<&str>> {
        todo!()
    }

    pub fn bool(&self, _key: &str) -> Result<Option<bool>> {
        todo!()
    }

    pub fn u32(&self, _key: &str) -> Result<Option<u32>> {
        todo!()
    }

    pub fn usize(&self, key: &str) -> Result<Option<usize>> {
        Ok(self.u32(key)?.map(|v| v as usize))
    }

    pub fn f32(&self, _key: &str) -> Result<Option<f32>> {
        todo!()
    }

    pub fn strings(&self, _key: &str) -> Result<Option<&StringArray>> {
        todo!()
    }

    pub fn ints(&self, _key: &str) -> Result<Option<&[i64]>> {
        todo!()
    }

    pub fn floats(&self, _key: &str) -> Result<Option<&[f32]>> {
        todo!()
    }
}

/// The names of all shards when `name` is one of them (`x-00001-of-00003.gguf`), else `None`.
pub fn shard_names(_name: &str) -> Option<Vec<String>> {
    todo!()
}
