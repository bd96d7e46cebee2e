//! Parses the header of one GGUF file, v2 or v3, in one forward pass. Everything it declares is hostile until checked.

use super::gguf::TensorInfo;
use super::metadata::{Metadata, StringArray, Value};
use super::reader::Reader;
use super::{quant, sniff};
use crate::source::ByteSource;
use crate::{Error, Result};
use std::fmt;

pub(super) struct Header {
    pub metadata: Metadata,
    pub tensors: Vec<TensorInfo>,
    pub file_bytes: u64,
    /// What was read beyond the header, with its position.
    pub rest: (u64, Vec<u8>),
}

/// Where in the header we are, for messages.
enum Section<'a> {
    Start,
    Key(u64, u64),
    Value(&'a str),
    Tensor(u64, u64),
}

impl fmt::Display for Section<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Section::Start => write!(f, "the start of the header"),
            Section::Key(i, n) => write!(f, "the metadata (entry {} of {n})", i + 1),
            Section::Value(key) => write!(f, "the metadata value {key}"),
            Section::Tensor(i, n) => write!(f, "the tensor list (entry {} of {n})", i + 1),
        }
    }
}

const LONGEST_NAME: u64 = 65_535;

pub(super) async fn read_header<S: ByteSource>(source: &mut S, shard: usize) -> Result<Header> {
    let mut reader = Reader::new(source);
    let head = reader.peek(96).await?;
    if !head.starts_with(b"GGUF") && (head.is_empty() || !b"GGUF".starts_with(head)) {
        return Err(sniff::not_a_model(head));
    }
    let start = Section::Start;
    reader.u32(&start).await?;
    let version = reader.u32(&start).await?;
    if !(2..=3).contains(&version) {
        return Err(sniff::unknown_version(version));
    }
    let tensor_count = reader.u64(&start).await?;
    let entry_count = reader.u64(&start).await?;

    // A key is at least its length, a type and one byte of value; a tensor its name's length, dimensions, type and offset.
    reader.check(entry_count.saturating_mul(8 + 4 + 1), &format_args!("metadata of {entry_count} entries"))?;
    let mut entries: Vec<(String, Value)> = Vec::new();
    for i in 0..entry_count {
        let section = Section::Key(i, entry_count);
        let key = read_name(&mut reader, "key", &section).await?;
        let kind = reader.u32(&section).await?;
        let value = read_value(&mut reader, kind, &Section::Value(&key)).await?;
        entries.push((key, value));
    }
    if let Some(key) = duplicate(entries.iter().map(|(key, _)| key.as_str())) {
        return Err(corrupt(format!("the key {key} is there twice"), reader.position()));
    }
    let metadata = Metadata::new(entries);
    let alignment = u64::from(metadata.u32("general.alignment")?.unwrap_or(32));
    if !alignment.is_power_of_two() || alignment > 1 << 20 {
        let problem = format!("is {alignment}, expected a power of two of at most {}", 1 << 20);
        return Err(Error::Metadata { key: "general.alignment".into(), problem });
    }

    reader.check(tensor_count.saturating_mul(8 + 4 + 8 + 4 + 8), &format_args!("a list of {tensor_count} tensors"))?;
    let mut tensors = Vec::new();
    for i in 0..tensor_count {
        tensors.push(read_tensor(&mut reader, shard, alignment, &Section::Tensor(i, tensor_count)).await?);
    }
    let data_start = reader.position().next_multiple_of(alignment);
    let file_bytes = place(&mut tensors, data_start, reader.position(), reader.len())?;
    Ok(Header { metadata, tensors, file_bytes, rest: reader.into_rest() })
}

async fn read_name<S: ByteSource>(reader: &mut Reader<'_, S>, what: &str, section: &Section<'_>) -> Result<String> {
    let len = reader.u64(section).await?;
    if len > LONGEST_NAME {
        return Err(corrupt(format!("a {what} of {len} bytes in {section}"), reader.position()));
    }
    let mut bytes = Vec::new();
    reader.append(len, &mut bytes, section).await?;
    String::from_utf8(bytes).map_err(|_| corrupt(format!("a {what} that is not UTF-8 in {section}"), reader.position()))
}

async fn read_value<S: ByteSource>(reader: &mut Reader<'_, S>, kind: u32, section: &Section<'_>) -> Result<Value> {
    match kind {
        8 => {
            let len = reader.u64(section).await?;
            let mut bytes = Vec::new();
            reader.append(len, &mut bytes, section).await?;
            Ok(Value::String(String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into())))
        }
        9 => {
            let kind = reader.u32(section).await?;
            let count = reader.u64(section).await?;
            read_array(reader, kind, count, section).await
        }
        _ => {
            let size = scalar_size(kind).ok_or_else(|| unknown_kind(kind, section, reader.position()))?;
            let bytes = reader.elements(size, 1, section).await?;
            Ok(match kind {
                7 => Value::Bool(bytes[0] != 0),
                6 | 12 => Value::Float(float(bytes)),
                _ => integer(kind, bytes).map_or_else(|| Value::Uint(little_endian(bytes)), Value::Int),
            })
        }
    }
}

