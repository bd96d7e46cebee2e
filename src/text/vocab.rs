//! GGUF metadata to a [`Tokenizer`].

use super::added::{Added, Flags};
use super::bpe::{Merges, NONE, RankTable};
use super::byte_level;
use super::fim;
use super::split::{Named, Split};
use super::tokenizer::{Prefix, Symbols, Tokenizer};
use super::tokens::{Index, Kind, Tokens};
use crate::formats::Metadata;
use crate::formats::{StringArray, Value};
use crate::{Error, Result};

/// Tokens that end an answer wherever they are control tokens: of a turn, of a text, and of a file in a repository.
const END_NAMES: [&str; 21] = [
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<end_of_turn>",
    "<end_of_utterance>",
    "<|return|>",
    "<EOT>",
    "[EOT]",
    "<｜end▁of▁sentence｜>",
    "</s>",
    "<eos>",
    "<|fim_pad|>",
    "<fim-pad>",
    "<fim_pad>",
    "<|fim_repo|>",
    "<|repo_name|>",
    "<reponame>",
    "<|file_sep|>",
];
/// HTML has the one, and prose may have the other.
const TEXT_AS_WELL: [&str; 2] = ["</s>", "<eos>"];

pub(super) fn from_gguf(metadata: &mut Metadata) -> Result<Tokenizer> {
    let model = metadata.string("tokenizer.ggml.model")?.unwrap_or_default().to_string();
    let (symbols, named) = match model.as_str() {
        "gpt2" => {
            let name = metadata.string("tokenizer.ggml.pre")?.unwrap_or("default");
            let named = Split::named(name).ok_or_else(|| {
                let known = Split::NAMES;
                bad(format!("its pre-tokenizer \"{name}\" is not supported; supported are {known}"))
            })?;
            (Symbols::Bytes, named)
        }
        "llama" => (Symbols::Chars, Named { split: Split::Whole, whole_words: false, add_bos: true }),
        "" => return Err(bad("the file has none (tokenizer.ggml.model is missing)")),
        other => {
            let known = "\"gpt2\" (byte-level BPE) and \"llama\" (SentencePiece)";
            return Err(bad(format!("its kind \"{other}\" is not supported; supported are {known}")));
        }
    };

    let strings = take_strings(metadata, "tokenizer.ggml.tokens")?;
    let types = take_numbers(metadata, "tokenizer.ggml.token_type", strings.len())?;
    let mut tokens = read_tokens(&strings, types, symbols)?;
    drop(strings);

    let id = |name: &str| -> Result<Option<u32>> {
        let key = format!("tokenizer.ggml.{name}_token_id");
        match metadata.u32(&key)? {
            None | Some(u32::MAX) => Ok(None),
            Some(id) if (id as usize) < tokens.len() => Ok(Some(id)),
            Some(id) => Err(bad(format!("{key} is {id}, but there are {} tokens", tokens.len()))),
        }
    };
    let (bos, eos, unknown) = (id("bos")?, id("eos")?, id("unknown")?);
    let ends = [eos, id("eot")?, id("eom")?, id("fim_pad")?, id("fim_rep")?, id("fim_sep")?];
    let fill = [["fim_pre", "prefix"], ["fim_suf", "suffix"], ["fim_mid", "middle"]];
    let mut given = [None; 3];
    for (given, [name, older]) in given.iter_mut().zip(fill) {
        *given = id(name)?.or(id(older)?);
    }
    if types_missing(&tokens) {
        // Without token types, the ids named in the header are all that is known of control tokens.
        for id in ends.into_iter().chain(given).chain([bos]).flatten() {
            tokens.set_kind(id, Kind::Control);
        }
        unknown.inspect(|&id| tokens.set_kind(id, Kind::Unknown));
    }
    correct_kinds(&mut tokens);

    let plain = Index::new(&tokens, |kind| matches!(kind, Kind::Normal | Kind::Unused))?;
    let flags = swallowed_space(metadata, &tokens)?;
    let added = Added::new(&tokens, flags)?;
    let merges = match symbols {
        Symbols::Bytes => Merges::Ranks(read_merges(metadata, &tokens, &plain, &added.index)?),
        Symbols::Chars => Merges::Scores(read_scores(metadata, tokens.len())?),
    };
    let space = metadata.bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    let add_bos = metadata.bool("tokenizer.ggml.add_bos_token")?;
    Ok(Tokenizer {
        byte_ids: byte_ids(&tokens, &plain, symbols),
        end_ids: end_ids(&tokens, &added.index, &ends),
        fill: fim::find(&tokens, &added, given),
        spaces_first: symbols == Symbols::Chars
            && tokens.ids_of(|kind| kind == Kind::UserDefined).any(|id| tokens.get(id).contains(&b' ')),
        nfc: named.split == Split::Qwen2,
        whole_words: named.whole_words,
        prefix: if symbols == Symbols::Chars && space { Prefix::Always } else { Prefix::Never },
        add_bos: add_bos.unwrap_or(named.add_bos),
        tokens,
        plain,
        added,
        merges,
        split: named.split,
        symbols,
        unknown,
        bos,
        eos,
    })
}

