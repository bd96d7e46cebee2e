//! Files that are good GGUF and bad models: each has its own error, which names what is wrong.

#[path = "common/gguf.rs"]
mod gguf;

use gguf::{Gguf, LAYER, NUMBERS};
use kinglet::session::{LoadOptions, Request, Session};
use kinglet::source::MemorySource;
use kinglet::{Error, ErrorCode, Result};
use pollster::block_on;

const F32: u32 = 0;
const Q4_0: u32 = 2;
const Q3_K: u32 = 11;

/// A model of one layer, to be spoilt by tests.
#[derive(Clone)]
struct Model {
    architecture: String,
    numbers: Vec<(&'static str, u32)>,
    epsilon: Option<f32>,
    strings: Vec<(&'static str, &'static str)>,
    template: Option<&'static str>,
    tokens: usize,
    /// Name, rows (0: a vector), columns, type.
    tensors: Vec<(String, u64, u64, u32)>,
}

impl Model {
    fn good() -> Self {
        let mut tensors =
            vec![("token_embd.weight".to_string(), 300, 32, F32), ("output_norm.weight".to_string(), 0, 32, F32)];
        tensors.extend(LAYER.map(|(name, rows, cols)| (format!("blk.0.{name}.weight"), rows, cols, F32)));
        Self {
            architecture: "llama".into(),
            numbers: NUMBERS.into_iter().chain([("context_length", 64)]).collect(),
            epsilon: Some(1e-5),
            strings: vec![],
            template: None,
            tokens: 300,
            tensors,
        }
    }

    fn number(mut self, key: &'static str, value: u32) -> Self {
        self.numbers.retain(|(k, _)| *k != key);
        self.numbers.push((key, value));
        self
    }

    fn tensor(mut self, name: &str, rows: u64, cols: u64, kind: u32) -> Self {
        self.tensors.retain(|(n, ..)| n != name);
        self.tensors.push((name.into(), rows, cols, kind));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.tensors.retain(|(n, ..)| n != name);
        self.numbers.retain(|(n, _)| *n != name);
        self
    }

    fn file(&self) -> Vec<u8> {
        let key = |key: &str| format!("{}.{key}", self.architecture);
        let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(String::from).into();
        tokens.extend((0..256).map(|b| format!("<0x{b:02X}>")));
        tokens.extend((tokens.len()..self.tokens.max(tokens.len())).map(|i| format!("\u{2581}{i}")));
        tokens.truncate(self.tokens);
        let names: Vec<&str> = tokens.iter().map(String::as_str).collect();
        let kind = |i: usize| [2, 3, 3].get(i).copied().unwrap_or(if i < 259 { 6u32 } else { 1 });
        let kinds: Vec<u8> = (0..tokens.len()).flat_map(|i| kind(i).to_le_bytes()).collect();
        let mut file = Gguf::new(3)
            .string("general.architecture", &self.architecture)
            .string("tokenizer.ggml.model", "llama")
            .strings("tokenizer.ggml.tokens", &names)
            .array("tokenizer.ggml.scores", 6, names.len() as u64, vec![0; 4 * names.len()])
            .array("tokenizer.ggml.token_type", 5, names.len() as u64, kinds)
            .u32("tokenizer.ggml.bos_token_id", 1)
            .u32("tokenizer.ggml.eos_token_id", 2);
        for (name, value) in &self.numbers {
            file = file.u32(&key(name), *value);
        }
        for (name, value) in &self.strings {
            file = file.string(&key(name), value);
        }
        if let Some(template) = self.template {
            file = file.string("tokenizer.chat_template", template);
        }
        if let Some(epsilon) = self.epsilon {
            file = file.entry(&key("attention.layer_norm_rms_epsilon"), 6, epsilon.to_le_bytes());
        }
        for (name, rows, cols, kind) in &self.tensors {
            let elements = (rows.max(&1) * cols) as usize;
            let bytes = match *kind {
                F32 => 4 * elements,
                Q4_0 => elements.div_ceil(32) * 18,
                _ => elements.div_ceil(256) * 110,
            };
            let dims = if *rows == 0 { vec![*cols] } else { vec![*cols, *rows] };
            file = file.tensor(name, &dims, *kind, vec![0; bytes]);
        }
        file.build()
    }

    fn load(&self, options: LoadOptions) -> Result<Session> {
        block_on(Session::load(&mut [MemorySource(self.file())], options, |_, _| {}))
    }

