//! Reads a header forward, in pieces: what a header declares is allocated only as its bytes really arrive.

use crate::source::ByteSource;
use crate::{Error, Result};
use std::fmt::Display;

/// The first piece; each one doubles up to [`LARGEST_PIECE`], so that small headers read little beyond themselves.
const FIRST_PIECE: usize = 64 << 10;
const LARGEST_PIECE: usize = 512 << 10;

pub struct Reader<'a, S> {
    source: &'a mut S,
    len: Option<u64>,
    piece: Vec<u8>,
    /// The next byte, as an index into `piece` ...
    at: usize,
    /// ... and the position of `piece[0]` in the file.
    piece_start: u64,
    next_piece: usize,
    /// The source gave less than asked for.
    ended: bool,
}

impl<'a, S: ByteSource> Reader<'a, S> {
    pub fn new(source: &'a mut S) -> Self {
        let len = source.len();
        Self { source, len, piece: Vec::new(), at: 0, piece_start: 0, next_piece: FIRST_PIECE, ended: false }
    }

    /// Bytes in all, where known.
    pub fn len(&self) -> Option<u64> {
        self.len
    }

    pub fn position(&self) -> u64 {
        self.piece_start + self.at as u64
    }

    /// The position of what was read beyond the header, and its bytes.
    pub fn into_rest(mut self) -> (u64, Vec<u8>) {
        let start = self.position();
        (start, self.piece.split_off(self.at))
    }

    /// Up to `n` bytes without consuming them; fewer only at the end of the file.
    pub async fn peek(&mut self, n: usize) -> Result<&[u8]> {
        while self.piece.len() - self.at < n && self.read_piece().await? {}
        Ok(&self.piece[self.at..self.piece.len().min(self.at + n)])
    }

    /// `what` names the section for [`Error::Truncated`].
    pub async fn array<const N: usize>(&mut self, what: &impl Display) -> Result<[u8; N]> {
        let bytes = self.take(N, what).await?;
        Ok(bytes.try_into().expect("take gives as many as asked for"))
    }

    pub async fn u32(&mut self, what: &impl Display) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array(what).await?))
    }

    pub async fn u64(&mut self, what: &impl Display) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array(what).await?))
    }

    /// Appends `n` bytes to `out`, which grows only by what has arrived.
    pub async fn append(&mut self, n: u64, out: &mut Vec<u8>, what: &impl Display) -> Result<()> {
        self.check(n, what)?;
        let mut left = n;
        while left > 0 {
            let ready = &self.piece[self.at..];
            let take = ready.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            out.extend_from_slice(&ready[..take]);
            self.at += take;
            left -= take as u64;
            if left > 0 && !self.read_piece().await? {
                return Err(self.truncated(self.position().saturating_add(left), what));
            }
        }
        Ok(())
    }

    /// As many whole elements of `size` bytes as are at hand, at least one and at most `n`.
    pub async fn elements(&mut self, size: usize, n: u64, what: &impl Display) -> Result<&[u8]> {
        self.check(n.saturating_mul(size as u64), what)?;
        self.need(size, what).await?;
        let ready = (self.piece.len() - self.at) / size;
        let taken = ready.min(usize::try_from(n).unwrap_or(usize::MAX)) * size;
        self.at += taken;
        Ok(&self.piece[self.at - taken..self.at])
    }

    /// Passes over what lies before `position`; it does not go back.
    pub async fn skip_to(&mut self, position: u64, what: &impl Display) -> Result<()> {
        while self.position() < position {
            let left = position - self.position();
            self.elements(1, left, what).await?;
        }
        Ok(())
    }

    /// [`Error::Truncated`] when the file's known length cannot hold `n` bytes more.
    pub fn check(&self, n: u64, what: &impl Display) -> Result<()> {
        let end = self.position().saturating_add(n);
        if self.len.is_some_and(|len| end > len) { Err(self.truncated(end, what)) } else { Ok(()) }
    }

    async fn take(&mut self, n: usize, what: &impl Display) -> Result<&[u8]> {
        self.need(n, what).await?;
        self.at += n;
        Ok(&self.piece[self.at - n..self.at])
    }

    async fn need(&mut self, n: usize, what: &impl Display) -> Result<()> {
        while self.piece.len() - self.at < n {
            if !self.read_piece().await? {
                return Err(self.truncated(self.position() + n as u64, what));
            }
        }
        Ok(())
    }

    /// Drops what is consumed and reads on; false at the end of the file.
    async fn read_piece(&mut self) -> Result<bool> {
        self.piece_start = self.position();
        self.piece.drain(..self.at);
        self.at = 0;
        let (old, offset) = (self.piece.len(), self.piece_start + self.piece.len() as u64);
        let rest = self.len.map_or(u64::MAX, |len| len.saturating_sub(offset));
        let n = self.next_piece.min(usize::try_from(rest).unwrap_or(usize::MAX));
        if n == 0 || self.ended {
            return Ok(false);
        }
        self.piece.resize(old + n, 0);
        let read = self.source.read_up_to(offset, &mut self.piece[old..]).await;
        self.piece.truncate(old + *read.as_ref().unwrap_or(&0));
        self.next_piece = (self.next_piece * 2).min(LARGEST_PIECE);
        let read = read?;
        self.ended = read < n;
        Ok(read > 0)
    }

    fn truncated(&self, need: u64, what: &impl Display) -> Error {
        let have = self.len.unwrap_or(self.piece_start + self.piece.len() as u64);
        Error::Truncated { what: what.to_string(), need, have }
    }
}
