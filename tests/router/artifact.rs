//! The calibration's file: what is written is read again, and what was tampered with is refused or harmless.

#[path = "../../fuzz/bodies/calibration.rs"]
mod body;

use super::data::{Shape, made_up};
use super::goals::soak;
use kinglet::generate::sampler::SplitMix64;
use kinglet::generate::{AdapterUse, GenerateOptions};
use kinglet::router::artifact::{Calibration, MadeFor};
use kinglet::router::certify::Target;

fn made_for() -> MadeFor {
    MadeFor::new("ab12", "{{ messages }}", &GenerateOptions::default(), "cpu")
}

fn calibration() -> Calibration {
    let answers = made_up("some", Shape { spread: 6.5, truth: 1.0 });
    Calibration::new(&answers.examples[..1000], &Target::risk(0.1, 0.1), 0, Some(made_for())).unwrap()
}

#[test]
fn a_calibration_survives_its_file() {
    let calibration = calibration();
    let json = calibration.to_json();
    let again = Calibration::from_json(&json).unwrap();
    assert_eq!(again, calibration);
    assert_eq!(again.to_json(), json);
    assert!(json.len() < 32_000, "{} bytes", json.len());
    assert!(again.mismatch(&made_for()).is_empty());
    let other = MadeFor::new("ab12", "{{ other }}", &GenerateOptions { temperature: 0.0, ..Default::default() }, "cpu");
    assert_eq!(again.mismatch(&other), ["template", "sampler"]);
    assert_ne!(other.key(), made_for().key());
    let adapted = |scale| {
        let adapters = vec![AdapterUse { id: 1, scale }];
        MadeFor::new("ab12", "{{ messages }}", &GenerateOptions { adapters, ..Default::default() }, "cpu")
    };
    assert_eq!(again.mismatch(&adapted(1.0)), ["sampler"], "an adapter makes it another model");
    assert_eq!(adapted(1.0).differences(&adapted(0.5)), ["sampler"]);
    let told = GenerateOptions { seed: Some(1), logprobs: true, top_logprobs: 5, ..Default::default() };
    assert!(again.mismatch(&MadeFor::new("ab12", "{{ messages }}", &told, "cpu")).is_empty());
    let moved = MadeFor { model: "ab1".into(), template: format!("2{}", made_for().template), ..made_for() };
    assert_ne!(moved.key(), made_for().key(), "where a part ends matters");
    let mut nameless = calibration;
    nameless.made_for = None;
    assert!(!Calibration::from_json(&nameless.to_json()).unwrap().mismatch(&made_for()).is_empty());
}

#[test]
fn every_truncation_is_an_error() {
    let json = calibration().to_json();
    for end in 0..json.len() - 2 {
        let error = Calibration::from_json(&json[..end]).unwrap_err().to_string();
        assert!(error.contains("the calibration cannot be used"), "{end}: {error}");
    }
}

#[test]
fn hostile_figures_are_named() {
    let json = calibration().to_json();
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    type Change = fn(&mut serde_json::Value);
    let cases: [(&str, Change); 24] = [
        ("format", |v| v["format"] = "gguf".into()),
        ("version is 2", |v| v["version"] = 2.into()),
        ("key", |v| v["key"] = "0".into()),
        ("key", |v| v["madeFor"]["model"] = "other".into()),
        ("signals are of version 0", |v| v["madeFor"]["signals"] = 0.into()),
        ("unknown field", |v| v["more"] = 1.into()),
        ("drift lacks n", |v| drop(v["drift"].as_object_mut().unwrap().remove("n"))),
        ("that no answer has", |v| v["model"]["signals"][0]["name"] = "meanLogProb".into()),
        ("twice", |v| v["model"]["signals"][1]["name"] = v["model"]["signals"][0]["name"].clone()),
        ("deviation of a signal", |v| v["model"]["signals"][0]["deviation"] = 0.into()),
        ("weight of a signal", |v| v["model"]["signals"][0]["weight"] = 1e300.into()),
        ("bias of model", |v| v["model"]["bias"] = serde_json::Value::Null),
        ("bias of model", |v| v["model"]["bias"] = (-1e12).into()),
        ("isotonic has no points", |v| v["model"]["isotonic"]["p"] = serde_json::json!([])),
        ("p of isotonic", |v| v["model"]["isotonic"]["p"][0] = 1.0.into()),
        ("score of isotonic", |v| v["model"]["isotonic"]["score"][0] = (-0.1).into()),
        ("no certified threshold", |v| v["certified"] = serde_json::json!([])),
        ("tau of a certified threshold", |v| v["certified"][0]["tau"] = 1.5.into()),
        ("above the risk that is promised", |v| v["certified"][0]["bound"] = 0.2.into()),
        ("in which they were tested", |v| v["certified"].as_array_mut().unwrap().reverse()),
        ("pOk of drift", |v| v["drift"]["pOk"][0] = 1.into()),
        ("logLength of drift", |v| v["drift"]["logLength"][0] = 1e12.into()),
        ("target", |v| v["feasibility"]["target"]["delta"] = 1.into()),
        ("auroc of feasibility", |v| v["feasibility"]["auroc"] = 7.into()),
    ];
    for (word, change) in cases {
        let mut changed = value.clone();
        change(&mut changed);
        let error = Calibration::from_json(&changed.to_string()).unwrap_err().to_string();
        assert!(error.contains(word), "{word}: {error}");
    }
    for (from, to) in
        [("\"bias\":", "\"bias\":1e999,\"x\":"), ("\"bias\":", "\"bias\":NaN,\"x\":"), ("{\"format\"", "[{\"format\"")]
    {
        assert!(Calibration::from_json(&json.replacen(from, to, 1)).is_err(), "{to}");
    }
    assert!(Calibration::from_json(&" ".repeat(2 << 20)).unwrap_err().to_string().contains("larger than"));
    let nested = "[".repeat(100_000);
    assert!(Calibration::from_json(&nested).is_err());
}

#[test]
fn mutations_neither_panic_nor_lie() {
    let json = calibration().to_json().into_bytes();
    let mut random = SplitMix64(4);
    let executions = if soak() { 1_000_000 } else { 10_000 };
    let mut accepted = 0;
    for _ in 0..executions {
        let mut bytes = json.clone();
        for _ in 0..1 + random.below(3) {
            let at = random.below(bytes.len());
            let piece = random.below(24).min(bytes.len() - at);
            match random.below(6) {
                0 => bytes[at] = random.next_u64() as u8,
                // A digit for a digit: still a number.
                1 if bytes[at].is_ascii_digit() => bytes[at] = b"0123456789.-eE"[random.below(14)],
                2 => drop(bytes.drain(at..at + piece)),
                3 => {
                    let copy = bytes[at..at + piece].to_vec();
                    let to = random.below(bytes.len());
                    bytes.splice(to..to, copy);
                }
                4 => bytes.truncate(at),
                _ => {
                    let words = ["null", "1e999", "-1", "NaN", "1e308", "{}", "[]", "\"q05\"", "0", "9007199254740993"];
                    bytes.splice(at..at + piece, words[random.below(words.len())].bytes());
                }
            }
            if bytes.is_empty() {
                break;
            }
        }
        accepted += usize::from(body::run(&bytes));
    }
    println!("{executions} mutations, {accepted} accepted");
    assert!(body::run(&json) && accepted > 0 && accepted < executions / 2, "{accepted} of {executions}");
}
