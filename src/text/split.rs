//! Pre-tokenizers: how a text is cut into words before merging, one function per named pattern. Each function is
//! the regular expression above it, written by hand so that no regex engine has to be shipped; `tests/tokenizer.rs`
//! holds them to the regex engine.

use super::unicode::Class;

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Split {
    /// No cut: SentencePiece merges across words.
    Whole,
    /// Every space begins a word: SentencePiece as BPE with `Metaspace`.
    BeforeSpaces,
    Gpt2,
    /// Digits alone, then [`Split::Gpt2`].
    Smollm,
    Qwen2,
    Llama3,
    Gpt4o,
    /// Mistral's since Nemo.
    Tekken,
    /// llama.cpp's for files that name no pattern.
    Default,
}

/// What a name in `tokenizer.ggml.pre` stands for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named {
    pub split: Split,
    /// A word that is a token is taken as such (`ignore_merges`).
    pub whole_words: bool,
    /// Where the file does not say.
    pub add_bos: bool,
}

impl Split {
    /// From GGUF's `tokenizer.ggml.pre`; the names of one line are one pattern in llama.cpp.
    pub fn named(name: &str) -> Option<Named> {
        let (split, tiktoken) = match name {
            "default" => (Split::Default, false),
            "gpt-2" | "phi-2" | "mpt" | "olmo" | "jais" | "gigachat" | "a.x-4.0" | "mellum" | "exaone4"
            | "trillion" => (Split::Gpt2, false),
            "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" | "exaone" | "minerva-7b" | "mellum2" => {
                (Split::Smollm, false)
            }
            "qwen2" | "deepseek-r1-qwen" | "stablelm2" | "kormo" | "f2llmv2" | "megrez" | "hunyuan" | "solar-open" => {
                (Split::Qwen2, false)
            }
            "llama-bpe" | "llama3" | "llama-v3" | "falcon3" | "falcon-h1" | "pixtral" | "midm-2.0" | "lfm2" => {
                (Split::Llama3, true)
            }
            "smaug-bpe" | "dbrx" | "glm4" | "chatglm-bpe" => (Split::Llama3, false),
            "gpt-4o" | "llama4" | "kanana2" | "minimax-m2" => (Split::Gpt4o, false),
            "tekken" => (Split::Tekken, true),
            _ => return None,
        };
        Some(Named { split, whole_words: tiktoken, add_bos: tiktoken })
    }

    /// From the regular expression of a `tokenizer.json`.
    pub fn of_regex(regex: &str) -> Option<Split> {
        let known = [
            (GPT2, Split::Gpt2),
            (QWEN2, Split::Qwen2),
            (LLAMA3, Split::Llama3),
            (GPT4O, Split::Gpt4o),
            (TEKKEN, Split::Tekken),
        ];
        known.into_iter().find(|(known, _)| *known == regex).map(|(_, split)| split)
    }

    pub const NAMES: &str = "smollm, qwen2, gpt-4o, llama-bpe, tekken, dbrx, gpt-2, starcoder and default";

    /// Calls `word` with each piece; together they are `text`.
    pub fn words(self, text: &str, mut word: impl FnMut(&str)) {
        match self {
            Split::Whole => each(text, str::len, &mut word),
            Split::BeforeSpaces => each(text, to_next_space, &mut word),
            Split::Gpt2 => each(text, gpt2, &mut word),
            Split::Smollm => each(text, one_digit, &mut |part| each(part, gpt2, &mut word)),
            Split::Qwen2 => each(text, |s| qwen2(s, 1), &mut word),
            Split::Llama3 => each(text, |s| qwen2(s, 3), &mut word),
            Split::Gpt4o => each(text, |s| gpt4o(s, true, 3), &mut word),
            Split::Tekken => each(text, |s| gpt4o(s, false, 1), &mut word),
            Split::Default => each(text, punctuation, &mut |part| {
                each(part, gpt2, &mut |part| each(part, numbers, &mut |part| each(part, three_digits, &mut word)))
            }),
        }
    }
}

/// Cuts off `length(rest)` bytes until nothing is left.
fn each(mut text: &str, length: impl Fn(&str) -> usize, word: &mut impl FnMut(&str)) {
    while !text.is_empty() {
        let (piece, rest) = text.split_at(length(text));
        word(piece);
        text = rest;
    }
}

/// [`GPT2`]
fn gpt2(s: &str) -> usize {
    let n = contraction(s, false);
    if n > 0 {
        return n;
    }
    let skip = s.starts_with(' ') as usize;
    skip + match class(&s[skip..]) {
        Some(c) if c.is_letter() => run(&s[skip..], Class::is_letter),
        Some(Class::Number) => run(&s[skip..], is_number),
        Some(c) if c.is_symbol() => run(&s[skip..], Class::is_symbol),
        _ => return spaces(s),
    }
}

/// [`QWEN2`] with `digits` 1, [`LLAMA3`] with 3.
fn qwen2(s: &str, digits: usize) -> usize {
    let n = contraction(s, true);
    if n > 0 {
        return n;
    }
    let skip = leader(s);
    let letters = run(&s[skip..], Class::is_letter);
    if letters > 0 {
        return skip + letters;
    }
    common(s, digits, &['\r', '\n'])
}

