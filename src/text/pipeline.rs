//! The normalizer and the pre-tokenizer of a `tokenizer.json`, as far as they are known here.

use super::split::Split;
use super::tokenizer::{Prefix, Symbols};
use super::vocab::bad;
use crate::Result;
use serde_json::Value;

pub(super) struct Pipeline {
    pub nfc: bool,
    pub prefix: Prefix,
    pub split: Split,
    pub symbols: Symbols,
}

impl Pipeline {
    pub fn parse(normalizer: &Value, pre_tokenizer: &Value) -> Result<Pipeline> {
        let (mut nfc, mut prefix, mut spaces) = (false, Prefix::Never, false);
        for step in flat(normalizer, "normalizers") {
            match name(step) {
                "NFC" => nfc = true,
                "Prepend" if step["prepend"] == "▁" => prefix = Prefix::Always,
                "Replace" if step["pattern"]["String"] == " " && step["content"] == "▁" => spaces = true,
                _ => return Err(unknown("normalizer", step)),
            }
        }

        let (mut split, mut digits, mut byte_level) = (None, false, false);
        for step in flat(pre_tokenizer, "pretokenizers") {
            match name(step) {
                "ByteLevel" if step["add_prefix_space"] != true => {
                    byte_level = true;
                    if step["use_regex"] != false {
                        // One pattern only: a second one would cut the first one's pieces.
                        let known = if split.is_none() { Some(Split::Gpt2) } else { None };
                        split = Some(known.ok_or_else(|| unknown("pre-tokenizer", pre_tokenizer))?);
                    }
                }
                "Digits" if step["individual_digits"] == true && split.is_none() => digits = true,
                "Metaspace" if step["replacement"] == "▁" && split.is_none() => {
                    spaces = true;
                    prefix = match step["prepend_scheme"].as_str() {
                        Some("never") => Prefix::Never,
                        Some("first") => Prefix::FirstIfMissing,
                        _ if step["add_prefix_space"] == false => Prefix::Never,
                        _ => Prefix::IfMissing,
                    };
                    split = Some(if step["split"] == false { Split::Whole } else { Split::BeforeSpaces });
                }
                // No space is left to split at.
                "Split" if spaces && step["pattern"]["String"] == " " => {}
                "Split" if split.is_none() => {
                    let known = step["pattern"]["Regex"].as_str().and_then(Split::of_regex);
                    split = Some(known.ok_or_else(|| unknown("pre-tokenizer", step))?);
                }
                _ => return Err(unknown("pre-tokenizer", step)),
            }
        }
        let (split, symbols) = match (byte_level, split, digits) {
            (true, Some(Split::Gpt2), true) => (Split::Smollm, Symbols::Bytes),
            (true, Some(split), false) => (split, Symbols::Bytes),
            (false, None, false) if spaces => (Split::Whole, Symbols::Chars),
            (false, Some(split @ (Split::Whole | Split::BeforeSpaces)), false) => (split, Symbols::Chars),
            _ => return Err(unknown("pre-tokenizer", pre_tokenizer)),
        };
        Ok(Pipeline { nfc, prefix, split, symbols })
    }
}

fn name(step: &Value) -> &str {
    step["type"].as_str().unwrap_or_default()
}

/// The steps of a sequence, one alone, or none.
fn flat<'a>(step: &'a Value, key: &str) -> Vec<&'a Value> {
    match (step, step[key].as_array()) {
        (Value::Null, _) => Vec::new(),
        (_, Some(steps)) => steps.iter().flat_map(|step| flat(step, key)).collect(),
        _ => vec![step],
    }
}

fn unknown(what: &str, step: &Value) -> crate::Error {
    bad(format!("tokenizer.json: its {what} is not supported: {step}"))
}
