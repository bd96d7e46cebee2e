//! Answers in a given form, by the model that comes with the package.

use kinglet::generate::answer_signals::Signal;
use kinglet::generate::{AnswerSignals, Constraint, FinishReason};
use kinglet::grammar::{Guide, Spec, Vocabulary};
use kinglet::session::{LoadOptions, Request, Session, Step};
use kinglet::source::FileSource;
use kinglet::{ErrorCode, Result};
use pollster::block_on;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const PROMPTS: [&str; 3] = ["Tell me a story about a bird.", "Who are you?", "What is in the box?"];

fn session() -> Session {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/models/kinglet-tiny.gguf");
    let source = FileSource::open(std::path::Path::new(model)).unwrap();
    block_on(Session::load(&mut [source], LoadOptions { context_length: Some(1024), ..Default::default() }, |_, _| {}))
        .unwrap()
}

struct Bench {
    session: Session,
    vocabulary: Vocabulary,
}

#[derive(Debug, Default)]
struct Answer {
    ids: Vec<u32>,
    text: String,
    reason: Option<FinishReason>,
    signals: Option<AnswerSignals>,
    /// name, arguments
    calls: Vec<(String, String)>,
}

impl Bench {
    fn new() -> Self {
        let session = session();
        let vocabulary = Vocabulary::of(session.tokenizer()).unwrap();
        Self { session, vocabulary }
    }

    fn guide(&self, spec: Value) -> Result<Guide> {
        Guide::new(&self.vocabulary, &serde_json::from_value::<Spec>(spec).unwrap())
    }

    fn answer(&mut self, request: Value, spec: Option<Value>) -> Result<Answer> {
        let request: Request = serde_json::from_value(request).unwrap();
        let constraint = spec.map(|spec| self.guide(spec)).transpose()?;
        let constraint = constraint.map(|guide| Box::new(guide) as Box<dyn Constraint>);
        self.session.start_constrained(&request, constraint)?;
        let mut answer = Answer::default();
        loop {
            let pieces = match block_on(self.session.step())? {
                Step::Prefill { .. } => continue,
                Step::Token { id, text, calls, .. } => {
                    answer.ids.push(id);
                    answer.text += &text;
                    calls
                }
                Step::Done { text, reason, signals, calls, .. } => {
                    answer.text += &text;
                    answer.reason = Some(reason);
                    answer.signals = Some(*signals);
                    calls
                }
            };
            for piece in pieces {
                answer.calls.extend(piece.name.map(|name| (name, String::new())));
                answer.calls[piece.index].1 += &piece.arguments;
            }
            if answer.reason.is_some() {
                return Ok(answer);
            }
        }
    }
}

fn chat(prompt: &str, max_tokens: usize, temperature: f64) -> Value {
    let messages = json!([{ "role": "user", "content": prompt }]);
    json!({ "messages": messages, "max_tokens": max_tokens, "temperature": temperature, "seed": 7 })
}

fn schema(schema: Value) -> Value {
    json!({ "type": "json_schema", "schema": schema })
}

fn person() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "pattern": "^[A-Z][a-z]{2,9}$" },
            "age": { "type": "integer", "minimum": 5, "maximum": 120 },
            "mood": { "enum": ["glad", "sad", 3, null] },
            "friends": { "type": "array", "items": { "type": "string", "maxLength": 6 }, "minItems": 1, "maxItems": 2 },
        },
        "required": ["name", "age", "mood", "friends"],
        "additionalProperties": false,
    })
}

fn check_person(text: &str) {
    let value: BTreeMap<String, Value> = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
    assert_eq!(value.keys().collect::<Vec<_>>(), ["age", "friends", "mood", "name"], "{text}");
    let name = value["name"].as_str().unwrap();
    assert!((3..=10).contains(&name.len()) && name.as_bytes()[0].is_ascii_uppercase(), "{text}");
    assert!(name[1..].bytes().all(|b| b.is_ascii_lowercase()), "{text}");
    assert!((5..=120).contains(&value["age"].as_u64().unwrap()), "{text}");
    assert!([json!("glad"), json!("sad"), json!(3), Value::Null].contains(&value["mood"]), "{text}");
    let friends = value["friends"].as_array().unwrap();
    assert!(
        (1..=2).contains(&friends.len()) && friends.iter().all(|f| f.as_str().unwrap().chars().count() <= 6),
        "{text}"
    );
}