pub(super) fn bad(problem: impl Into<String>) -> Error {
    Error::Tokenizer(problem.into())
}

fn read_tokens(strings: &StringArray, types: Option<Vec<i64>>, symbols: Symbols) -> Result<Tokens> {
    if strings.is_empty() {
        return Err(bad("its vocabulary is empty"));
    }
    let mut tokens = Tokens::with_capacity(strings.len());
    for (id, text) in strings.iter().enumerate() {
        let kind = types.as_ref().map_or(1, |types| types[id]);
        let Some(kind) = Kind::from_gguf(kind) else {
            return Err(bad(format!("token {id} has the type {kind}, which does not exist")));
        };
        match (kind, symbols) {
            (Kind::Byte, Symbols::Chars) => {
                let byte = byte_of(text).ok_or_else(|| {
                    bad(format!(
                        "token {id} is a byte token, but not written <0x..>: {:?}",
                        String::from_utf8_lossy(text)
                    ))
                })?;
                tokens.push(kind, |out| out.push(byte));
            }
            // Converters write a run of spaces as such; older ones left SentencePiece's way.
            (Kind::UserDefined, Symbols::Chars) => tokens.push(kind, |out| unescape(text, out)),
            (kind, _) if kind.is_added() => tokens.push(kind, |out| out.extend_from_slice(text)),
            (_, Symbols::Bytes) => tokens.push(kind, |out| byte_level::decode(text, out)),
            (_, Symbols::Chars) => tokens.push(kind, |out| unescape(text, out)),
        }
    }
    Ok(tokens)
}

/// `▁` to the space it stands for.
pub(super) fn unescape(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        match rest.strip_prefix("▁".as_bytes()) {
            Some(after) => {
                out.push(b' ');
                rest = after;
            }
            None => {
                out.push(byte);
                rest = after;
            }
        }
    }
}

/// The byte of `<0x41>`.
pub(super) fn byte_of(text: &[u8]) -> Option<u8> {
    let hex = text.strip_prefix(b"<0x")?.strip_suffix(b">")?;
    let hex = std::str::from_utf8(hex).ok().filter(|hex| hex.len() == 2)?;
    u8::from_str_radix(hex, 16).ok()
}

/// The token of each single byte.
pub(super) fn byte_ids(tokens: &Tokens, plain: &Index, symbols: Symbols) -> Box<[u32; 256]> {
    let mut ids = Box::new([NONE; 256]);
    match symbols {
        Symbols::Bytes => {
            for byte in 0..=255 {
                ids[byte as usize] = plain.find(tokens, &[byte]).unwrap_or(NONE);
            }
        }
        Symbols::Chars => tokens.ids_of(|kind| kind == Kind::Byte).for_each(|id| ids[tokens.get(id)[0] as usize] = id),
    }
    ids
}

fn read_merges(metadata: &mut Metadata, tokens: &Tokens, plain: &Index, added: &Index) -> Result<RankTable> {
    let merges = take_strings(metadata, "tokenizer.ggml.merges")?;
    let mut builder = MergeReader::new(merges.len(), tokens, plain, added);
    for merge in merges.iter() {
        // The space of "left right" is not the first character, which may be a space itself.
        let at = merge.iter().skip(1).position(|&b| b == b' ').map(|at| at + 1);
        let (left, right) = at.map_or((merge, &[][..]), |at| (&merge[..at], &merge[at + 1..]));
        builder.push(|out| byte_level::decode(left, out), |out| byte_level::decode(right, out))?;
    }
    Ok(builder.table)
}

/// Merges by text to merges by id.
pub(super) struct MergeReader<'a> {
    pub table: RankTable,
    tokens: &'a Tokens,
    plain: &'a Index,
    added: &'a Index,
    whole: Vec<u8>,
    /// What the last merge made.
    last: u32,
}

impl<'a> MergeReader<'a> {
    pub fn new(merges: usize, tokens: &'a Tokens, plain: &'a Index, added: &'a Index) -> Self {
        Self { table: RankTable::with_capacity(merges), tokens, plain, added, whole: Vec::new(), last: 0 }
    }

