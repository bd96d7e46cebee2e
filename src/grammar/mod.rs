//! Answers in a given form: which tokens a JSON schema, a regular expression, a grammar or a call of a tool allows next.
//! llguidance does the matching; here are the vocabulary, the forms of a request, when a form begins, and how an answer is
//! brought to its end in time.

mod close;
mod guide;
mod spec;
mod tools;

pub use guide::Guide;
pub use spec::{Form, Spec};

use crate::text::{Tokenizer, packed};
use crate::{Error, Result};
use llguidance::api::{GrammarInit, TopLevelGrammar};
use llguidance::toktrie::{InferenceCapabilities, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};
use llguidance::{Logger, Matcher, ParserFactory};
use std::sync::Arc;

/// What tokens say, made ready for matching; one for each model.
pub struct Vocabulary {
    factory: ParserFactory,
    env: TokEnv,
}

/// Tokens that a string may hold, whatever they are: their mask is made once.
const SLICE: &str = r#"[^"\\\x00-\x1F\x7F]+"#;

struct Trie(TokTrie);

impl TokenizerEnv for Trie {
    fn tok_trie(&self) -> &TokTrie {
        &self.0
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.0.greedy_tokenize(bytes)
    }

    /// What the form forces is left to the model to cut into tokens: with the tokens of a tokenizer instead, an answer that
    /// the model would have given anyway might become another.
    fn tokenize_is_canonical(&self) -> bool {
        false
    }
}

impl Vocabulary {
    pub fn of(tokenizer: &Tokenizer) -> Result<Vocabulary> {
        Self::new(&packed::pack(tokenizer), tokenizer.end_ids())
    }

    /// `packed`: see [`packed::pack`]. `ends`: the tokens that end an answer.
    ///
    /// Errors: [`Error::Tokenizer`] where nothing ends an answer, or `packed` is none.
    pub fn new(packed: &[u8], ends: &[u32]) -> Result<Vocabulary> {
        let tokens = packed::unpack(packed).ok_or_else(|| Error::Tokenizer("the vocabulary is cut off".into()))?;
        let (Some(&end), count) = (ends.first(), tokens.len()) else {
            return Err(Error::Tokenizer("no token ends an answer, so that none can be given a form".into()));
        };
        let words: Vec<Vec<u8>> = tokens
            .into_iter()
            .map(
                |(bytes, control)| {
                    if control { [&[TokTrie::SPECIAL_TOKEN_MARKER], bytes].concat() } else { bytes.into() }
                },
            )
            .collect();
        let trie = TokTrie::from(&TokRxInfo::new(count as u32, end), &words).with_eos_tokens(ends);
        let env: TokEnv = Arc::new(Trie(trie));
        let slices = [SLICE.to_string()];
        let factory = ParserFactory::new(&env, InferenceCapabilities::default(), &slices);
        let factory = factory.map_err(|error| Error::Tokenizer(error.to_string()))?;
        Ok(Vocabulary { factory, env })
    }

    fn trie(&self) -> &TokTrie {
        self.env.tok_trie()
    }

    /// The id of a control token.
    fn control(&self, name: &str) -> Option<u32> {
        self.trie().get_special_token(name)
    }

    /// Errors: [`Error::BadRequest`] with what is wrong with the grammar.
    fn matcher(&self, grammar: TopLevelGrammar) -> Result<Matcher> {
        compile(&self.factory, grammar)
    }
}

fn compile(factory: &ParserFactory, grammar: TopLevelGrammar) -> Result<Matcher> {
    let mut limits = factory.limits().clone();
    limits.verbose_errors = false;
    let capabilities = InferenceCapabilities::default();
    let init = GrammarInit::Serialized(grammar);
    // Neither to stderr nor to memory.
    let parser = factory.create_parser_from_init_ext(init, Logger::new(0, 0), capabilities, limits);
    let matcher = Matcher::new(parser);
    match matcher.get_error() {
        None => Ok(matcher),
        Some(error) => Err(Error::BadRequest(error)),
    }
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::BadRequest(format!("the form of the answer is more than can be followed: {error}"))
}
