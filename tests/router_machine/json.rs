//! The router's JSON beside serde_json's: the same values, the same refusals, the same bytes.

use crate::runner::runner;
use kinglet::router::json::{parse, to_text};
use proptest::prelude::*;
use serde_json::Value;

/// What documents are made of, and what breaks them.
const PIECES: [&str; 44] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    " ",
    "\n",
    "null",
    "true",
    "false",
    "nul",
    "\"a\"",
    "\"b\":",
    "\"\"",
    "\"",
    "0",
    "-0",
    "1",
    "-1",
    "01",
    "1.5",
    "-",
    "1.",
    ".5",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775808",
    "-9223372036854775809",
    "0.1234567890123456789",
    "2.5e-7",
    "1E+3",
    "1e",
    "4e400",
    "-4e-400",
    "\"\\u00e9\\n\\/\"",
    "\"\\ud83d\\uddfc\"",
    "\"\\ud83d\"",
    "\"\\udc00\\ud800\\u0061\"",
    "\"\\x\"",
    "\"\t\"",
    "\"\u{7f}é🗼\"",
    "\u{feff}",
    "{\"a\":[1,{\"b\":null}],\"c\":\"d\"}",
];

/// Strings with half a surrogate pair, and what they are read as.
const HALVES: [(&str, &str); 2] =
    [("\"\\ud83d\"", "\"\\ufffd\""), ("\"\\udc00\\ud800\\u0061\"", "\"\\ufffd\\ufffda\"")];

/// Both read it, or neither does.
fn compare(text: &str) {
    // serde_json refuses half a surrogate pair.
    let whole = HALVES.iter().fold(text.to_string(), |text, (half, read)| text.replace(half, read));
    match (parse(text), serde_json::from_str::<Value>(&whole)) {
        (Ok(ours), Ok(oracle)) => {
            assert!(near(&serde_json::to_value(&ours).unwrap(), &oracle), "{text:?}: {ours:?}");
            assert_eq!(to_text(&oracle), oracle.to_string());
        }
        (ours, oracle) => assert!(ours.is_err() && oracle.is_err(), "{text:?}: {ours:?}, serde_json: {oracle:?}"),
    }
}

#[test]
fn reads_and_writes_as_serde_json_does() {
    runner(20_000, 1_000_000)
        .run(&prop::collection::vec(0..PIECES.len(), 0..12), |choice| {
            let text: String = choice.into_iter().map(|i| PIECES[i]).collect();
            compare(&text);
            Ok(())
        })
        .unwrap();
}

/// A value of any shape, written by serde_json.
fn document() -> impl Strategy<Value = String> {
    let number = any::<f64>().prop_filter("JSON has no others", |number| number.is_finite());
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        number.prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((any::<String>(), inner), 0..4).prop_map(|fields| fields.into_iter().collect()),
        ]
    });
    value.prop_map(|value| value.to_string())
}

/// Whole, with a byte changed, and cut anywhere, where it says that it was.
#[test]
fn documents_of_any_shape_whole_and_broken() {
    let byte = prop_oneof![Just(b'"'), Just(b','), Just(b'0'), Just(b'}'), Just(b'\\'), Just(b' ')];
    runner(2_000, 100_000)
        .run(&(document(), any::<prop::sample::Index>(), byte), |(text, at, byte)| {
            let oracle: Value = serde_json::from_str(&text).unwrap();
            let ours = parse(&text).unwrap();
            assert!(near(&serde_json::to_value(&ours).unwrap(), &oracle), "{text}");
            assert_eq!(to_text(&oracle), oracle.to_string());
            let at = at.index(text.len());
            if text.is_char_boundary(at) {
                match (parse(&text[..at]), serde_json::from_str::<Value>(&text[..at])) {
                    (Err(ours), Err(oracle)) => assert_eq!(ours.cut, oracle.is_eof(), "{}", &text[..at]),
                    (ours, oracle) => assert_eq!(ours.is_ok(), oracle.is_ok(), "{}", &text[..at]),
                }
            }
            let mut bytes = text.into_bytes();
            bytes[at] = byte;
            if let Ok(text) = String::from_utf8(bytes) {
                assert_eq!(parse(&text).is_ok(), serde_json::from_str::<Value>(&text).is_ok(), "{text}");
            }
            Ok(())
        })
        .unwrap();
}

/// serde_json takes powers of ten beyond 10^22 from a table, which is some units in the last place nearer.
fn near(ours: &Value, oracle: &Value) -> bool {
    match (ours, oracle) {
        (Value::Number(a), Value::Number(b)) if a.is_f64() && b.is_f64() => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            (a - b).abs() <= 8.0 * f64::EPSILON * b.abs() + f64::from_bits(4)
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| near(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && near(a.1, b.1))
        }
        _ => ours == oracle,
    }
}

#[test]
fn what_is_nested_too_deep_is_refused_alike() {
    for depth in [126, 127, 128, 129, 100_000] {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            compare(&[open.repeat(depth), "0".into(), close.repeat(depth)].concat());
        }
    }
}

/// In the calibration, in prices and in limits: up to fifteen digits are read exactly.
#[test]
fn short_numbers_are_exact() {
    for i in 0..200_000u64 {
        let text = format!("{}.{:07}", i % 977, i * 49_999_991 % 10_000_000);
        assert_eq!(parse(&text).unwrap().as_f64(), text.parse().ok(), "{text}");
    }
}
