//! Awkward sources of bytes.
#![allow(dead_code)]

use kinglet::source::ByteSource;
use kinglet::{Error, Result};

/// As a `ReadableStream`: no length, forward only, every byte once.
pub struct Stream<'a> {
    bytes: &'a [u8],
    next: u64,
}

impl<'a> Stream<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Stream { bytes, next: 0 }
    }
}

impl ByteSource for Stream<'_> {
    fn len(&self) -> Option<u64> {
        None
    }

    async fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let read = self.read_up_to(offset, buf).await?;
        if read < buf.len() {
            let (need, have) = (offset + buf.len() as u64, self.bytes.len() as u64);
            return Err(Error::Truncated { what: "a read".into(), need, have });
        }
        Ok(())
    }

    async fn read_up_to(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        if offset < self.next {
            return Err(Error::Source(format!("the stream is at {}, asked for {offset}", self.next)));
        }
        let rest = &self.bytes[self.bytes.len().min(usize::try_from(offset).unwrap_or(usize::MAX))..];
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        self.next = offset + n as u64;
        Ok(n)
    }
}
