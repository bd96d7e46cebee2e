//! The header of a safetensors file: its length (u64), JSON that names each tensor with type, shape and place, then the
//! data. Read forward only, and hostile until checked.

use super::Format;
use super::reader::Reader;
use crate::source::ByteSource;
use crate::{Error, Result};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// Far more than adapters of the largest models need (a tensor takes about 150 bytes).
const LONGEST_HEADER: u64 = 16 << 20;

/// One tensor; its elements are floats of `format`.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub name: String,
    pub format: Format,
    /// Rows first, as PyTorch prints it.
    pub shape: Vec<usize>,
    /// From the start of the data.
    pub begin: u64,
    pub bytes: u64,
}

/// Reads the header and hands the reader on at the start of the data; the tensors are in the order of their data.
///
/// Errors: [`Error::Adapter`], [`Error::Truncated`].
pub async fn read_header<S: ByteSource>(reader: &mut Reader<'_, S>) -> Result<Vec<Entry>> {
    let what = "the safetensors header";
    let length = reader.u64(&what).await?;
    if !(2..=LONGEST_HEADER).contains(&length) {
        return Err(Error::Adapter(format!("it is not a safetensors file: its header would have {length} bytes")));
    }
    let mut json = Vec::new();
    reader.append(length, &mut json, &what).await?;
    let InOrder::<Raw>(raw) = serde_json::from_slice(&json)
        .map_err(|error| Error::Adapter(format!("its safetensors header cannot be read: {error}")))?;
    let mut entries = raw.into_iter().map(|(name, raw)| entry(name, raw)).collect::<Result<Vec<_>>>()?;
    entries.sort_by_key(|entry| (entry.begin, entry.bytes));
    let mut free = 0;
    for entry in &entries {
        if entry.begin < free {
            return Err(Error::Adapter(format!("tensor {} overlaps another one", entry.name)));
        }
        free = entry.begin + entry.bytes;
        reader.check(free, &format_args!("tensor {}", entry.name))?;
    }
    let mut names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Error::Adapter(format!("tensor {} is there twice", pair[0]))),
        None => Ok(entries),
    }
}

#[derive(Deserialize)]
struct Raw {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// An object's entries in their order, doubles included; comments (`__metadata__`) are passed over.
pub struct InOrder<T>(pub Vec<(String, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for InOrder<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = InOrder<T>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                write!(f, "an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<InOrder<T>, M::Error> {
                let mut all = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                    } else {
                        all.push((name, map.next_value()?));
                    }
                }
                Ok(InOrder(all))
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

fn entry(name: String, raw: Raw) -> Result<Entry> {
    let format = match raw.dtype.as_str() {
        "F32" => Format::F32,
        "F16" => Format::F16,
        "BF16" => Format::BF16,
        other => {
            return Err(Error::Adapter(format!("tensor {name} has the type {other}; supported are F32, F16 and BF16")));
        }
    };
    let (begin, end) = raw.data_offsets;
    let elements = raw.shape.iter().try_fold(1u64, |product, &n| product.checked_mul(n));
    let bytes = elements.and_then(|n| n.checked_mul(format.block_bytes() as u64));
    let shape: Option<Vec<usize>> = raw.shape.iter().map(|&n| usize::try_from(n).ok()).collect();
    match (bytes, shape) {
        (Some(bytes), Some(shape)) if end.checked_sub(begin) == Some(bytes) => {
            Ok(Entry { name, format, shape, begin, bytes })
        }
        _ => Err(Error::Adapter(format!(
            "tensor {name} of shape {:?} cannot lie at bytes {begin} to {end} as {}",
            raw.shape,
            format.name()
        ))),
    }
}
