//! A `tokenizer.json` of Hugging Face's `tokenizers` to a [`Tokenizer`]: BPE, byte-level or SentencePiece's.

use super::Tokenizer;
use super::added::{Added, Flags};
use super::bpe::Merges;
use super::byte_level;
use super::fim;
use super::pipeline::Pipeline;
use super::tokenizer::Symbols;
use super::tokens::{Index, Kind, Tokens};
use super::vocab::{MergeReader, bad, byte_ids, byte_of, end_ids, unescape};
use crate::Result;
use crate::formats::StringArray;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::fmt;

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    model: Model,
}

#[derive(Deserialize)]
#[serde(default)]
struct AddedToken {
    id: u32,
    content: String,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    special: bool,
}

impl Default for AddedToken {
    fn default() -> Self {
        Self { id: u32::MAX, content: String::new(), single_word: false, lstrip: false, rstrip: false, special: false }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Model {
    #[serde(rename = "type")]
    kind: Option<String>,
    vocab: Vocabulary,
    merges: MergeList,
    unk_token: Option<String>,
    byte_fallback: bool,
    ignore_merges: bool,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
}

pub(super) fn parse(json: &[u8]) -> Result<Tokenizer> {
    let file: File = serde_json::from_slice(json).map_err(|e| bad(format!("tokenizer.json: {e}")))?;
    let model = &file.model;
    if let Some(other) = model.kind.as_deref().filter(|&kind| kind != "BPE") {
        return Err(bad(format!("tokenizer.json: its model \"{other}\" is not supported; supported is BPE")));
    }
    for (name, affix) in [("prefix", &model.continuing_subword_prefix), ("suffix", &model.end_of_word_suffix)] {
        if let Some(affix) = affix.as_ref().filter(|affix| !affix.is_empty()) {
            return Err(bad(format!("tokenizer.json: the subword {name} {affix:?} is not supported")));
        }
    }
    let pipeline = Pipeline::parse(&file.normalizer, &file.pre_tokenizer)?;
    let symbols = pipeline.symbols;
    let tokens = read_tokens(&file, symbols)?;
    let plain = Index::new(&tokens, |kind| kind == Kind::Normal)?;
    let flags = file.added_tokens.iter().filter_map(|t| {
        let flags = Flags { lstrip: t.lstrip, rstrip: t.rstrip, single_word: t.single_word };
        Some((find_added(&tokens, &file, t)?, flags)).filter(|_| flags != Flags::default())
    });
    let added = Added::new(&tokens, flags.collect())?;

    let mut reader = MergeReader::new(model.merges.0.len() / 2, &tokens, &plain, &added.index);
    for i in 0..model.merges.0.len() / 2 {
        let side = |n| model.merges.0.get(n).unwrap_or_default();
        reader.push(|out| spell(side(2 * i), symbols, out), |out| spell(side(2 * i + 1), symbols, out))?;
    }
    let table = reader.table;

    let unknown = model
        .unk_token
        .as_deref()
        .and_then(|name| added.index.find(&tokens, name.as_bytes()).or_else(|| plain.find(&tokens, name.as_bytes())));
    let bos = first_token(&file.post_processor).and_then(|name| added.index.find(&tokens, name.as_bytes()));
    Ok(Tokenizer {
        byte_ids: byte_ids(&tokens, &plain, symbols),
        end_ids: end_ids(&tokens, &added.index, &[]),
        fill: fim::find(&tokens, &added, [None; 3]),
        merges: Merges::Ranks(table),
        spaces_first: false,
        nfc: pipeline.nfc,
        prefix: pipeline.prefix,
        split: pipeline.split,
        whole_words: model.ignore_merges,
        add_bos: bos.is_some(),
        tokens,
        plain,
        added,
        symbols,
        unknown,
        bos,
        eos: None,
    })
}

/// The bytes of a token or of a merge's side as the file spells it.
fn spell(text: &[u8], symbols: Symbols, out: &mut Vec<u8>) {
    match symbols {
        Symbols::Bytes => byte_level::decode(text, out),
        Symbols::Chars => unescape(text, out),
    }
}

/// All tokens in the order of their ids.
fn read_tokens(file: &File, symbols: Symbols) -> Result<Tokens> {
    let Vocabulary { texts, ids } = &file.model.vocab;
    let added: HashMap<&[u8], &AddedToken> = file.added_tokens.iter().map(|t| (t.content.as_bytes(), t)).collect();
    let limit = (texts.len() + file.added_tokens.len()) * 2 + 1024;
    // By id: the text and, for an added token, what it is.
    let mut by_id: Vec<Option<(&[u8], Option<&AddedToken>)>> = Vec::with_capacity(texts.len() + added.len());
    let mut put = |id: u32, text, token| {
        let at = id as usize;
        if at >= limit {
            return Err(bad(format!(
                "token {:?} has the id {id}, far beyond the others",
                String::from_utf8_lossy(text)
            )));
        }
        if by_id.len() <= at {
            by_id.resize(at + 1, None);
        }
        match by_id[at].replace((text, token)) {
            None => Ok(()),
            Some((other, _)) => {
                let [a, b] = [other, text].map(String::from_utf8_lossy);
                Err(bad(format!("id {id} is there twice, for {a:?} and {b:?}")))
            }
        }
    };
    let mut in_vocabulary = HashSet::new();
    for (text, &id) in texts.iter().zip(ids) {
        let token = added.get(text).copied();
        in_vocabulary.extend(token.map(|t| t.content.as_str()));
        put(id, text, token)?;
    }
    for token in &file.added_tokens {
        if !in_vocabulary.contains(token.content.as_str()) {
            put(token.id, token.content.as_bytes(), Some(token))?;
        }
    }
    if by_id.is_empty() {
        return Err(bad("its vocabulary is empty"));
    }

    let mut tokens = Tokens::with_capacity(by_id.len());
    for entry in by_id {
        match entry {
            None => tokens.push(Kind::Unused, |_| {}),
            // Gemma's runs of spaces: what they are looked for in has spaces yet, so they come about by merging.
            Some((text, Some(token))) if symbols == Symbols::Chars && !token.special && is_spaces(text) => {
                tokens.push(Kind::Normal, |out| unescape(text, out));
            }
            Some((text, Some(token))) => {
                let kind = if token.special { Kind::Control } else { Kind::UserDefined };
                tokens.push(kind, |out| out.extend_from_slice(text));
            }
            Some((text, None)) => match byte_of(text).filter(|_| file.model.byte_fallback) {
                Some(byte) => tokens.push(Kind::Byte, |out| out.push(byte)),
                None => tokens.push(Kind::Normal, |out| spell(text, symbols, out)),
            },
        }
    }
    Ok(tokens)
}

fn is_spaces(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| text.chars().all(|c| c == '▁'))
}

/// The id that an added token got.
fn find_added(tokens: &Tokens, file: &File, token: &AddedToken) -> Option<u32> {
    let is_it = |id: &u32| tokens.kind(*id).is_some_and(Kind::is_added) && tokens.get(*id) == token.content.as_bytes();
    let vocabulary = &file.model.vocab;
    Some(token.id).filter(is_it).or_else(|| vocabulary.ids.iter().copied().find(is_it))
}

/// The special token that the post-processor puts first.
fn first_token(processor: &Value) -> Option<&str> {
    let parts = processor["processors"].as_array();
    let template =
        parts.and_then(|parts| parts.iter().find(|p| p["type"] == "TemplateProcessing")).unwrap_or(processor);
    template["single"][0]["SpecialToken"]["id"].as_str()
}

/// `{"token": id, ...}`, flat.
#[derive(Default)]
struct Vocabulary {
    texts: StringArray,
    ids: Vec<u32>,
}

/// Left and right sides in turn.
#[derive(Default)]
struct MergeList(StringArray);

impl<'de> Deserialize<'de> for Vocabulary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Vocabulary;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a map of tokens to ids")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vocabulary, A::Error> {
                let mut vocabulary = Vocabulary::default();
                while let Some((Text(text), id)) = map.next_entry()? {
                    vocabulary.texts.push(text.as_bytes());
                    vocabulary.ids.push(id);
                }
                Ok(vocabulary)
            }

            /// Unigram's list of pairs: not for us, as `type` will tell.
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vocabulary, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Vocabulary::default())
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

