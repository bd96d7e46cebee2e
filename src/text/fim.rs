//! Fill in the middle: what models of code were trained to write between a prefix and a suffix.

use super::Tokenizer;
use super::added::Added;
use super::tokenizer::Special;
use super::tokens::Tokens;

/// Of prefix, suffix and middle, as families call them (llama.cpp looks for the same).
pub(super) const NAMES: [[&str; 3]; 8] = [
    ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"],
    ["<fim_prefix>", "<fim_suffix>", "<fim_middle>"],
    ["<fim-prefix>", "<fim-suffix>", "<fim-middle>"],
    ["<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"],
    ["<PRE>", "<SUF>", "<MID>"],
    ["▁<PRE>", "▁<SUF>", "▁<MID>"],
    ["<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"],
    ["<|prefix|>", "<|suffix|>", "<|middle|>"],
];

/// The three tokens: `given` by the file, or else by name.
pub(super) fn find(tokens: &Tokens, added: &Added, given: [Option<u32>; 3]) -> Option<[u32; 3]> {
    let all = |ids: [Option<u32>; 3]| Some([ids[0]?, ids[1]?, ids[2]?]);
    let named = |names: &[&str; 3]| all(names.map(|name| added.index.find(tokens, name.as_bytes())));
    all(given).or_else(|| NAMES.iter().find_map(named))
}

impl Tokenizer {
    /// The prompt that asks for what stands between `prefix` and `suffix`; BOS goes first if the file wants it. Nothing
    /// in either is read as a special token. None for a vocabulary without the tokens for it.
    pub fn fill_in_middle(&self, prefix: &str, suffix: &str) -> Option<Vec<u32>> {
        let [before, after, middle] = self.fill?;
        let mut ids: Vec<u32> = self.bos().filter(|_| self.add_bos()).into_iter().collect();
        ids.push(before);
        ids.extend(self.encode(prefix, Special::Plain));
        ids.push(after);
        ids.extend(self.encode(suffix, Special::Plain));
        ids.push(middle);
        Some(ids)
    }
}
