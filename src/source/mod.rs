//! Where bytes come from: memory, a file, and in the browser whatever JavaScript hands us (Blob, HTTP, stream).

#[cfg(not(target_arch = "wasm32"))]
mod file;
#[cfg(feature = "web")]
mod web;

#[cfg(not(target_arch = "wasm32"))]
pub use file::FileSource;
#[cfg(feature = "web")]
pub use web::{JsSource, WebSource};

use crate::{Error, Result};

/// A file's bytes, read piece by piece. The loader reads forward only (header, then tensors by offset), so that a
/// one-shot stream can be a source too; a source that cannot go back says so with [`Error::Source`].
#[allow(async_fn_in_trait, clippy::len_without_is_empty)]
pub trait ByteSource {
    /// Bytes in all; `None` while a stream does not know.
    fn len(&self) -> Option<u64>;

    /// Fills `buf` from `offset`. Errors: [`Error::Truncated`] where the file ends before, [`Error::Source`], [`Error::Aborted`].
    async fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<()>;

    /// As [`ByteSource::read_at`], but fills less of `buf` where the file ends before; returns the bytes read. Sources
    /// without a known length have to provide it.
    async fn read_up_to(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let rest = self.len().map_or(u64::MAX, |len| len.saturating_sub(offset));
        let n = buf.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
        self.read_at(offset, &mut buf[..n]).await?;
        Ok(n)
    }
}

/// A file that is in memory already.
pub struct MemorySource<B: AsRef<[u8]>>(pub B);

impl<B: AsRef<[u8]>> ByteSource for MemorySource<B> {
    fn len(&self) -> Option<u64> {
        Some(self.0.as_ref().len() as u64)
    }

    async fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let bytes = self.0.as_ref();
        let end = offset.saturating_add(buf.len() as u64);
        let truncated = || Error::Truncated { what: "a read".into(), need: end, have: bytes.len() as u64 };
        let range = usize::try_from(offset).ok().zip(usize::try_from(end).ok()).ok_or_else(truncated)?;
        buf.copy_from_slice(bytes.get(range.0..range.1).ok_or_else(truncated)?);
        Ok(())
    }
}