impl<'de> Deserialize<'de> for MergeList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = MergeList;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a list of merges")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<MergeList, A::Error> {
                let mut list = MergeList::default();
                while let Some(Merge(left, right)) = seq.next_element()? {
                    list.0.push(left.0.as_bytes());
                    list.0.push(right.0.as_bytes());
                }
                Ok(list)
            }
        }
        deserializer.deserialize_seq(Reader)
    }
}

/// `"left right"` or `["left", "right"]`.
struct Merge<'a>(Text<'a>, Text<'a>);

impl<'de> Deserialize<'de> for Merge<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Merge<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a merge as \"left right\" or [\"left\", \"right\"]")
            }

            fn visit_borrowed_str<E: serde::de::Error>(self, s: &'de str) -> Result<Merge<'de>, E> {
                let (left, right) =
                    s.split_once(' ').ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(s), &self))?;
                Ok(Merge(Text(left.into()), Text(right.into())))
            }

            fn visit_str<E: serde::de::Error>(self, s: &str) -> Result<Merge<'de>, E> {
                let (left, right) =
                    s.split_once(' ').ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(s), &self))?;
                Ok(Merge(Text(left.to_string().into()), Text(right.to_string().into())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Merge<'de>, A::Error> {
                let (left, right, more) = (seq.next_element()?, seq.next_element()?, seq.next_element::<IgnoredAny>()?);
                match (left, right, more) {
                    (Some(left), Some(right), None) => Ok(Merge(left, right)),
                    _ => Err(serde::de::Error::invalid_length(0, &self)),
                }
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// A string, borrowed from the file where nothing in it is escaped.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] std::borrow::Cow<'a, str>);
