//! Vocabularies: the real one where its tokenizer.json is at hand, else an invented one that can be used as well.

use std::path::Path;

use serde_json::Value;

use super::header::Tokens;
use super::shapes::Shape;

const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// `data`: the folder of the tokenizers' folders.
pub fn read(shape: &Shape, data: &Path) -> Result<Tokens, String> {
    let Some(folder) = shape.vocabulary.folder else { return Ok(invented(shape, &template(&data.join("gemma-3")))) };
    let folder = data.join(folder);
    let path = folder.join("tokenizer.json");
    let failed = |problem: &dyn std::fmt::Display| format!("{}: {problem}", path.display());
    let text = std::fs::read(&path).map_err(|error| failed(&error))?;
    let json: Value = serde_json::from_slice(&text).map_err(|error| failed(&error))?;
    let size = shape.vocabulary.tokens;
    let mut texts: Vec<Option<String>> = vec![None; size];
    let mut kinds = vec![NORMAL; size];
    for (token, id) in json["model"]["vocab"].as_object().into_iter().flatten() {
        place(&mut texts, id, token)?;
    }
    for added in json["added_tokens"].as_array().into_iter().flatten() {
        let id = place(&mut texts, &added["id"], added["content"].as_str().unwrap_or_default())?;
        if added["special"] == true {
            kinds[id] = CONTROL;
        }
    }
    let texts: Vec<Vec<u8>> = texts
        .into_iter()
        .enumerate()
        .map(|(id, text)| {
            let unused = || {
                kinds[id] = UNUSED;
                format!("[PAD{id}]")
            };
            text.unwrap_or_else(unused).into_bytes()
        })
        .collect();
    let merge = |merge: &Value| match merge.as_array() {
        Some(pair) => pair.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
        None => merge.as_str().unwrap_or_default().to_string(),
    };
    let merges = json["model"]["merges"].as_array().into_iter().flatten().map(merge).collect();
    let id = |text: &str| texts.iter().position(|token| token == text.as_bytes()).map(|id| id as u32);
    let eos =
        ["<|im_end|>", "<|end|>", "<|endoftext|>"].into_iter().find_map(id).ok_or_else(|| failed(&"no end token"))?;
    Ok(Tokens { bos: None, eos, template: template(&folder), texts, kinds, merges })
}

fn place(texts: &mut [Option<String>], id: &Value, text: &str) -> Result<usize, String> {
    let size = texts.len();
    let id = id.as_u64().and_then(|id| usize::try_from(id).ok()).filter(|&id| id < size);
    let id = id.ok_or_else(|| format!("a token {text:?} outside the {size} of the model"))?;
    texts[id] = Some(text.to_string());
    Ok(id)
}

fn template(folder: &Path) -> String {
    let jinja = std::fs::read_to_string(folder.join("chat_template.jinja"));
    let of_json = |name: &str| {
        let json: Value = serde_json::from_slice(&std::fs::read(folder.join(name)).ok()?).ok()?;
        json["chat_template"].as_str().map(String::from)
    };
    let template = jinja.ok().or_else(|| of_json("tokenizer_config.json")).or_else(|| of_json("chat_template.json"));
    template.unwrap_or_else(|| "{% for message in messages %}{{ message.content }}{% endfor %}".into())
}

/// Gemma's ids of the tokens that matter, bytes, and words of nonsense.
fn invented(shape: &Shape, template: &str) -> Tokens {
    let (size, bytes) = (shape.vocabulary.tokens, shape.vocabulary.token_bytes);
    let special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"];
    let mut tokens: Vec<(Vec<u8>, i32)> = special.iter().map(|text| (text.as_bytes().to_vec(), CONTROL)).collect();
    tokens[3].1 = UNKNOWN;
    while tokens.len() < size {
        let id = tokens.len();
        tokens.push(match id {
            105 => (b"<start_of_turn>".to_vec(), CONTROL),
            106 => (b"<end_of_turn>".to_vec(), CONTROL),
            238..494 => (format!("<0x{:02X}>", id - 238).into_bytes(), BYTE),
            494 => ("\u{2581}".into(), NORMAL),
            495..521 => (vec![b'a' + (id - 495) as u8], NORMAL),
            _ => (word(id, bytes / size), NORMAL),
        });
    }
    let (texts, kinds) = tokens.into_iter().unzip();
    Tokens { texts, kinds, merges: Vec::new(), bos: Some(2), eos: 106, template: template.to_string() }
}

/// One word for each id, of at least `length` letters.
fn word(id: usize, length: usize) -> Vec<u8> {
    let mut word = Vec::new();
    let mut rest = id;
    while rest > 0 || word.len() < length {
        word.push(b'a' + (rest % 26) as u8);
        rest /= 26;
    }
    word
}
