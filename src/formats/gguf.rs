//! A GGUF model: what its header (or those of its parts) says, and its tensors' bytes on demand.

use super::header::{corrupt, duplicate, read_header};
use super::metadata::Metadata;
use super::{Format, quant};
use crate::source::ByteSource;
use crate::{Error, Result};

/// What a header says: metadata and where each tensor lies. Several files (`-00001-of-00003.gguf`) make one checkpoint.
pub struct Checkpoint {
    pub metadata: Metadata,
    /// In file order: by shard, then by offset.
    pub tensors: Vec<TensorInfo>,
    /// Bytes of all files; of a stream without a known length: up to the end of its last tensor.
    pub file_bytes: u64,
    /// What was read beyond each shard's header, with its position: a stream does not give it twice.
    rests: Vec<(u64, Vec<u8>)>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    pub name: String,
    /// `[rows, columns]` for a matrix, `[columns]` for a vector; columns are contiguous (GGUF stores the reverse).
    pub shape: Vec<usize>,
    /// GGUF's type number, perhaps of a type that is not supported; see [`TensorInfo::format`].
    pub ggml_type: u32,
    /// Which file.
    pub shard: usize,
    /// Absolute, in its file.
    pub offset: u64,
    /// 0 for a type whose size nobody knows.
    pub bytes: u64,
}

impl TensorInfo {
    /// Errors: [`Error::UnsupportedType`].
    pub fn format(&self) -> Result<Format> {
        Format::from_ggml(self.ggml_type).ok_or_else(|| Error::UnsupportedType {
            tensor: self.name.clone(),
            format: quant::ggml_type_name(self.ggml_type),
        })
    }

    pub fn elements(&self) -> u64 {
        self.shape.iter().map(|&n| n as u64).product()
    }
}

impl Checkpoint {
    /// Reads and checks the headers of all shards (usually one).
    ///
    /// Errors: [`Error::NotAModel`], [`Error::Truncated`], [`Error::Corrupt`], [`Error::Metadata`]; [`Error::BadRequest`]
    /// when the files are not the parts of one split model, in order.
    pub async fn open<S: ByteSource>(shards: &mut [S]) -> Result<Checkpoint> {
        let parts = shards.len();
        let mut checkpoint =
            Checkpoint { metadata: Metadata::default(), tensors: Vec::new(), file_bytes: 0, rests: Vec::new() };
        for (shard, source) in shards.iter_mut().enumerate() {
            let header = read_header(source, shard).await?;
            check_part(&header.metadata, shard, parts)?;
            checkpoint.file_bytes = checkpoint.file_bytes.saturating_add(header.file_bytes);
            checkpoint.tensors.extend(header.tensors);
            checkpoint.rests.push(header.rest);
            if shard == 0 {
                checkpoint.metadata = header.metadata;
            }
        }
        check_names(&checkpoint.tensors)?;
        if let Some(declared) = checkpoint.metadata.usize("split.tensors.count")?.filter(|_| parts > 1)
            && declared != checkpoint.tensors.len()
        {
            let problem = format!("is {declared}, but the {parts} files have {} tensors", checkpoint.tensors.len());
            return Err(Error::Metadata { key: "split.tensors.count".into(), problem });
        }
        Ok(checkpoint)
    }

    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.iter().find(|t| t.name == name)
    }

    /// Fills `buf` with the tensor's bytes from `start` on; `shards` are those of [`Checkpoint::open`]. A stream can be
    /// read forward only: tensors in the order of [`Checkpoint::tensors`], each from its start to its end.
    pub async fn read<S: ByteSource>(
        &self,
        shards: &mut [S],
        tensor: &TensorInfo,
        start: u64,
        buf: &mut [u8],
    ) -> Result<()> {
        debug_assert!(start + buf.len() as u64 <= tensor.bytes);
        let offset = tensor.offset + start;
        let (rest_start, rest) = &self.rests[tensor.shard];
        // The part that the header's last piece held already.
        let held = offset.checked_sub(*rest_start).and_then(|skip| rest.get(usize::try_from(skip).ok()?..));
        let held = held.unwrap_or_default();
        let (from_rest, from_source) = buf.split_at_mut(held.len().min(buf.len()));
        from_rest.copy_from_slice(&held[..from_rest.len()]);
        if from_source.is_empty() {
            return Ok(());
        }
        let read = shards[tensor.shard].read_at(offset + from_rest.len() as u64, from_source).await;
        read.map_err(|e| match e {
            Error::Truncated { have, .. } => {
                Error::Truncated { what: format!("tensor {}", tensor.name), need: tensor.offset + tensor.bytes, have }
            }
            other => other,
        })
    }
}

/// The names of all shards when `name` is one of them (`x-00001-of-00003.gguf`), else `None`.
pub fn shard_names(name: &str) -> Option<Vec<String>> {
    let stem = name.strip_suffix(".gguf")?;
    let (stem, count) = stem.rsplit_once("-of-")?;
    let (stem, number) = stem.rsplit_once('-')?;
    let five_digits = |s: &str| (s.len() == 5 && s.bytes().all(|b| b.is_ascii_digit())).then(|| s.parse().ok())?;
    let (number, count): (u32, u32) = (five_digits(number)?, five_digits(count)?);
    (1..=count).contains(&number).then(|| (1..=count).map(|i| format!("{stem}-{i:05}-of-{count:05}.gguf")).collect())
}

fn check_part(metadata: &Metadata, shard: usize, parts: usize) -> Result<()> {
    let count = metadata.usize("split.count")?.unwrap_or(1);
    let number = metadata.usize("split.no")?.unwrap_or(0);
    let (given, part) = (shard + 1, number + 1);
    Err(Error::BadRequest(match (parts, count) {
        (_, 0 | 1) if parts > 1 => format!("file {given} of {parts} is a whole model, not a part of a split one"),
        (1, 2..) => format!("this is part {part} of {count} of a split model; load all {count} files together"),
        (_, 2..) if count != parts => format!("the model is split into {count} files, but {parts} were given"),
        (_, 2..) if number != shard => {
            format!("file {given} is part {part} of {count}; give the parts in the order of their numbers")
        }
        _ => return Ok(()),
    }))
}

fn check_names(tensors: &[TensorInfo]) -> Result<()> {
    match duplicate(tensors.iter().map(|tensor| tensor.name.as_str())) {
        Some(name) => Err(corrupt(format!("the tensor {name} is there twice"), 0)),
        None => Ok(()),
    }
}
