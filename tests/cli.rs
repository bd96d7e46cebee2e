//! The command line as a user meets it: real processes, real files.

#[path = "common/gpu.rs"]
mod gpu;

use serde_json::Value;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/golden");

fn model(name: &str) -> String {
    format!("{GOLDEN}/{name}.gguf")
}

fn kinglet(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kinglet"));
    command.args(args);
    command
}

fn run(args: &[&str], input: &str) -> Output {
    let mut command = kinglet(args);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    // A process that ends with an error may not read its input.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

#[track_caller]
fn stdout(args: &[&str], input: &str) -> String {
    let output = run(args, input);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Exit code 1, one line that says what is wrong, nothing on stdout.
#[track_caller]
fn assert_fails(args: &[&str], input: &str, words: &[&str]) {
    let output = run(args, input);
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.starts_with("kinglet: ") && !message.contains("panicked"), "{message}");
    assert!(words.iter().all(|word| message.contains(word)), "{words:?} in {message}");
}

fn temporary(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

#[test]
fn a_prediction_changes_no_answer() {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/models/kinglet-tiny.gguf");
    let args =
        ["run", model, "--chat", "--prompt", "Who are you?", "--temperature", "0", "--max-tokens", "40", "--json"];
    let plain: Value = serde_json::from_str(&stdout(&args, "")).unwrap();
    let file = temporary("prediction.txt");
    std::fs::write(&file, plain["text"].as_str().unwrap()).unwrap();
    let predicted = [&args[..], &["--prediction", file.to_str().unwrap()]].concat();
    let predicted: Value = serde_json::from_str(&stdout(&predicted, "")).unwrap();
    assert_eq!(predicted["ids"], plain["ids"]);
    assert!(predicted["predictedAcceptedTokens"].as_u64() > Some(0), "{predicted}");
    assert_fails(&[&args[..], &["--prediction", "/no/such/file"]].concat(), "", &["/no/such/file"]);
}

#[test]
fn a_draft_model_changes_no_answer() {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/models/kinglet-tiny.gguf");
    let args = ["run", model, "--chat", "--prompt", "Who are you?", "--seed", "3", "--max-tokens", "40", "--json"];
    let plain: Value = serde_json::from_str(&stdout(&args, "")).unwrap();
    let drafted: Value = serde_json::from_str(&stdout(&[&args[..], &["--draft", model]].concat(), "")).unwrap();
    assert_eq!(drafted["ids"], plain["ids"]);
    let other = self::model("q4_0");
    assert_fails(&[&args[..], &["--draft", &other]].concat(), "", &["Kinglet Tiny", "320 tokens, not 2560"]);
    assert_fails(&[&args[..], &["--draft", "/no/such/file"]].concat(), "", &["/no/such/file"]);
}

#[test]
fn run_tells_what_a_model_cannot_do() {
    let model = model("f32");
    let args = ["run", &model, "--prompt", "the", "--suffix", "day"];
    assert_fails(&args, "", &["no tokens to fill in the middle", "Qwen2.5-Coder"]);
    let both = run(&[&args[..], &["--chat"]].concat(), "");
    assert!(!both.status.success() && String::from_utf8_lossy(&both.stderr).contains("--suffix"));
}

#[test]
fn run_keeps_to_a_schema() {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/models/kinglet-tiny.gguf");
    let file = temporary("schema.json");
    let schema = r#"{"type": "object", "properties": {"birds": {"type": "array", "items": {"enum": ["wren", "owl"]}, "minItems": 1}},
        "required": ["birds"], "additionalProperties": false}"#;
    std::fs::write(&file, schema).unwrap();
    let path = file.to_str().unwrap();
    let args = ["run", model, "--chat", "--prompt", "Which birds?", "--max-tokens", "24", "--json-schema", path];
    let answer: Value = serde_json::from_str(&stdout(&args, "")).unwrap();
    let birds = answer["birds"].as_array().unwrap();
    assert!(
        !birds.is_empty() && birds.iter().all(|bird| ["wren", "owl"].contains(&bird.as_str().unwrap())),
        "{answer}"
    );
    std::fs::write(&file, r#"{"type": "array", "uniqueItems": true}"#).unwrap();
    assert_fails(&args, "", &["uniqueItems"]);
    std::fs::write(&file, "{").unwrap();
    assert_fails(&args, "", &["schema.json"]);
}

#[test]
fn run_streams_text_or_reports_json() {
    let model = model("f32");
    let args = ["run", &model, "--prompt", "the day", "--max-tokens", "24", "--temperature", "0", "--ignore-eos"];
    let text = stdout(&args, "");
    let json: Value = serde_json::from_str(&stdout(&[&args[..], &["--json"]].concat(), "")).unwrap();
    assert_eq!(format!("{}\n", json["text"].as_str().unwrap()), text);
    assert_eq!(json["ids"].as_array().unwrap().len(), 24);
    assert_eq!((&json["completionTokens"], &json["backend"]), (&24.into(), &"cpu".into()));
    assert!(json["promptTokens"].as_u64().unwrap() > 1 && json["prefillMs"].as_f64().unwrap() > 0.0);
    assert!(json["decodeMs"].as_f64().unwrap() > 0.0);
    let sampled = ["run", &model, "--prompt", "the day", "--max-tokens", "24", "--seed", "5"];
    assert_eq!(stdout(&sampled, ""), stdout(&sampled, ""), "a seed reproduces");
    let chat = [&args[..], &["--chat"]].concat();
    assert!(!stdout(&chat, "").is_empty());
}

#[test]
fn an_answer_may_be_longer_than_the_context_that_the_file_states() {
    let ids = |more: &[&str]| {
        let (model, args) = (model("f32"), ["--prompt", "", "--temperature", "0", "--ignore-eos", "--json"]);
        let json = stdout(&[&["run", &model], &args[..], more].concat(), "");
        serde_json::from_str::<Value>(&json).unwrap()["ids"].as_array().unwrap().len()
    };
    assert_eq!(ids(&[]), 255, "BOS and the answer fill the context");
    assert_eq!(ids(&["--max-tokens", "300"]), 300);
    assert_eq!(ids(&["--max-tokens", "300", "--context-length", "100"]), 99);
}

#[test]
fn logits_are_those_of_transformers() {
    let index: Value = serde_json::from_slice(&std::fs::read(format!("{GOLDEN}/index.json")).unwrap()).unwrap();
    let prompts: Vec<Vec<u32>> = serde_json::from_value(index["f32"]["prompts"].clone()).unwrap();
    let floats = |path: PathBuf| -> Vec<f32> {
        std::fs::read(path).unwrap().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    };
    let golden = floats(PathBuf::from(format!("{GOLDEN}/f32.logits")));
    let vocab = golden.len() / prompts.iter().map(Vec::len).sum::<usize>();
    let mut golden = &golden[..];
    for prompt in prompts {
        let expected = golden.split_off(..prompt.len() * vocab).unwrap();
        let out = temporary("logits.f32");
        let tokens = prompt.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        stdout(&["logits", &model("f32"), "--tokens", &tokens, "--out", out.to_str().unwrap()], "");
        let ours = floats(out);
        assert_eq!(ours.len(), expected.len());
        let worst = ours.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        // Keys and values of 14 bits.
        assert!(worst < 2e-3, "{worst}");
    }
}

#[test]
fn tokenize_reads_and_writes_lines_of_json() {
    let model = model("f32");
    let lines = "\"the day\"\n\"\"\n\"<s>a\\n\\u00e4 \\ud83d\\ude00</s>\"\n";
    let ids = stdout(&["tokenize", &model], lines);
    let arrays: Vec<Vec<u32>> = ids.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(arrays.len(), 3);
    assert!(arrays[1].is_empty(), "nothing is added");
    assert_eq!((arrays[2][0], *arrays[2].last().unwrap()), (1, 2), "special tokens count as such");
    let texts = stdout(&["tokenize", &model, "--decode"], &ids);
    let texts: Vec<String> = texts.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(texts[0], "the day");
    assert!(texts[2].ends_with("a\nä 😀</s>"), "{texts:?}");
    assert_fails(&["tokenize", &model], "\"fine\"\nnot json\n", &["line 2", "JSON string"]);
    assert_fails(&["tokenize", &model, "--decode"], "[1, 320]\n", &["line 1", "320", "319"]);
}

#[test]
fn inspect_says_what_a_model_is() {
    let json: Value = serde_json::from_str(&stdout(&["inspect", &model("q4_k"), "--json"], "")).unwrap();
    assert_eq!((&json["architecture"], &json["supported"]), (&"llama".into(), &true.into()));
    assert_eq!(json["quantization"][0]["type"], "Q4_K");
    // One layer, keys and values, one head of 64 of 16 bits and a scale, 256 positions.
    assert_eq!(json["memory"]["kvCache"], 2 * (64 * 2 + 4) * 256);
    assert!(stdout(&["inspect", &model("q4_k")], "").contains("supported     yes"));
}

#[test]
fn bench_measures() {
    let args = ["bench", &model("q8_0"), "-p", "20", "-n", "5", "-r", "1"];
    let json: Value = serde_json::from_str(&stdout(&[&args[..], &["--json"]].concat(), "")).unwrap();
    assert_eq!((&json["promptTokens"], &json["completionTokens"]), (&20.into(), &5.into()));
    for figure in ["prefillTokensPerSecond", "decodeTokensPerSecond", "loadMs", "memoryBytes"] {
        assert!(json[figure].as_f64().unwrap() > 0.0, "{figure}");
    }
    assert!(stdout(&args, "").contains("tokens/s"));
}

#[test]
fn errors_are_one_line_and_exit_code_one() {
    let model = model("f32");
    let long = "the day ".repeat(200);
    assert_fails(&["run", "no-such-file.gguf", "--prompt", "a"], "", &["no-such-file.gguf"]);
    assert_fails(&["run", file!(), "--prompt", "a"], "", &["not a GGUF model"]);
    assert_fails(&["run", &model, "--prompt", &long, "--max-tokens", "4"], "", &["context holds 256"]);
    assert_fails(&["run", &model, "--prompt", "a", "--temperature=-1"], "", &["temperature"]);
    assert_fails(&["run", &model, "--prompt", "a", "--context-length", "0"], "", &["contextLength"]);
    assert_fails(
        &["logits", &model, "--tokens", "1,320", "--out", concat!(env!("CARGO_TARGET_TMPDIR"), "/unused")],
        "",
        &["320"],
    );
    assert_fails(&["bench", &model, "-n", "1"], "", &["-n"]);
    assert_fails(&["tokenize", "no-such-file"], "", &["no-such-file"]);
}

#[test]
fn the_gpu_answers_as_the_cpu_does_and_shows_where_time_goes() {
    if gpu::gpu().is_none() {
        return;
    }
    let model = model("f32");
    let args =
        ["run", &model, "--prompt", "the day", "--max-tokens", "24", "--temperature", "0", "--ignore-eos", "--json"];
    let [cpu, webgpu] = ["cpu", "webgpu"].map(|backend| {
        let json = stdout(&[&args[..], &["--backend", backend]].concat(), "");
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["backend"], backend);
        json["ids"].clone()
    });
    assert_eq!(cpu, webgpu);
    let drafted = run(&[&args[..], &["--backend", "webgpu", "--draft", &model]].concat(), "");
    let json: Value = serde_json::from_slice(&drafted.stdout).unwrap();
    assert_eq!(json["ids"], cpu);
    let said = String::from_utf8_lossy(&drafted.stderr);
    assert!(said.contains("webgpu takes no draft model; it goes on without"), "{said}");
    let report =
        stdout(&["bench", &model, "--backend", "webgpu", "--tune", "-p", "8", "-n", "8", "-r", "1", "--json"], "");
    let report: Value = serde_json::from_str(&report).unwrap();
    let profile = &report["profile"];
    let kernels: Vec<&str> =
        profile["kernels"].as_array().unwrap().iter().map(|k| k["name"].as_str().unwrap()).collect();
    for kernel in ["embed", "qkv", "attention", "attention_out", "gate_up", "down", "head", "sample_chunks", "sample"] {
        assert!(kernels.contains(&kernel), "{kernel} is missing in {kernels:?}");
    }
    assert!(profile["streamReadGigabytesPerSecond"].as_f64().unwrap() > 0.0, "{profile}");
}

#[test]
fn without_a_gpu_the_message_says_what_to_do() {
    let mut command = kinglet(&["run", &model("f32"), "--prompt", "a", "--backend", "webgpu"]);
    // No driver where Vulkan looks for them.
    let output = command.env("VK_DRIVER_FILES", "none").env("VK_ICD_FILENAMES", "none").output().unwrap();
    if cfg!(target_os = "linux") {
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(message.contains("WebGPU cannot be used") && message.contains("--backend cpu"), "{message}");
    }
}

#[test]
fn nobody_reading_on_is_no_error() {
    let model = model("f32");
    let mut child = kinglet(&["run", &model, "--prompt", "a", "--max-tokens", "240", "--ignore-eos"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut message = String::new();
    child.stderr.take().unwrap().read_to_string(&mut message).unwrap();
    assert!(child.wait().unwrap().success() && message.is_empty(), "{message}");
}

/// Adapters add to the model, in both forms and with their scales, and are named where they cannot be used.
#[test]
fn adapters_are_taken() {
    let (model, lora) = (model("f32"), concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/lora/f32"));
    let logits = |args: &[&str]| {
        let out = temporary("adapted.logits");
        let fixed = ["logits", &model, "--tokens", "1,44,301", "--out", out.to_str().unwrap()];
        assert_eq!(stdout(&[&fixed, args].concat(), ""), "");
        let bytes = std::fs::read(out).unwrap();
        bytes.chunks_exact(4).map(|x| f32::from_le_bytes(x.try_into().unwrap())).collect::<Vec<f32>>()
    };
    let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-3);
    let (folder, gguf) = (format!("{lora}/all"), format!("{lora}/all.gguf"));
    let (weights, some) = (format!("{lora}/all/adapter_model.safetensors"), format!("{lora}/some.gguf"));
    let (base, adapted) = (logits(&[]), logits(&["--lora", &folder]));
    assert!(!close(&base, &adapted));
    assert!(close(&adapted, &logits(&["--lora", &gguf])) && close(&adapted, &logits(&["--lora", &weights])));
    assert!(close(&base, &logits(&["--lora", &folder, "--lora-scale", "0"])));
    assert!(close(&base, &logits(&["--lora", &folder, "--lora", &gguf, "--lora-scale", "1", "--lora-scale", "-1"])));
    assert!(!close(&adapted, &logits(&["--lora", &folder, "--lora", &some])));

    let run = ["run", &model, "--prompt", "the day", "--max-tokens", "12", "--temperature", "0", "--ignore-eos"];
    assert_ne!(stdout(&run, ""), stdout(&[&run[..], &["--lora", &folder]].concat(), ""));
    let refused = |args: &[&str], words: &[&str]| assert_fails(&[&run[..], args].concat(), "", words);
    refused(&["--lora", &model], &[&model, "general.type is missing"]);
    refused(&["--lora", lora], &["adapter_config.json"]);
    refused(&["--lora-scale", "2"], &["1 --lora-scale", "0 --lora"]);
    let other = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/lora/q4_0/all");
    refused(&["--lora", other], &["q4_0/all", "load the model it was trained for"]);
}
