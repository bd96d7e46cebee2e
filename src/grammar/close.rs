//! How an answer is brought to its end: a short way that a few rules of thumb find, byte by byte.

use super::{Trie, compile, failed};
use crate::Result;
use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{SimpleVob, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use std::sync::Arc;

/// An ending longer than this is given up.
const LONGEST: usize = 1024;
/// Within a string, the quote ends it.
const IN_STRINGS: &[u8] = b"\"";
/// Elsewhere what ends something comes before what begins something, and short values before long ones.
const ELSEWHERE: &[u8] = b"}],:0\"tfn{[1-.";
/// As many of ASCII's letters, digits and signs are allowed within a string that has no pattern.
const MANY: usize = 64;

/// Follows an answer in a vocabulary of single bytes, where looking ahead costs little.
pub struct Closer {
    matcher: Matcher,
}

impl Closer {
    pub fn new(grammar: TopLevelGrammar) -> Result<Closer> {
        let mut words: Vec<Vec<u8>> = (0..=u8::MAX).map(|byte| vec![byte]).collect();
        words.push(vec![TokTrie::SPECIAL_TOKEN_MARKER, b'<', b'>']);
        let end = words.len() as u32 - 1;
        let env: TokEnv = Arc::new(Trie(TokTrie::from(&TokRxInfo::new(end + 1, end), &words)));
        let factory = ParserFactory::new(&env, Default::default(), &[]).map_err(failed)?;
        Ok(Closer { matcher: compile(&factory, grammar)? })
    }

    /// Follows `bytes` and says how the answer may end after them; `None` where no ending was found or `fits` says no, and
    /// then the bytes are taken back.
    pub fn follow(&mut self, bytes: &[u8], fits: impl Fn(&[u8]) -> bool) -> Result<Option<Vec<u8>>> {
        let ids: Vec<u32> = bytes.iter().map(|&byte| byte.into()).collect();
        self.matcher.consume_tokens(&ids).map_err(failed)?;
        // A pattern may want a bracket where it ends nothing: then the quote is tried first everywhere.
        for elsewhere in [ELSEWHERE, IN_STRINGS] {
            if let Some(ending) = self.ending(elsewhere)?.filter(|ending| fits(ending)) {
                return Ok(Some(ending));
            }
        }
        self.matcher.rollback(ids.len()).map_err(failed)?;
        Ok(None)
    }

    /// Looks ahead; the matcher is then where it was.
    fn ending(&mut self, elsewhere: &[u8]) -> Result<Option<Vec<u8>>> {
        let mut ending = Vec::new();
        let found = loop {
            if self.matcher.is_stopped() || self.matcher.is_accepting().map_err(failed)? {
                break true;
            }
            let mask = self.matcher.compute_mask().map_err(failed)?;
            let Some(byte) = choose(&mask, elsewhere, ending.len()).filter(|_| ending.len() < LONGEST) else {
                break false;
            };
            self.matcher.consume_token(byte.into()).map_err(failed)?;
            ending.push(byte);
        };
        self.matcher.rollback(ending.len()).map_err(failed)?;
        Ok(found.then_some(ending))
    }
}

/// `at`: how long the ending is already.
fn choose(mask: &SimpleVob, elsewhere: &[u8], at: usize) -> Option<u8> {
    let allowed: Vec<u8> = (0..TokTrie::SPECIAL_TOKEN_MARKER).filter(|&byte| mask.is_allowed(byte.into())).collect();
    let graphic = allowed.iter().filter(|byte| byte.is_ascii_graphic()).count();
    let preferred = if graphic >= MANY { IN_STRINGS } else { elsewhere };
    let best = preferred.iter().copied().find(|byte| allowed.contains(byte));
    // Any other way, but not always the same one, or the ending of a pattern may run in circles.
    best.or_else(|| allowed.get((at * 0x9E37 / 256) % allowed.len().max(1)).copied())
}