    /// `left` and `right` append the bytes of the two tokens.
    pub fn push(&mut self, left: impl FnOnce(&mut Vec<u8>), right: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        self.whole.clear();
        left(&mut self.whole);
        let middle = self.whole.len();
        right(&mut self.whole);
        let find = |bytes: &[u8]| self.plain.find(self.tokens, bytes).or_else(|| self.added.find(self.tokens, bytes));
        let (left, right) = self.whole.split_at(middle);
        // Vocabularies have the tokens of successive merges in succession.
        let guess = self.last + 1;
        let merged = if self.tokens.get(guess) == self.whole { Some(guess) } else { find(&self.whole) };
        let (Some(left), Some(right), Some(merged)) = (find(left), find(right), merged) else {
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            let (n, left, right) = (self.table.len(), text(left), text(right));
            return Err(bad(format!("merge {n}, of {left:?} and {right:?}, is not made of tokens")));
        };
        self.last = merged;
        // Text never merges into a control token.
        let control = matches!(self.tokens.kind(merged), Some(Kind::Control | Kind::Unknown));
        self.table.push(left, right, if control { NONE } else { merged });
        Ok(())
    }
}

fn read_scores(metadata: &mut Metadata, tokens: usize) -> Result<Vec<f32>> {
    let key = "tokenizer.ggml.scores";
    match metadata.take(key) {
        Some(Value::Floats(scores)) if scores.len() == tokens => Ok(scores),
        Some(Value::Floats(scores)) => Err(bad(format!("{key} has {} entries for {tokens} tokens", scores.len()))),
        None => Err(bad(format!("{key} is missing"))),
        Some(_) => Err(bad(format!("{key} is not an array of floats"))),
    }
}

fn take_strings(metadata: &mut Metadata, key: &str) -> Result<StringArray> {
    match metadata.take(key) {
        Some(Value::Strings(strings)) => Ok(strings),
        None => Err(bad(format!("{key} is missing"))),
        Some(_) => Err(bad(format!("{key} is not an array of strings"))),
    }
}

fn take_numbers(metadata: &mut Metadata, key: &str, tokens: usize) -> Result<Option<Vec<i64>>> {
    match metadata.take(key) {
        None => Ok(None),
        Some(Value::Ints(numbers)) if numbers.len() == tokens => Ok(Some(numbers)),
        Some(Value::Ints(numbers)) => Err(bad(format!("{key} has {} entries for {tokens} tokens", numbers.len()))),
        Some(_) => Err(bad(format!("{key} is not an array of integers"))),
    }
}

fn types_missing(tokens: &Tokens) -> bool {
    tokens.ids_of(|kind| kind != Kind::Normal).next().is_none()
}

/// Some files have control tokens as text, which would never end an answer, and which users could write.
fn correct_kinds(tokens: &mut Tokens) {
    let known = |text: &str| {
        !TEXT_AS_WELL.contains(&text) && (END_NAMES.contains(&text) || fim::NAMES.as_flattened().contains(&text))
    };
    let marked = |text: &str| text.starts_with("<|") && text.ends_with("|>");
    let wrong = |&id: &u32| match std::str::from_utf8(tokens.get(id)) {
        Ok(text) => known(text) && (marked(text) || tokens.kind(id) == Some(Kind::UserDefined)),
        Err(_) => false,
    };
    let ids: Vec<u32> = tokens.ids_of(|kind| matches!(kind, Kind::Normal | Kind::UserDefined)).filter(wrong).collect();
    ids.into_iter().for_each(|id| tokens.set_kind(id, Kind::Control));
}

/// GGUF does not keep which tokens swallow the space after them. Phi-3's and Phi-4-mini's do, but for these.
fn swallowed_space(metadata: &Metadata, tokens: &Tokens) -> Result<Vec<(u32, Flags)>> {
    const KEEP: [&[u8]; 4] = [b"<unk>", b"<s>", b"<|endoftext|>", b"<|endofprompt|>"];
    if metadata.string("general.architecture")? != Some("phi3") {
        return Ok(Vec::new());
    }
    let ids = tokens.ids_of(Kind::is_added).filter(|&id| !KEEP.contains(&tokens.get(id)));
    Ok(ids.map(|id| (id, Flags { rstrip: true, ..Flags::default() })).collect())
}

/// `ends` and the control tokens with a known name.
pub(super) fn end_ids(tokens: &Tokens, added: &Index, ends: &[Option<u32>]) -> Vec<u32> {
    let named = END_NAMES.iter().filter_map(|name| added.find(tokens, name.as_bytes()));
    let named = named.filter(|&id| tokens.kind(id) == Some(Kind::Control));
    let mut ids: Vec<u32> = ends.iter().flatten().copied().chain(named).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}
