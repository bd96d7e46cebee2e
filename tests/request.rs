//! What a request may ask for beside a prompt: a text filled in, thoughts told from the answer or left out. On a small
//! model with random weights and the tokens of Qwen's families.

#[path = "common/gguf.rs"]
mod gguf;

use gguf::{Gguf, LAYER, NUMBERS};
use kinglet::generate::sampler::SplitMix64;
use kinglet::generate::{FinishReason, GenerateOptions};
use kinglet::session::{LoadOptions, Request, Session, Step};
use kinglet::source::MemorySource;
use kinglet::text::tokenizer::Special;
use kinglet::{Error, ErrorCode};
use pollster::block_on;
use serde_json::{Value, json};

const FILL: [&str; 4] = ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|fim_pad|>"];
/// As Qwen3's: thoughts are begun by the template, or ended at once.
const TEMPLATE: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n\
    {% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% elif begin is defined %}<think>\n{% endif %}";
const THINK: [&str; 2] = ["<think>", "</think>"];

/// `kinds`: GGUF's type of each token beyond the bytes.
fn load(extra: &[(&str, u32)], template: Option<&str>) -> Session {
    let printable = |b: u32| matches!(b, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut odd = 0x100..;
    let byte = |b: u32| char::from_u32(if printable(b) { b } else { odd.next().unwrap() }).unwrap().to_string();
    let bytes: Vec<String> = (0..256).map(byte).collect();
    let tokens: Vec<&str> = bytes.iter().map(String::as_str).chain(extra.iter().map(|(name, _)| *name)).collect();
    let kinds = (0..256).map(|_| 1).chain(extra.iter().map(|(_, kind)| *kind));
    let kinds: Vec<u8> = kinds.flat_map(u32::to_le_bytes).collect();
    let mut file = Gguf::new(3)
        .string("general.architecture", "llama")
        .string("tokenizer.ggml.model", "gpt2")
        .string("tokenizer.ggml.pre", "qwen2")
        .strings("tokenizer.ggml.tokens", &tokens)
        .array("tokenizer.ggml.token_type", 5, tokens.len() as u64, kinds)
        .strings("tokenizer.ggml.merges", &[])
        .entry("llama.attention.layer_norm_rms_epsilon", 6, 1e-5f32.to_le_bytes());
    for (key, value) in NUMBERS.into_iter().chain([("context_length", 256)]) {
        file = file.u32(&format!("llama.{key}"), value);
    }
    if let Some(template) = template {
        file = file.string("tokenizer.chat_template", template);
    }
    let mut random = SplitMix64(5);
    let mut tensor = |file: Gguf, name: &str, rows: u64, cols: u64| {
        let values = (0..rows.max(1) * cols).flat_map(|_| (random.unit() as f32 - 0.5).to_le_bytes());
        let dims = if rows == 0 { vec![cols] } else { vec![cols, rows] };
        file.tensor(name, &dims, 0, values.collect::<Vec<u8>>())
    };
    file = tensor(file, "token_embd.weight", tokens.len() as u64, 32);
    file = tensor(file, "output_norm.weight", 0, 32);
    for (name, rows, cols) in LAYER {
        file = tensor(file, &format!("blk.0.{name}.weight"), rows, cols);
    }
    block_on(Session::load(&mut [MemorySource(file.build())], LoadOptions::default(), |_, _| {})).unwrap()
}

fn qwen() -> Session {
    let control = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"].into_iter().chain(FILL).map(|name| (name, 3));
    let tokens: Vec<(&str, u32)> = control.chain(THINK.map(|name| (name, 4))).collect();
    load(&tokens, Some(TEMPLATE))
}

fn greedy(max_tokens: usize) -> GenerateOptions {
    GenerateOptions { temperature: 0.0, max_tokens: Some(max_tokens), ignore_eos: true, ..Default::default() }
}

/// Always the same token.
fn always(session: &Session, token: &str, max_tokens: usize) -> GenerateOptions {
    let logit_bias = [(session.tokenizer().id(token).unwrap(), 1000.0)].into();
    GenerateOptions { logit_bias, ..greedy(max_tokens) }
}

#[derive(Debug, Default)]
struct Answer {
    ids: Vec<u32>,
    text: String,
    reasoning: String,
    reason: Option<FinishReason>,
}

fn finish(session: &mut Session) -> Answer {
    let mut answer = Answer::default();
    loop {
        match block_on(session.step()).unwrap() {
            Step::Prefill { .. } => {}
            Step::Token { id, text, reasoning, .. } => {
                answer.ids.push(id);
                answer.text += &text;
                answer.reasoning += &reasoning;
            }
            Step::Done { text, reasoning, reason, .. } => {
                answer.text += &text;
                answer.reasoning += &reasoning;
                answer.reason = Some(reason);
                return answer;
            }
        }
    }
}

fn chat(session: &mut Session, options: GenerateOptions, more: Value) -> Answer {
    let mut request = json!({ "messages": [{ "role": "user", "content": "Hi" }] });
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let request = Request { options, ..serde_json::from_value(request).unwrap() };
    session.start(&request).unwrap();
    finish(session)
}

fn fill(prompt: &str, suffix: &str, options: GenerateOptions) -> Request {
    Request { prompt: Some(prompt.into()), suffix: Some(suffix.into()), options, ..Request::default() }
}

#[test]
fn fills_in_the_middle() {
    let mut session = qwen();
    // Code may well talk about the tokens; it is text for all that.
    let (prefix, suffix) = ("def f(x):\n    # <|fim_middle|> ü\n    return ", "\n\nprint(f(2)) # <|im_end|>\n");
    let id = |name: &str| session.tokenizer().id(name).unwrap();
    let plain = |text: &str| session.tokenizer().encode(text, Special::Plain);
    let expected = [&[id(FILL[0])][..], &plain(prefix), &[id(FILL[1])], &plain(suffix), &[id(FILL[2])]].concat();
    assert_eq!(session.tokenizer().fill_in_middle(prefix, suffix).unwrap(), expected);
    assert_eq!(expected.len(), 3 + prefix.len() + suffix.len());

    session.start(&fill(prefix, suffix, greedy(12))).unwrap();
    let filled = finish(&mut session);
    assert_eq!(session.stats().prompt_tokens, expected.len());
    session.start_tokens(expected, &greedy(12), false).unwrap();
    assert_eq!(filled.ids, finish(&mut session).ids);
    // Padding and the like end what is filled in.
    for end in ["<|fim_pad|>", "<|endoftext|>"] {
        let options = GenerateOptions { ignore_eos: false, ..always(&session, end, 12) };
        session.start(&fill("a", "", options)).unwrap();
        let answer = finish(&mut session);
        assert_eq!((answer.ids.len(), answer.reason), (1, Some(FinishReason::Stop)), "{end}");
    }
}

#[test]
fn what_cannot_be_filled_in() {
    let mut session = load(&[("<|endoftext|>", 3)], None);
    let error = session.start(&fill("a", "b", greedy(1))).unwrap_err();
    assert!(matches!(&error, Error::BadRequest(what) if what.contains("no tokens to fill in the middle")), "{error}");
    let mut session = qwen();
    let request = json!({ "messages": [{ "role": "user", "content": "Hi" }], "suffix": "b" });
    let error = session.start(&serde_json::from_value(request).unwrap()).unwrap_err();
    assert_eq!(error.code(), ErrorCode::BadRequest);
    assert!(error.to_string().contains("suffix goes with a prompt"), "{error}");
}

#[test]
fn thoughts_are_told_apart() {
    // As text and as control tokens, which are not shown otherwise.
    for kind in [4, 3] {
        let control = ["<|im_start|>", "<|im_end|>"].map(|name| (name, 3));
        let tokens: Vec<(&str, u32)> = control.into_iter().chain(THINK.map(|name| (name, kind))).collect();
        let mut session = load(&tokens, Some(TEMPLATE));
        let tag = |session: &Session, token: &str| always(session, token, 4);

        let options = tag(&session, "<think>");
        let answer = chat(&mut session, options.clone(), json!({}));
        assert_eq!((answer.text.as_str(), answer.reasoning.as_str()), ("", "<think><think><think>"));
        // The template has begun already.
        let begun = json!({ "chat_template_kwargs": { "begin": true } });
        let answer = chat(&mut session, options, begun.clone());
        assert_eq!((answer.text.as_str(), answer.reasoning.as_str()), ("", "<think><think><think><think>"));
        let options = tag(&session, "</think>");
        let answer = chat(&mut session, options, begun.clone());
        assert_eq!((answer.text.as_str(), answer.reasoning.as_str()), ("</think></think></think>", ""));
        // Whatever the model says until then.
        let answer = chat(&mut session, greedy(20), begun);
        assert!(answer.text.is_empty() && !answer.reasoning.is_empty(), "{answer:?}");
        let raw = session.tokenizer().decode(&answer.ids, false);
        assert_eq!(answer.reasoning, raw.trim());
    }
}

#[test]
fn thoughts_can_be_left_out() {
    let mut session = qwen();
    let thinking = chat(&mut session, greedy(8), json!({}));
    let thinking_tokens = session.stats().prompt_tokens;
    let by_template = chat(&mut session, greedy(8), json!({ "chat_template_kwargs": { "enable_thinking": false } }));
    let ended = session.tokenize("<think>\n\n</think>\n\n").len();
    assert_eq!(session.stats().prompt_tokens, thinking_tokens + ended);
    let by_effort = chat(&mut session, greedy(8), json!({ "reasoning_effort": "none" }));
    assert_eq!(by_template.ids, by_effort.ids);
    assert_ne!(by_template.ids, thinking.ids);
    assert_eq!(by_effort.reasoning, "");
    assert_eq!(by_effort.text, session.tokenizer().decode(&by_effort.ids, false));
    // The template's own word counts for more.
    let both = json!({ "reasoning_effort": "none", "chat_template_kwargs": { "enable_thinking": true } });
    assert_eq!(chat(&mut session, greedy(8), both).ids, thinking.ids);
    let other = chat(&mut session, greedy(8), json!({ "reasoning_effort": "high" }));
    assert_eq!(other.ids, thinking.ids);
}

/// Raw text is nobody's turn: the tags are text in it.
#[test]
fn raw_text_has_no_thoughts() {
    let mut session = qwen();
    let options = always(&session, "<think>", 3);
    session.start(&Request { prompt: Some("x<think>".into()), options, ..Request::default() }).unwrap();
    let answer = finish(&mut session);
    assert_eq!((answer.text.as_str(), answer.reasoning.as_str()), ("<think><think><think>", ""));
}

/// Thoughts are free, the answer behind them is not; where the model is told not to think, it cannot begin to.
#[cfg(feature = "grammar")]
#[test]
fn a_form_begins_behind_the_thoughts() {
    use kinglet::grammar::{Guide, Spec, Vocabulary};
    let mut session = qwen();
    let vocabulary = Vocabulary::of(session.tokenizer()).unwrap();
    let spec: Spec = serde_json::from_value(json!({ "type": "regex", "regex": "yes|no" })).unwrap();
    let mut ask = |token: &str, arguments: Value| {
        let options = GenerateOptions { ignore_eos: false, ..always(&session, token, 12) };
        let request = json!({ "messages": [{ "role": "user", "content": "Hi" }], "chat_template_kwargs": arguments });
        let request = Request { options, ..serde_json::from_value(request).unwrap() };
        let guide = Guide::new(&vocabulary, &spec).unwrap();
        session.start_constrained(&request, Some(Box::new(guide))).unwrap();
        finish(&mut session)
    };
    let thinks = ask("<think>", json!({}));
    assert!(thinks.text.is_empty() && thinks.reasoning.starts_with("<think>"), "{thinks:?}");
    assert_eq!((thinks.ids.len(), thinks.reason), (12, Some(FinishReason::Length)));
    for (token, arguments) in [("</think>", json!({ "begin": 1 })), ("<think>", json!({ "enable_thinking": false }))] {
        let answer = ask(token, arguments);
        assert!(["yes", "no"].contains(&answer.text.as_str()) && answer.reasoning.is_empty(), "{answer:?}");
        assert_eq!(answer.reason, Some(FinishReason::Stop));
    }
}

/// An answer that is begun goes on as the raw text does: it is no beginning of a text, nor of thoughts.
#[test]
fn goes_on_with_an_answer() {
    let mut session = qwen();
    let said = json!([{ "role": "user", "content": "Hi" }, { "role": "assistant", "content": "So " }]);
    let begun = chat(&mut session, greedy(8), json!({ "messages": said, "continue_final_message": true }));
    let prompt = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nSo ";
    session.start(&Request { prompt: Some(prompt.into()), options: greedy(8), ..Request::default() }).unwrap();
    let raw = finish(&mut session);
    assert_eq!((begun.ids.len(), begun.ids), (8, raw.ids));
    assert_eq!(begun.text, raw.text);
    let error = session
        .start(&Request { continue_final_message: true, messages: Some(vec![]), ..Request::default() })
        .unwrap_err();
    assert_eq!(error.code(), ErrorCode::BadRequest);
}
