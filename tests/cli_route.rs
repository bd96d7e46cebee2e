//! `kinglet route` as a user meets it.

#[path = "router/data.rs"]
#[allow(dead_code)]
mod data;

use serde_json::Value;
use std::fmt::Write;
use std::process::{Command, Output};

fn route(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kinglet")).arg("route").args(args).output().unwrap()
}

#[track_caller]
fn stdout(args: &[&str]) -> String {
    let output = route(args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn assert_fails(args: &[&str], words: &[&str]) {
    let output = route(args);
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.starts_with("kinglet: ") && !message.contains("panicked"), "{message}");
    assert!(words.iter().all(|word| message.contains(word)), "{words:?} in {message}");
}

fn path(name: &str) -> String {
    format!("{}/route-{name}", env!("CARGO_TARGET_TMPDIR"))
}

/// Examples as lines, each costing a cent.
fn write(name: &str, shape: data::Shape, from: usize, to: usize) -> String {
    let mut lines = String::new();
    for example in &data::made_up("cli", shape).examples[from..to] {
        let signals = serde_json::to_string(&example.signals).unwrap();
        let label = u8::from(example.label.unwrap());
        writeln!(lines, "{{\"id\":\"{}\",\"signals\":{signals},\"label\":{label},\"cost\":0.01}}", example.id).unwrap();
    }
    std::fs::write(path(name), lines).unwrap();
    path(name)
}

#[test]
fn questions_become_examples() {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/models/kinglet-tiny.gguf");
    let (questions, examples) = (path("questions.jsonl"), path("answered.jsonl"));
    let ask = |lines: &str| {
        std::fs::write(&questions, lines).unwrap();
        stdout(&["answer", model, "--questions", &questions, "--sampler", r#"{"temperature": 0}"#])
    };
    let one =
        ask("{\"id\": 7, \"question\": \"Who are you?\", \"label\": 1}\n\n{\"question\": \"What is 17 times 23?\"}\n");
    let rows: Vec<Value> = one.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [known, unknown] = &rows[..] else { panic!("{one}") };
    assert!(known["answer"].as_str().unwrap().contains("Kinglet") && known["veto"].is_null(), "{known}");
    assert_eq!((&known["id"], &known["label"]), (&7.into(), &1.into()), "what was there is kept");
    assert!(known["signals"]["meanLogprob"].as_f64().unwrap() <= 0.0, "{known}");
    assert_eq!(unknown["veto"], "veto-refusal", "{unknown}");
    // Enough of them, with labels, are what a calibration is made from.
    std::fs::write(&examples, [&rows[0], &rows[0]].map(|row| format!("{row}\n")).concat()).unwrap();
    let args = ["feasibility", &examples, "--target", "risk=0.1,delta=0.1"];
    assert_fails(&args, &["2 labelled examples are too few"]);
    std::fs::write(&questions, "{\"id\": 1}\n").unwrap();
    assert_fails(&["answer", model, "--questions", &questions], &["line 1", "\"question\""]);
    assert_fails(&["answer", model, "--questions", &questions, "--sampler", "1"], &["--sampler"]);
}

const GOOD: data::Shape = data::Shape { spread: 6.5, truth: 1.0 };
const BAD: data::Shape = data::Shape { spread: 1.0, truth: 0.8 };

#[test]
fn from_examples_to_a_replay() {
    let examples = write("examples.jsonl", GOOD, 0, 1000);
    let log = write("log.jsonl", GOOD, 1000, 4000);
    let out = path("calibration.json");
    let target = ["--target", "risk=0.1,delta=0.1"];
    let report = stdout(&[&["calibrate", &examples, "--out", &out][..], &target].concat());
    assert!(report.contains("certifiedLocal") && report.contains(&out), "{report}");
    let feasibility = stdout(&[&["feasibility", &examples, "--json"][..], &target].concat());
    let feasibility: Value = serde_json::from_str(&feasibility).unwrap();
    assert_eq!((&feasibility["certifiable"], &feasibility["n"]), (&true.into(), &1000.into()));
    for figure in ["errorRate", "auroc", "leastEscalated", "certifiedLocal", "qualityAt80", "examplesNeeded"] {
        assert!(feasibility[figure].is_number(), "{figure} in {feasibility}");
    }
    let replay = stdout(&["replay", &log, "--calibration", &out, "--json"]);
    let replay: Value = serde_json::from_str(&replay).unwrap();
    let float = |value: &Value| value.as_f64().unwrap();
    assert_eq!((&replay["n"], &replay["certified"]), (&3000.into(), &true.into()));
    assert!((float(&replay["escalated"]) + float(&replay["coverage"]) - 1.0).abs() < 1e-9);
    assert!(float(&replay["auroc"]) > 0.8 && float(&replay["apgr"]) > 0.7 && float(&replay["risk"]) < 0.1);
    let kept = (3000.0 * float(&replay["coverage"])).round();
    assert!((float(&replay["savedUsd"]) - 0.01 * kept).abs() < 1e-6);
    let [a, b, c] = ["0.90", "0.95", "0.98"].map(|quality| float(&replay["escalatedFor"][quality]));
    assert!(a < b && b < c, "{replay}");
    assert_eq!(replay["drift"]["alarm"], false);
    let other = write("other.jsonl", BAD, 0, 1000);
    let drifted = stdout(&["replay", &other, "--calibration", &out, "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&drifted).unwrap()["drift"]["alarm"], true);
    assert!(stdout(&["replay", &log, "--calibration", &out]).contains("escalatedFor"));
}

#[test]
fn a_calibration_can_be_tied_to_a_model() {
    let examples = write("tied.jsonl", GOOD, 0, 1000);
    let out = path("tied.json");
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/golden/f32.gguf");
    let made = |extra: &[&str]| {
        let args = ["calibrate", &examples, "--target", "cost=0.5", "--out", &out, "--json"];
        let output = route(&[&args, extra].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let file: Value = serde_json::from_str(&std::fs::read_to_string(&out).unwrap()).unwrap();
        (file["key"].clone(), String::from_utf8(output.stderr).unwrap())
    };
    let (key, said) = made(&["--model", model]);
    assert!(key.is_string() && said.is_empty(), "{said}");
    assert_ne!(made(&["--model", model, "--sampler", r#"{"temperature": 0}"#]).0, key);
    assert_ne!(made(&["--model", model, "--backend", "webgpu"]).0, key);
    // Of a split model every part counts, whichever is named.
    let part = |i: usize| format!("tied-{i:05}-of-00003.gguf");
    for i in 1..=3 {
        let fixture = format!("{}/tests/fixtures/split-{i:05}-of-00003.gguf", env!("CARGO_MANIFEST_DIR"));
        std::fs::copy(fixture, path(&part(i))).unwrap();
    }
    let split = made(&["--model", &path(&part(1))]).0;
    assert_ne!(split, key);
    assert_eq!(made(&["--model", &path(&part(2))]).0, split);
    let mut last = std::fs::read(path(&part(3))).unwrap();
    *last.last_mut().unwrap() ^= 1;
    std::fs::write(path(&part(3)), last).unwrap();
    assert_ne!(made(&["--model", &path(&part(1))]).0, split, "another weight");
    let (none, said) = made(&[]);
    assert!(none.is_null() && said.contains("--model"), "{said}");
}

#[test]
fn what_cannot_be_done_is_said() {
    let good = write("good.jsonl", GOOD, 0, 1000);
    let bad = write("bad.jsonl", BAD, 0, 1000);
    let out = path("never.json");
    let _ = std::fs::remove_file(&out);
    assert_fails(
        &["calibrate", &bad, "--target", "risk=0.1,delta=0.1", "--out", &out],
        &["risk=0.1,delta=0.1 cannot be certified on 1000 labelled examples", "better local model"],
    );
    assert!(!std::path::Path::new(&out).exists(), "nothing is written");
    let report = stdout(&["feasibility", &bad, "--target", "risk=0.1,delta=0.1"]);
    assert!(report.contains("certifiable  false") && report.contains("cannot be certified"), "{report}");
    assert_fails(&["calibrate", "no-such-file", "--target", "risk=0.1", "--out", &out], &["no-such-file"]);
    assert_fails(&["calibrate", &good, "--target", "quality=0.9", "--out", &out], &["quality", "risk or cost"]);
    assert_fails(&["calibrate", &good, "--target", "risk=0.1", "--out", "/no/such/folder/x"], &["cannot be written"]);
    assert_fails(
        &["replay", &good, "--calibration", &good],
        &["good.jsonl", "calibration cannot be used", "route calibrate"],
    );
    std::fs::write(path("wrong.jsonl"), "{\"signals\": {\"logprob\": 1}, \"label\": 1}\n").unwrap();
    assert_fails(&["feasibility", &path("wrong.jsonl"), "--target", "risk=0.1"], &["line 1", "logprob", "meanLogprob"]);
}
