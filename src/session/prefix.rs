//! The beginning that many prompts have in common, read beforehand, and what the cache holds of it as bytes: a later session
//! with the same model begins where this one is.
//!
//! ```text
//! magic      8 bytes
//! identity   u32 length, UTF-8: the model, its shape, and how the backend keeps keys and values
//! tokens     u32 count, u32 each
//! cache      the rest but 8 bytes: the backend's
//! check      u64 over all before it
//! ```
//!
//! All numbers are little-endian. The check finds damage, not malice: bytes that mean harm can make answers bad, as a model's
//! can, and nothing else.

use super::{Session, common_prefix, forward};
use crate::backend::{Backend, HeadRows};
use crate::session::Request;
use crate::text::Message;
use crate::{Error, Result};
use serde_json::json;

/// Its last byte counts up when the format changes.
const MAGIC: &[u8; 8] = b"kinglet\x01";

impl<B: Backend> Session<B> {
    /// The tokens that prompts have in common whose messages begin with the request's, whatever the user says next.
    ///
    /// Errors: [`Error::BadRequest`], [`Error::Template`]; [`Error::ContextExceeded`] where nothing can follow.
    pub fn prefix_of(&mut self, request: &Request) -> Result<Vec<u32>> {
        let mut with = |text: &str| {
            let mut request = request.clone();
            let message = Message { role: "user".into(), content: json!(text), rest: Default::default() };
            request.messages.get_or_insert_default().push(message);
            self.prompt_of(&request).map(|(tokens, _)| tokens)
        };
        let (mut tokens, other) = (with("a")?, with("1 b")?);
        tokens.truncate(common_prefix(&tokens, &other));
        self.check_tokens(&tokens)?;
        match tokens.len() < self.info.context_length {
            true => Ok(tokens),
            false => Err(self.context_exceeded(tokens.len())),
        }
    }

    /// Reads one chunk of `tokens` into the cache; `true` when it holds them all, behind which it keeps what it has. Between two
    /// requests only.
    pub async fn read_prefix(&mut self, tokens: &[u32]) -> Result<bool> {
        self.abort();
        self.check_tokens(tokens)?;
        self.use_adapters(&[])?;
        let known = self.backend.reusable(common_prefix(&self.cached, tokens));
        if known == tokens.len() {
            return Ok(true);
        }
        self.cached.truncate(known);
        self.backend.catch_up().await?;
        if self.backend.expect_positions(tokens.len())? {
            self.cached.clear();
        }
        let known = self.cached.len();
        let end = tokens.len().min(known + self.backend.max_batch());
        forward(&mut self.backend, &mut self.cached, &tokens[known..end], HeadRows::None)?;
        Ok(end == tokens.len())
    }

    /// What the cache holds of `tokens`, which [`Session::read_prefix`] or a request that begins with them has put there.
    /// `model`: what tells the model from others, such as the SHA-256 of its file. `None`: the backend keeps no such bytes.
    ///
    /// Errors: [`Error::BadRequest`] where it does not hold them.
    pub fn save_prefix(&self, model: &str, tokens: &[u32]) -> Result<Option<Vec<u8>>> {
        if !self.active.is_empty() || common_prefix(&self.cached, tokens) < tokens.len() {
            return Err(Error::BadRequest(
                "the cache does not hold these tokens without adapters; read them first".into(),
            ));
        }
        let Some(identity) = self.prefix_identity(model) else { return Ok(None) };
        let mut bytes = MAGIC.to_vec();
        bytes.extend((identity.len() as u32).to_le_bytes());
        bytes.extend(identity.as_bytes());
        bytes.extend((tokens.len() as u32).to_le_bytes());
        bytes.extend(tokens.iter().flat_map(|token| token.to_le_bytes()));
        self.backend.save_cache(tokens.len(), &mut bytes)?;
        bytes.extend(check_of(&bytes).to_le_bytes());
        Ok(Some(bytes))
    }

    /// Takes in what [`Session::save_prefix`] gave for the same model and tokens; the running request is dropped.
    ///
    /// Errors: [`Error::BadRequest`] where it is broken or was made for something else. The cache is then empty at worst.
    pub fn load_prefix(&mut self, model: &str, tokens: &[u32], bytes: &[u8]) -> Result<()> {
        self.abort();
        self.check_tokens(tokens)?;
        let refused = |why: &str| Error::BadRequest(format!("the saved prefix {why}; it is read anew"));
        let (bytes, check) = bytes.split_last_chunk::<8>().ok_or_else(|| refused("is cut"))?;
        let mut rest = bytes.strip_prefix(MAGIC).ok_or_else(|| refused("is of another format"))?;
        if check_of(bytes) != u64::from_le_bytes(*check) {
            return Err(refused("is damaged"));
        }
        let identity = self.prefix_identity(model).ok_or_else(|| refused("is for another backend"))?;
        let found = field(&mut rest, 1).ok_or_else(|| refused("is cut"))?;
        if found != identity.as_bytes() {
            return Err(refused("is of another model, or was kept in another way"));
        }
        let found = field(&mut rest, 4).ok_or_else(|| refused("is cut"))?;
        if !found.chunks_exact(4).eq(tokens.iter().map(|token| token.to_le_bytes())) {
            return Err(refused("begins otherwise"));
        }
        self.use_adapters(&[])?;
        self.cached.clear();
        self.backend.expect_positions(tokens.len())?;
        self.backend.load_cache(tokens.len(), rest)?;
        self.cached.extend_from_slice(tokens);
        Ok(())
    }

    /// What has to be the same for a saved prefix to be of use.
    fn prefix_identity(&self, model: &str) -> Option<String> {
        Some(format!("{model} {} {:?}", self.backend.cache_layout()?, self.backend.spec()))
    }
}

/// So many elements of `size` bytes as a length before them says.
fn field<'a>(rest: &mut &'a [u8], size: usize) -> Option<&'a [u8]> {
    let (count, behind) = rest.split_first_chunk::<4>()?;
    let (field, behind) = behind.split_at_checked((u32::from_le_bytes(*count) as usize).checked_mul(size)?)?;
    *rest = behind;
    Some(field)
}

/// FNV-1a over words of eight bytes: another word always makes another sum.
fn check_of(bytes: &[u8]) -> u64 {
    let add = |sum: u64, word: u64| (sum ^ word).wrapping_mul(0x0100_0000_01b3);
    let words = bytes.chunks_exact(8);
    let tail = words.remainder().iter().fold(bytes.len() as u64, |sum, &byte| add(sum, byte.into()));
    words.fold(add(0xcbf2_9ce4_8422_2325, tail), |sum, word| {
        add(sum, u64::from_le_bytes(word.try_into().unwrap_or_default()))
    })
}