#[test]
fn answers_have_the_form() {
    let mut bench = Bench::new();
    let mut stopped = 0;
    for prompt in PROMPTS {
        for temperature in [0.0, 1.5] {
            let answer = bench.answer(chat(prompt, 300, temperature), Some(schema(person()))).unwrap();
            if answer.reason == Some(FinishReason::Stop) {
                check_person(&answer.text);
                stopped += 1;
            }
            let regex = json!({ "type": "regex", "regex": "(yes|no), [a-z]{3,8}(\\.|!)" });
            let answer = bench.answer(chat(prompt, 60, temperature), Some(regex)).unwrap();
            let rest = answer.text.strip_prefix("yes, ").or(answer.text.strip_prefix("no, ")).unwrap();
            assert!(rest.ends_with(['.', '!']) && (4..=9).contains(&rest.len()), "{answer:?}");
            let lark = "start: sum\nsum: NUMBER (\"+\" NUMBER){1,3}\nNUMBER: /[1-9][0-9]{0,2}/\n";
            let answer = bench
                .answer(chat(prompt, 60, temperature), Some(json!({ "type": "grammar", "grammar": lark })))
                .unwrap();
            let numbers: Vec<u32> = answer.text.split('+').map(|n| n.parse().unwrap()).collect();
            assert!((2..=4).contains(&numbers.len()), "{answer:?}");
            let answer = bench.answer(chat(prompt, 40, temperature), Some(json!({ "type": "json_object" }))).unwrap();
            assert!(answer.text.starts_with('{'), "{answer:?}");
        }
    }
    assert!(stopped >= 4, "{stopped} of 6");
}

/// Of an answer that the model gives anyway, nothing is changed: neither by its very text as a form, nor by one that fits all.
#[test]
fn an_answer_that_fits_is_left_as_it_is() {
    let mut bench = Bench::new();
    for prompt in PROMPTS {
        let free = bench.answer(chat(prompt, 120, 0.0), None).unwrap();
        assert!(free.ids.len() > 5, "{free:?}");
        let escape =
            |c: char| if c.is_alphanumeric() || c == ' ' { c.to_string() } else { format!("\\x{{{:x}}}", c as u32) };
        let exact: String = free.text.chars().map(escape).collect();
        for regex in [format!("{exact}(.|\\n)*"), "(.|\\n)*".to_string()] {
            let bound = bench.answer(chat(prompt, 120, 0.0), Some(json!({ "type": "regex", "regex": regex }))).unwrap();
            assert_eq!(bound.ids, free.ids, "{regex}");
            assert_eq!((bound.text, bound.reason), (free.text.clone(), free.reason));
        }
    }
}

#[test]
fn forced_text_says_nothing_about_the_model() {
    let mut bench = Bench::new();
    let form = json!({ "type": "regex", "regex": "The answer is (yes|no)\\." });
    let answer = bench.answer(chat(PROMPTS[0], 60, 0.0), Some(form)).unwrap();
    let signals = answer.signals.unwrap();
    assert_eq!(signals.get(Signal::LogLength), Some((answer.ids.len() as f64).ln()));
    // One choice was left.
    assert_eq!(signals.get(Signal::MeanLogprob), signals.get(Signal::MinLogprob), "{signals:?}");
    let form = json!({ "type": "regex", "regex": "Nothing at all\\." });
    let answer = bench.answer(chat(PROMPTS[0], 60, 0.0), Some(form)).unwrap();
    assert_eq!(answer.text, "Nothing at all.");
    let signals = answer.signals.unwrap();
    assert!(signals.get(Signal::LogLength).is_some() && signals.get(Signal::MeanLogprob).is_none(), "{signals:?}");
}

