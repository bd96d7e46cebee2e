//! One answer, followed token by token.

use super::close::Closer;
use super::spec::{Parts, Spec, Trigger};
use super::{Vocabulary, failed};
use crate::generate::{Constraint, Mask};
use crate::{Error, Result};
use llguidance::Matcher;
use llguidance::toktrie::{TokEnv, TokTrie};

/// The [`Constraint`] of a [`Spec`].
pub struct Guide {
    matcher: Matcher,
    env: TokEnv,
    state: State,
    closer: Option<Closer>,
    /// Tokens that end the answer from here, in reading order, without the last that says so.
    ending: Vec<u32>,
}

enum State {
    /// For the beginning of the form, in the text so far.
    Waiting {
        trigger: Trigger,
        text: Vec<u8>,
    },
    /// Nothing is asked of the rest.
    Free,
    Following,
    /// No other tokens fit any more; the next one is the last of these.
    Ending(Vec<u32>),
}

impl Guide {
    /// Errors: [`Error::BadRequest`] with what is wrong with the form, by the name of its option.
    pub fn new(vocabulary: &Vocabulary, spec: &Spec) -> Result<Guide> {
        let option = spec.form.option();
        let wrong = |error: Error| Error::BadRequest(format!("{option}: {}", error.to_string().trim()));
        let Parts { grammar, trigger } = spec.parts(vocabulary).map_err(wrong)?;
        let mut closer = None;
        if spec.close_within_budget {
            closer = Some(Closer::new(grammar.clone()).map_err(wrong)?);
        }
        let mut guide = Guide {
            matcher: vocabulary.matcher(grammar).map_err(wrong)?,
            env: vocabulary.env.clone(),
            state: trigger.map_or(State::Following, |trigger| State::Waiting { trigger, text: Vec::new() }),
            closer,
            ending: Vec::new(),
        };
        if let Some(closer) = &mut guide.closer {
            let trie = guide.env.tok_trie();
            let ending = closer.follow(&[], |ending| tokens(trie, ending).is_some())?;
            guide.ending = ending.and_then(|ending| tokens(trie, &ending)).ok_or_else(|| {
                Error::BadRequest(format!(
                    "{option}: no short answer was found that close_within_budget could end with"
                ))
            })?;
        }
        Ok(guide)
    }

    /// What follows the trigger in the same token belongs to the form.
    fn wait(&mut self, token: u32) -> Result<()> {
        let State::Waiting { trigger, text } = &mut self.state else { return Ok(()) };
        let trie = self.env.tok_trie();
        text.extend(trie.token(token).strip_prefix(&[TokTrie::SPECIAL_TOKEN_MARKER]).unwrap_or(trie.token(token)));
        let Some(at) = trigger.find(text) else {
            if !trigger.may_come(text) {
                self.state = State::Free;
            }
            return Ok(());
        };
        let rest = trie.greedy_tokenize(&text[at..]);
        // What goes on otherwise is text that looked like it.
        self.state = match self.matcher.validate_tokens(&rest).map_err(failed)? == rest.len() {
            true => State::Following,
            false => State::Free,
        };
        if let State::Following = self.state {
            self.matcher.consume_tokens(&rest).map_err(failed)?;
        }
        Ok(())
    }
}

/// `None` where the vocabulary lacks a byte of it.
fn tokens(trie: &TokTrie, bytes: &[u8]) -> Option<Vec<u32>> {
    let tokens = trie.greedy_tokenize(bytes);
    (trie.decode_raw(&tokens) == bytes).then_some(tokens)
}

impl Constraint for Guide {
    fn mask(&mut self, left: usize) -> Result<Option<Mask>> {
        match &self.state {
            State::Waiting { .. } | State::Free => return Ok(None),
            State::Ending(tokens) => {
                let token = *tokens.last().unwrap_or(&self.env.tok_trie().eos_token());
                return Ok(Some(Mask::only(self.env.tok_trie().vocab_size(), token)));
            }
            State::Following => {}
        }
        if self.closer.is_some() && self.ending.len() + 1 > left {
            return Err(Error::BadRequest(format!(
                "close_within_budget: the shortest answer found has {} tokens, and no more than {left} fit; raise max_tokens",
                self.ending.len() + 1
            )));
        }
        let allowed = self.matcher.compute_mask_or_eos().map_err(failed)?;
        let forced = if self.matcher.is_stopped() { Vec::new() } else { self.matcher.compute_ff_bytes() };
        Ok(Some(Mask { bits: allowed.as_slice().to_vec(), forced }))
    }

    fn commit(&mut self, token: u32, left: usize) -> Result<u32> {
        match &mut self.state {
            State::Waiting { .. } => self.wait(token)?,
            State::Free => {}
            State::Ending(tokens) => drop(tokens.pop()),
            State::Following => {
                let trie = self.env.tok_trie();
                if trie.eos_tokens().contains(&token) {
                    return Ok(token);
                }
                if let Some(closer) = &mut self.closer {
                    // One for this token, one for what ends the answer.
                    let fits = |ending: &[u8]| tokens(trie, ending).is_some_and(|tokens| tokens.len() + 2 <= left);
                    let Some(ending) = closer.follow(trie.token(token), fits)? else {
                        let mut planned = std::mem::take(&mut self.ending);
                        planned.push(trie.eos_token());
                        planned.reverse();
                        let next = planned.pop().ok_or_else(|| failed("it has no end"))?;
                        self.state = State::Ending(planned);
                        return Ok(next);
                    };
                    self.ending = trie.greedy_tokenize(&ending);
                }
                self.matcher.consume_token(token).map_err(failed)?;
            }
        }
        Ok(token)
    }
}