/// [`GPT4O`] with contractions and `digits` 3, [`TEKKEN`] without and 1.
fn gpt4o(s: &str, contractions: bool, digits: usize) -> usize {
    let skip = leader(s);
    // The leader is optional: where the word fails after it, it may be the word's own first mark.
    for word in [capitalized, upper] {
        for from in [skip, 0] {
            let n = word(&s[from..]);
            if n > 0 {
                let end = from + n;
                return if contractions { end + contraction(&s[end..], true) } else { end };
            }
            if skip == 0 {
                break;
            }
        }
    }
    common(s, digits, &['\r', '\n', '/'])
}

fn is_upper(c: Class) -> bool {
    matches!(c, Class::Upper | Class::Letter | Class::Mark)
}

fn is_lower(c: Class) -> bool {
    matches!(c, Class::Lower | Class::Letter | Class::Mark)
}

/// `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+`
fn capitalized(s: &str) -> usize {
    let head = run(s, is_upper);
    let tail = run(&s[head..], is_lower);
    if tail > 0 {
        return head + tail;
    }
    // Give back what the first class took: up to its last character that is of both.
    let last = s[..head].char_indices().rev().find(|(_, c)| is_lower(Class::of(*c)));
    last.map_or(0, |(at, c)| at + c.len_utf8())
}

/// `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*`
fn upper(s: &str) -> usize {
    match run(s, is_upper) {
        0 => 0,
        head => head + run(&s[head..], is_lower),
    }
}

/// `\p{N}{1,digits}| ?[^\s\p{L}\p{N}]+[trailing]*|\s*[\r\n]+|\s+(?!\S)|\s+`
fn common(s: &str, digits: usize, trailing: &[char]) -> usize {
    if class(s) == Some(Class::Number) {
        return s.chars().take(digits).take_while(|&c| is_number(Class::of(c))).map(char::len_utf8).sum();
    }
    let skip = s.starts_with(' ') as usize;
    let symbols = run(&s[skip..], Class::is_symbol);
    if symbols > 0 {
        let end = skip + symbols;
        return end + (s.len() - end - s[end..].trim_start_matches(trailing).len());
    }
    let blank = run(s, |c| c == Class::Space);
    match s[..blank].rfind(['\r', '\n']) {
        Some(at) => at + 1,
        None => spaces(s),
    }
}

/// `[^\r\n\p{L}\p{N}]?`
fn leader(s: &str) -> usize {
    let taken =
        |c: &char| !matches!(c, '\r' | '\n') && matches!(Class::of(*c), Class::Space) | Class::of(*c).is_symbol();
    s.chars().next().filter(taken).map_or(0, char::len_utf8)
}

/// `\s+(?!\S)|\s+`: a run of space without its last character if a word follows. At least one character.
fn spaces(s: &str) -> usize {
    let blank = run(s, |c| c == Class::Space);
    let last = s[..blank].chars().next_back().map_or(0, char::len_utf8);
    if blank == s.len() || blank == last { blank } else { blank - last }
}

/// `'s|'t|'re|'ve|'m|'ll|'d`, in any case with `fold`; 0 if it is none.
fn contraction(s: &str, fold: bool) -> usize {
    let Some(rest) = s.strip_prefix('\'') else { return 0 };
    let mut chars = rest.chars().map(|c| match c {
        'ſ' if fold => 's', // the one letter beyond ASCII that case folding adds
        c if fold => c.to_ascii_lowercase(),
        c => c,
    });
    match (chars.next(), chars.next()) {
        (Some('s'), _) => 1 + rest.chars().next().map_or(0, char::len_utf8),
        (Some('t' | 'm' | 'd'), _) => 2,
        (Some('r' | 'v'), Some('e')) | (Some('l'), Some('l')) => 3,
        _ => 0,
    }
}

/// The first character and what follows up to a space.
fn to_next_space(s: &str) -> usize {
    s.char_indices().skip(1).find(|(_, c)| *c == ' ').map_or(s.len(), |(at, _)| at)
}

/// `\p{N}`, alone; else what stands before it.
fn one_digit(s: &str) -> usize {
    match class(s) {
        Some(Class::Number) => s.chars().next().map_or(0, char::len_utf8),
        _ => run(s, |c| !is_number(c)),
    }
}

/// `[\p{P}$+<=>^~|]+`, else what stands before it.
fn punctuation(s: &str) -> usize {
    let is = |c: char| matches!(c, '$' | '+' | '<' | '=' | '>' | '^' | '~' | '|') || Class::of(c) == Class::Punctuation;
    let first = s.chars().next().is_some_and(is);
    s.find(|c| is(c) != first).unwrap_or(s.len())
}

/// `\p{N}+`, else what stands before it.
fn numbers(s: &str) -> usize {
    match run(s, is_number) {
        0 => run(s, |c| !is_number(c)),
        n => n,
    }
}

/// `[0-9][0-9][0-9]`, else what stands before it.
fn three_digits(s: &str) -> usize {
    let bytes = s.as_bytes();
    let at = bytes.windows(3).position(|w| w.iter().all(u8::is_ascii_digit));
    match at {
        Some(0) => 3,
        Some(at) => at,
        None => s.len(),
    }
}

fn is_number(c: Class) -> bool {
    c == Class::Number
}

fn class(s: &str) -> Option<Class> {
    s.chars().next().map(Class::of)
}

/// Bytes of the leading characters that `wanted` accepts.
fn run(s: &str, wanted: impl Fn(Class) -> bool) -> usize {
    s.find(|c| !wanted(Class::of(c))).unwrap_or(s.len())
}