/// Whatever the budget is, the answer is whole.
#[test]
fn the_end_comes_in_time() {
    let mut bench = Bench::new();
    let nested = json!({
        "type": "object",
        "properties": { "a": { "type": "array", "items": { "$ref": "#" }, "minItems": 0, "maxItems": 3 }, "s": { "type": "string" } },
        "required": ["a", "s"],
    });
    for form in [schema(person()), schema(nested), json!({ "type": "json_object" })] {
        let mut form = form;
        form["close_within_budget"] = true.into();
        let shortest =
            (1..200).find(|&most| bench.answer(chat(PROMPTS[0], most, 0.0), Some(form.clone())).is_ok()).unwrap();
        let error = bench.answer(chat(PROMPTS[0], shortest - 1, 0.0), Some(form.clone())).unwrap_err();
        assert!(error.to_string().contains("max_tokens"), "{error}");
        for most in (shortest..shortest + 8).chain([shortest + 20, 120]) {
            for temperature in [0.0, 2.0] {
                let answer = bench.answer(chat(PROMPTS[0], most, temperature), Some(form.clone())).unwrap();
                assert_eq!(answer.reason, Some(FinishReason::Stop), "{most}: {answer:?}");
                assert!(answer.ids.len() <= most);
                let value: Value =
                    serde_json::from_str(&answer.text).unwrap_or_else(|e| panic!("{most}: {e}: {answer:?}"));
                if form["schema"]["properties"]["age"].is_object() {
                    check_person(&answer.text);
                }
                assert!(value.is_object());
            }
        }
    }
}

#[test]
fn what_is_wrong_with_a_form_is_said() {
    let mut bench = Bench::new();
    let cases = [
        (schema(json!({ "type": "array", "uniqueItems": true })), "uniqueItems"),
        (schema(json!({ "type": "object", "not": {} })), "not"),
        (schema(json!({ "type": "strang" })), "strang"),
        (schema(json!({ "$ref": "#/$defs/missing" })), "missing"),
        (schema(json!({ "oneOf": [{ "type": "number" }, { "type": "integer" }] })), "oneOf"),
        (schema(json!({ "type": "string", "format": "colour" })), "colour"),
        (schema(json!({ "type": "string", "pattern": "(" })), "response_format.json_schema.schema"),
        (schema(json!({ "type": "integer", "minimum": 5, "maximum": 4 })), "minimum"),
        (schema(json!(7)), "object"),
        ((0..100).fold(schema(json!({})), |inner, _| schema(json!({ "items": inner["schema"] }))), "levels"),
        (json!({ "type": "regex", "regex": "a(" }), "response_format.regex"),
        (json!({ "type": "regex", "regex": "(".repeat(1000) }), "response_format.regex"),
        (json!({ "type": "grammar", "grammar": "start: missing" }), "missing"),
        (json!({ "type": "grammar", "grammar": "" }), "response_format.grammar"),
        (
            json!({ "type": "grammar", "grammar": "start: ".to_string() + &"(".repeat(100_000) }),
            "response_format.grammar",
        ),
    ];
    for (form, named) in cases {
        let error = bench.guide(form.clone()).err().unwrap_or_else(|| panic!("{form} was taken"));
        assert_eq!(error.code(), ErrorCode::BadRequest);
        assert!(error.to_string().contains(named), "{named}: {error}");
    }
    let mut request = chat("Hi", 5, 0.0);
    request["ignore_eos"] = true.into();
    let error = bench.answer(request, Some(json!({ "type": "json_object" }))).unwrap_err();
    assert!(error.to_string().contains("ignore_eos"), "{error}");
}

fn tools() -> Value {
    json!([
        { "type": "function", "function": { "name": "weather", "description": "The weather somewhere", "parameters": {
            "type": "object",
            "properties": { "city": { "type": "string", "maxLength": 10 }, "unit": { "$ref": "#/$defs/unit" } },
            "required": ["city", "unit"],
            "$defs": { "unit": { "enum": ["celsius", "fahrenheit"] } },
        } } },
        { "type": "function", "function": { "name": "now" } },
    ])
}