    fn error(&self) -> Error {
        self.load(LoadOptions::default()).map(|_| ()).expect_err("a bad model was loaded")
    }
}

#[track_caller]
fn assert_error(model: Model, code: ErrorCode, words: &[&str]) {
    let error = model.error();
    assert_eq!(error.code(), code, "{error}");
    for word in words {
        assert!(error.to_string().contains(word), "{word:?} is not in {error:?}");
    }
}

#[test]
fn the_unspoilt_model_loads() {
    let session = Model::good().load(LoadOptions::default()).unwrap();
    assert_eq!((session.info().vocabulary, session.info().context_length), (300, 64));
    Model::good().tensor("output.weight", 300, 32, F32).load(LoadOptions::default()).unwrap();
    Model::good().tensor("v.patch_embd.weight", 7, 5, F32).load(LoadOptions::default()).unwrap();
    Model::good().tensor("v.unused.weight", 1, 256, Q3_K).load(LoadOptions::default()).unwrap();
}

#[test]
fn unknown_architectures_are_told_what_is_known() {
    let model = Model { architecture: "mamba".into(), ..Model::good() };
    assert_error(model, ErrorCode::UnsupportedArchitecture, &["mamba", "supported are llama"]);
    let experts = Model::good().number("expert_count", 8);
    assert_error(experts, ErrorCode::UnsupportedArchitecture, &["8 experts"]);
    let bias = Model::good().tensor("blk.0.ffn_up.bias", 0, 64, F32);
    assert_error(bias, ErrorCode::UnsupportedArchitecture, &["blk.0.ffn_up.bias"]);
    let yarn = Model { strings: vec![("rope.scaling.type", "yarn")], ..Model::good() };
    assert_error(yarn, ErrorCode::UnsupportedArchitecture, &["yarn"]);
}

#[test]
fn unsupported_types_name_the_tensor() {
    let model = Model::good().number("feed_forward_length", 256).tensor("blk.0.ffn_gate.weight", 256, 32, F32);
    let model = model.tensor("blk.0.ffn_up.weight", 256, 32, F32).tensor("blk.0.ffn_down.weight", 32, 256, Q3_K);
    assert_error(model, ErrorCode::UnsupportedType, &["blk.0.ffn_down.weight", "Q3_K", "Q4_0"]);
}

#[test]
fn every_tensor_is_missed() {
    for (name, ..) in Model::good().tensors {
        assert_error(Model::good().without(&name), ErrorCode::CorruptFile, &[&name, "lacks the tensor"]);
    }
    let biased = Model::good().tensor("blk.0.attn_q.bias", 0, 32, F32);
    assert_error(biased, ErrorCode::CorruptFile, &["blk.0.attn_k.bias"]);
}

#[test]
fn every_shape_is_checked() {
    for (name, rows, cols, _) in Model::good().tensors {
        let found = if rows == 0 { format!("[{}]", cols + 32) } else { format!("[{rows}, {}]", cols + 32) };
        let wider = Model::good().tensor(&name, rows, cols + 32, F32);
        assert_error(wider, ErrorCode::CorruptFile, &[&name, &found]);
        if name.starts_with("blk") {
            let higher = Model::good().tensor(&name, rows + 2, cols, F32);
            assert_error(higher, ErrorCode::CorruptFile, &[&name, "expected"]);
        }
    }
    let head = Model::good().tensor("output.weight", 299, 32, F32);
    assert_error(head, ErrorCode::CorruptFile, &["output.weight", "[299, 32]", "[300, 32]"]);
}

#[test]
fn metadata_that_makes_no_sense_is_named() {
    for key in ["block_count", "embedding_length", "feed_forward_length", "attention.head_count", "context_length"] {
        assert_error(Model::good().without(key), ErrorCode::CorruptFile, &[&format!("llama.{key}"), "missing"]);
    }
    let no_epsilon = Model { epsilon: None, ..Model::good() };
    assert_error(no_epsilon, ErrorCode::CorruptFile, &["layer_norm_rms_epsilon", "missing"]);
    for (key, value) in [
        ("block_count", 0),
        ("block_count", u32::MAX),
        ("embedding_length", 0),
        ("feed_forward_length", 0),
        ("context_length", 0),
        ("attention.head_count", 0),
        ("attention.head_count", u32::MAX),
        ("attention.head_count_kv", 0),
        ("attention.head_count_kv", 3),
        ("attention.key_length", 0),
        ("attention.key_length", 7),
        ("attention.value_length", 16),
        ("rope.dimension_count", 0),
        ("rope.dimension_count", 5),
        ("rope.dimension_count", 10),
    ] {
        let error = Model::good().number(key, value).error();
        assert_eq!(error.code(), ErrorCode::CorruptFile, "{key} = {value}: {error}");
        assert!(error.to_string().contains("llama."), "{key} = {value}: {error}");
    }
    for epsilon in [f32::NAN, -1.0, f32::INFINITY] {
        let model = Model { epsilon: Some(epsilon), ..Model::good() };
        assert_error(model, ErrorCode::CorruptFile, &["layer_norm_rms_epsilon"]);
    }
}

#[test]
fn a_tokenizer_has_to_fit() {
    let small = Model { tokens: 299, ..Model::good() };
    assert_error(small, ErrorCode::BadTokenizer, &["299 tokens", "300", "convert the model again"]);
    let large = Model { tokens: 301, ..Model::good() };
    assert_error(large, ErrorCode::BadTokenizer, &["301", "300"]);
}

#[test]
fn a_prompt_longer_than_the_context_is_told_both_figures() {
    let mut session = Model::good().load(LoadOptions { context_length: Some(10), ..LoadOptions::default() }).unwrap();
    let error = session.start_tokens(vec![5; 12], &Default::default(), false).unwrap_err();
    assert_eq!(error, Error::ContextExceeded { prompt: 12, context: 10 });
    assert!(["12", "10", "at least 13"].iter().all(|words| error.to_string().contains(words)), "{error}");
    let none = Model::good().load(LoadOptions { context_length: Some(0), ..LoadOptions::default() });
    assert_eq!(none.err().unwrap().code(), ErrorCode::BadRequest);
}

/// What `template` refuses the conversation with.
fn refusal(template: &'static str, options: LoadOptions) -> String {
    let mut session = Model { template: Some(template), ..Model::good() }.load(options).unwrap();
    let messages = serde_json::from_str(r#"[{ "role": "user", "content": "Hello" }]"#).unwrap();
    let error = session.start(&Request { messages: Some(messages), ..Request::default() }).unwrap_err();
    assert_eq!(error.code(), ErrorCode::BadTemplate);
    error.to_string()
}

#[test]
fn templates_know_what_day_it_is() {
    // As Llama 3.2's template asks.
    let llama = r#"{% if strftime_now is defined %}{% set date = strftime_now("%d %b %Y") %}
        {%- else %}{% set date = "26 Jul 2024" %}{% endif %}{{ raise_exception("Today Date: " + date) }}"#;
    let at = |wall_clock| refusal(llama, LoadOptions { wall_clock, ..LoadOptions::default() });
    // Python: datetime.fromtimestamp(1_763_800_000, UTC).strftime("%d %b %Y")
    assert!(at(|| Some(1_763_800_000)).contains("Today Date: 22 Nov 2025"));
    assert!(at(|| None).contains("Today Date: 26 Jul 2024"));

    let said = refusal("{{ raise_exception(strftime_now('=%Y %j %H %M %S=')) }}", LoadOptions::default());
    let numbers: Vec<u64> = said.split('=').nth(1).unwrap().split(' ').map(|n| n.parse().unwrap()).collect();
    let [year, day, hour, minute, second] = numbers[..] else { panic!("{said}") };
    // Leap years before this one, since 1970 and until 2100.
    let days = 365 * (year - 1970) + (year - 1969) / 4 + day - 1;
    let told = ((24 * days + hour) * 60 + minute) * 60 + second;
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    assert!(now.abs_diff(told) <= 60, "{said}: {told}, not {now}");
}

/// An app that runs no template out of a file gives one, or has the family's; where there is none it is told so at once.
#[test]
fn a_chosen_template_replaces_the_files() {
    let model = Model { template: Some("{{ raise_exception('the file') }}"), ..Model::good() };
    let load = |choice: &str| model.load(LoadOptions { chat_template: Some(choice.into()), ..LoadOptions::default() });
    let mut session = load("{{ messages[0].content }}").unwrap();
    let messages = serde_json::from_str(r#"[{ "role": "user", "content": "Hello" }]"#).unwrap();
    session.start(&Request { messages: Some(messages), ..Request::default() }).unwrap();
    assert_eq!(session.template_text(), "{{ messages[0].content }}");
    let error = load("family").err().unwrap();
    assert_eq!(error.code(), ErrorCode::BadTemplate);
    assert!(error.to_string().contains("none that comes with Kinglet"), "{error}");
}

#[test]
fn too_little_memory_is_told_before_loading() {
    let with = |limit, context_length| {
        let options = LoadOptions { memory_limit: Some(limit), context_length, ..LoadOptions::default() };
        Model::good().load(options)
    };
    let file = Model::good().file().len() as u64;
    // Two heads of 8, keys and values, float32.
    let per_position = 2 * 2 * 8 * 4;
    match with(10_000, None).err().unwrap() {
        Error::OutOfMemory { need_bytes, available_bytes, advice, .. } => {
            assert!(need_bytes > 64 * per_position + 90_000 && need_bytes < file + 1_000_000, "{need_bytes} of {file}");
            assert_eq!(available_bytes, 10_000);
            assert!(advice.contains("smaller model"), "{advice}");
        }
        other => panic!("{other}"),
    }
    // The model itself fits, its context does not: the largest that does is named, and works.
    let limit = 2_000_000;
    let error = with(limit, Some(1_000_000)).err().unwrap();
    assert_eq!(error.code(), ErrorCode::OutOfMemory);
    let message = error.to_string();
    let fitting: usize = message.rsplit(' ').next().unwrap().parse().unwrap();
    assert!(with(limit, Some(fitting + 1)).is_err());
    assert_eq!(with(limit, Some(fitting)).unwrap().info().context_length, fitting);
}

#[test]
fn a_file_that_ends_within_its_tensors_is_truncated() {
    let file = Model::good().file();
    let load = |bytes: &[u8]| block_on(Session::load(&mut [MemorySource(bytes)], LoadOptions::default(), |_, _| {}));
    for missing in [1, 1000, file.len() / 2] {
        let error = load(&file[..file.len() - missing]).err().unwrap();
        assert!(matches!(error, Error::Truncated { .. }), "{error:?}");
    }
    assert!(load(&file).is_ok());
}
