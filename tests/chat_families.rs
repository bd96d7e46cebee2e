//! The chat templates that come with the crate: whose they are, and that they replace a file's. That they render as the
//! models' own is in `chat_template.rs`.

#[path = "tokenizer/chat.rs"]
#[allow(dead_code)]
mod chat;
#[path = "tokenizer/common.rs"]
#[allow(dead_code)]
mod common;

use chat::{small, user};
use common::{as_gguf, data, gemma_metadata, metadata};
use kinglet::ErrorCode;
use kinglet::formats::{Metadata, Value as Entry};
use kinglet::text::{ChatTemplate, Family, Tokenizer, families};
use serde_json::{Value, json};

/// Which of the templates that come with the crate is for a file, told by its header.
#[test]
fn families() {
    let of = |architecture: &str, file: Option<Metadata>| {
        let own = ("general.architecture".to_string(), Entry::String(architecture.into()));
        let entries = file.iter().flat_map(Metadata::iter).map(|(key, value)| (key.to_string(), value.clone()));
        let mut file = Metadata::new([own].into_iter().chain(entries).collect());
        let tokenizer = Tokenizer::from_gguf(&mut file).unwrap();
        ChatTemplate::chosen("family", &file, &tokenizer).map(|(_, source)| source)
    };
    let json = |name: &str, pre: &str| {
        let json = std::fs::read(data(&format!("tokenizers/{name}/tokenizer.json"))?).unwrap();
        let tokens = Tokenizer::from_tokenizer_json(&json).unwrap().vocab_size();
        Some(Metadata::new(as_gguf(&json, pre, tokens)))
    };
    for (architecture, file, name) in [
        ("llama", json("smollm2", "smollm"), "smollm2"),
        ("qwen2", json("qwen2.5", "qwen2"), "qwen2.5"),
        ("phi3", json("phi-4-mini", "gpt-4o"), "phi-4-mini"),
        ("phi3", metadata("vocab/ggml-vocab-phi-3.gguf"), "phi-3"),
        ("gemma3", Some(gemma_metadata()), "gemma-3"),
        // What shares their tokens, but not their way.
        ("smollm3", json("smollm2", "smollm"), "chatml"),
        ("qwen3moe", json("qwen2.5", "qwen2"), "chatml"),
    ] {
        if file.is_some() {
            assert_eq!(of(architecture, file).unwrap(), Family::named(name).unwrap().source, "{name}");
        }
    }
    for (names, architecture, name) in [
        (&["<bos>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"][..], "llama", "llama-3"),
        (&["<bos>", "<|im_start|>", "<|im_end|>", "<think>"], "qwen3", "qwen3"),
        // Qwen2, whose template says another sentence than Qwen2.5's where there is no system message.
        (&["<bos>", "<|im_start|>", "<|im_end|>"], "qwen2", "chatml"),
    ] {
        let file = Metadata::new(vec![("general.architecture".into(), Entry::String(architecture.into()))]);
        let found = Family::of(&file, &small(names)).unwrap();
        assert_eq!(found.name, name);
    }
    let types = include_str!("../pkg/src/types.ts");
    let (_, union) = types.split_once("type TemplateFamily = ").unwrap();
    let names: Vec<String> = families::FAMILIES.iter().map(|family| format!("\"{}\"", family.name)).collect();
    assert_eq!(union.lines().next().unwrap(), names.join(" | ") + ";", "pkg/src/types.ts");
    let file = |entries: &[(&str, &str)]| {
        Metadata::new(entries.iter().map(|(key, value)| (key.to_string(), Entry::String(value.to_string()))).collect())
    };
    let (llama, tokenizer) = (("general.architecture", "llama"), small(&["<s>", "</s>"]));
    assert_eq!(Family::of(&file(&[llama]), &tokenizer).unwrap().name, "plain");
    let error = Family::of(&file(&[llama, ("tokenizer.chat_template", "[INST]")]), &tokenizer).err().unwrap();
    assert_eq!(error.code(), ErrorCode::BadTemplate);
    assert!(
        ["(architecture llama)", "chatml, plain", "\"file\""].iter().all(|word| error.to_string().contains(word)),
        "{error}"
    );
}

/// An app's choice replaces what the file says, its template for tools included.
#[test]
fn chosen() {
    let own = |key: &str| (format!("tokenizer.{key}"), Entry::String("{{ raise_exception('the file') }}".into()));
    let file = Metadata::new(vec![own("chat_template"), own("chat_template.tool_use")]);
    let tokenizer = small(&["<bos>", "<|im_start|>", "<|im_end|>"]);
    let chosen = |choice: &str| ChatTemplate::chosen(choice, &file, &tokenizer);
    let tools = json!([{ "type": "function", "function": { "name": "f" } }]);
    for (choice, expected) in [
        ("family", "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"),
        (
            "llama-3",
            "<bos><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
        ("{% generation %}{{ messages[0].content }}{% endgeneration %}", "Hi"),
    ] {
        let (template, _) = chosen(choice).unwrap();
        assert_eq!(template.render(&user("Hi"), None, true).unwrap(), expected);
        assert_eq!(template.render(&user("Hi"), Some(&tools), true).unwrap(), expected);
    }
    let qwen = |arguments: Value| {
        let (template, _) = chosen("qwen3").unwrap();
        template.render_with(&user("Hi"), None, arguments.as_object().unwrap(), true).unwrap()
    };
    let asked = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(qwen(json!({})), asked);
    assert_eq!(qwen(json!({ "enable_thinking": false })), format!("{asked}<think>\n\n</think>\n\n"));
    for (choice, code, says) in [
        ("chatlm", ErrorCode::BadRequest, "\"chatlm\" is neither a family nor a template"),
        ("", ErrorCode::BadRequest, "smollm2, qwen2.5"),
        ("{% for m in messages %}", ErrorCode::BadTemplate, "line 1"),
    ] {
        let error = chosen(choice).err().unwrap();
        assert_eq!(error.code(), code);
        assert!(error.to_string().contains(says), "{error}");
    }
}