#[test]
fn tools_are_called_as_their_schemas_say() {
    let mut bench = Bench::new();
    let ask = |bench: &mut Bench, choice: Value, format: &str, temperature: f64| {
        let mut request = chat(PROMPTS[0], 120, temperature);
        request["tools"] = tools();
        let parallel = choice == "required";
        let form =
            json!({ "type": "tools", "format": format, "tools": tools(), "choice": choice, "parallel": parallel });
        bench.answer(request, Some(form)).unwrap()
    };
    for temperature in [0.0, 1.0] {
        let answer = ask(&mut bench, json!({ "function": "weather" }), "tagged", temperature);
        assert_eq!((answer.reason, answer.text.as_str()), (Some(FinishReason::ToolCalls), ""), "{answer:?}");
        let [(name, arguments)] = &answer.calls[..] else { panic!("{answer:?}") };
        let arguments: Value = serde_json::from_str(arguments).unwrap();
        assert_eq!(name, "weather");
        assert!(["celsius", "fahrenheit"].contains(&arguments["unit"].as_str().unwrap()), "{arguments}");
        assert!(arguments["city"].as_str().unwrap().len() <= 10 && arguments.as_object().unwrap().len() == 2);
        let answer = ask(&mut bench, json!("required"), "tagged", temperature);
        assert!(!answer.calls.is_empty(), "{answer:?}");
        // A model that was never told of tools does not call one by itself.
        let answer = ask(&mut bench, json!("auto"), "tagged", temperature);
        assert!(answer.calls.is_empty() && !answer.text.is_empty(), "{answer:?}");
    }
    let error = bench.guide(
        json!({ "type": "tools", "format": "phi", "tools": tools(), "choice": { "function": "no" }, "parallel": true }),
    );
    assert!(error.err().unwrap().to_string().contains("tool_choice"));
}

/// Every format's grammar allows what the format says, and the text after a trigger.
#[test]
fn each_family_has_its_format() {
    let bench = Bench::new();
    let arguments = r#"{"city": "Rome", "unit": "celsius"}"#;
    let cases = [
        (
            "tagged",
            format!(
                "<tool_call>\n{{\"name\": \"weather\", \"arguments\": {arguments}}}\n</tool_call>\n<tool_call>{{\"name\": \"now\", \"arguments\": {{}}}}</tool_call>"
            ),
        ),
        (
            "phi",
            format!(
                "<|tool_call|>[{{\"name\": \"weather\", \"arguments\": {arguments}}}, {{\"name\": \"now\", \"arguments\": {{}}}}]<|/tool_call|>"
            ),
        ),
        ("mistral", format!("[TOOL_CALLS] [{{\"name\": \"weather\", \"arguments\": {arguments}}}]")),
        ("llama", format!("{{\"name\": \"weather\", \"parameters\": {arguments}}}")),
    ];
    let tokenizer = bench.session.tokenizer();
    for (format, text) in cases {
        for choice in ["required", "auto"] {
            let form =
                json!({ "type": "tools", "format": format, "tools": tools(), "choice": choice, "parallel": true });
            let said = if choice == "auto" && format != "llama" { format!("Well.\n{text}") } else { text.clone() };
            for wrong in [false, true] {
                let said = if wrong { said.replace("celsius", "kelvin") } else { said.clone() };
                let mut guide = bench.guide(form.clone()).unwrap();
                let mut denied = None;
                for (at, token) in tokenizer.encode(&said, kinglet::text::Special::Plain).into_iter().enumerate() {
                    if guide.mask(500).unwrap().is_some_and(|mask| !mask.allows(token)) {
                        denied = Some(at);
                        break;
                    }
                    assert_eq!(guide.commit(token, 500).unwrap(), token);
                }
                assert_eq!(denied.is_some(), wrong, "{format} {choice}: {said} at {denied:?}");
                if !wrong {
                    let mask = guide.mask(500).unwrap().unwrap();
                    assert!(tokenizer.end_ids().iter().all(|&end| mask.allows(end)), "{format} {choice}");
                }
            }
        }
    }
}