async fn read_array<S: ByteSource>(
    reader: &mut Reader<'_, S>,
    kind: u32,
    count: u64,
    section: &Section<'_>,
) -> Result<Value> {
    if kind == 8 {
        // Each string is at least its length.
        reader.check(count.saturating_mul(8), section)?;
        let mut strings = StringArray::default();
        for _ in 0..count {
            let len = reader.u64(section).await?;
            reader.append(len, &mut strings.bytes, section).await?;
            let end = u32::try_from(strings.bytes.len());
            strings.ends.push(end.map_err(|_| corrupt(format!("more than 4 GiB in {section}"), reader.position()))?);
        }
        return Ok(Value::Strings(strings));
    }
    if kind == 9 {
        return Err(corrupt(format!("an array of arrays in {section}"), reader.position()));
    }
    let size = scalar_size(kind).ok_or_else(|| unknown_kind(kind, section, reader.position()))?;
    let (mut bools, mut floats, mut ints) = (Vec::new(), Vec::new(), Vec::new());
    let mut left = count;
    while left > 0 {
        let position = reader.position();
        let bytes = reader.elements(size, left, section).await?;
        left -= (bytes.len() / size) as u64;
        for element in bytes.chunks_exact(size) {
            match kind {
                7 => bools.push(element[0] != 0),
                6 | 12 => floats.push(float(element) as f32),
                _ => ints.push(
                    integer(kind, element)
                        .ok_or_else(|| corrupt(format!("an integer beyond 63 bits in {section}"), position))?,
                ),
            }
        }
    }
    Ok(match kind {
        7 => Value::Bools(bools),
        6 | 12 => Value::Floats(floats),
        _ => Value::Ints(ints),
    })
}

/// Bytes of a GGUF value type that is neither a string (8) nor an array (9): u8 i8 u16 i16 u32 i32 f32 bool u64 i64 f64.
fn scalar_size(kind: u32) -> Option<usize> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |wide, byte| wide << 8 | u64::from(*byte))
}

/// `None`: a u64 that an i64 does not hold.
fn integer(kind: u32, bytes: &[u8]) -> Option<i64> {
    let wide = little_endian(bytes);
    match kind {
        1 => Some(i64::from(wide as i8)),
        3 => Some(i64::from(wide as i16)),
        5 => Some(i64::from(wide as i32)),
        11 => Some(wide as i64),
        _ => i64::try_from(wide).ok(),
    }
}

fn float(bytes: &[u8]) -> f64 {
    match bytes.len() {
        4 => f64::from(f32::from_bits(little_endian(bytes) as u32)),
        _ => f64::from_bits(little_endian(bytes)),
    }
}

/// The offset stays relative to the data section, which starts behind the list.
async fn read_tensor<S: ByteSource>(
    reader: &mut Reader<'_, S>,
    shard: usize,
    alignment: u64,
    section: &Section<'_>,
) -> Result<TensorInfo> {
    let name = read_name(reader, "tensor name", section).await?;
    let bad = |reader: &Reader<'_, S>, what: String| Err(corrupt(format!("tensor {name}: {what}"), reader.position()));
    let dimensions = reader.u32(section).await?;
    if !(1..=4).contains(&dimensions) {
        return bad(reader, format!("{dimensions} dimensions, expected 1 to 4"));
    }
    let mut shape = Vec::with_capacity(4);
    for _ in 0..dimensions {
        let n = reader.u64(section).await?;
        match usize::try_from(n) {
            Ok(n) if n > 0 => shape.insert(0, n),
            _ => return bad(reader, format!("a dimension of {n}")),
        }
    }
    let ggml_type = reader.u32(section).await?;
    let offset = reader.u64(section).await?;
    let elements = shape.iter().try_fold(1u64, |product, &n| product.checked_mul(n as u64));
    let Some(elements) = elements.filter(|&n| n <= i64::MAX as u64) else {
        return bad(reader, format!("the shape {shape:?} has too many elements"));
    };
    let (block_len, block_bytes) = quant::ggml_block(ggml_type).unwrap_or((1, 0));
    let columns = shape[shape.len() - 1];
    if columns % block_len != 0 {
        let format = quant::ggml_type_name(ggml_type);
        return bad(reader, format!("{columns} columns are not whole {format} blocks of {block_len}"));
    }
    let Some(bytes) = (elements / block_len as u64).checked_mul(block_bytes as u64) else {
        return bad(reader, format!("the shape {shape:?} has too many bytes"));
    };
    if !offset.is_multiple_of(alignment) {
        return bad(reader, format!("the offset {offset} is no multiple of {alignment}"));
    }
    Ok(TensorInfo { name, shape, ggml_type, shard, offset, bytes })
}

/// Makes offsets absolute, sorts by them, and checks that the tensors lie apart and within the file. Returns the file's
/// bytes.
fn place(tensors: &mut [TensorInfo], data_start: u64, header_end: u64, len: Option<u64>) -> Result<u64> {
    tensors.sort_by_key(|tensor| tensor.offset);
    let mut free = 0;
    for tensor in tensors.iter_mut() {
        let corrupt = |what: &str| Err(corrupt(format!("tensor {}: {what}", tensor.name), header_end));
        if tensor.offset < free {
            return corrupt("it overlaps another tensor");
        }
        match tensor.offset.checked_add(tensor.bytes).filter(|end| end.checked_add(data_start).is_some()) {
            Some(end) => free = end,
            None => return corrupt("its offset is too large"),
        }
        tensor.offset += data_start;
        if let Some(have) = len.filter(|&len| data_start + free > len) {
            return Err(Error::Truncated { what: format!("tensor {}", tensor.name), need: data_start + free, have });
        }
    }
    Ok(len.unwrap_or(if tensors.is_empty() { header_end } else { data_start + free }))
}

pub(super) fn duplicate<'a>(names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}

fn unknown_kind(kind: u32, section: &Section<'_>, offset: u64) -> Error {
    corrupt(format!("the unknown value type {kind} in {section}"), offset)
}

pub(super) fn corrupt(what: String, offset: u64) -> Error {
    Error::Corrupt { what, offset }
}
