//! Event streams at every split of their bytes, and what servers send instead of one.

use kinglet::router::fault::Fault;
use kinglet::router::openai::Finish;
use kinglet::router::reader::{Item, Reader};
use kinglet::router::record::Tokens;
use kinglet::router::sse::EventStream;

/// (name, data) of each event.
type Events = Vec<(String, String)>;

fn events(pieces: &[&[u8]]) -> Events {
    let mut stream = EventStream::default();
    let mut all: Vec<_> = pieces.iter().flat_map(|piece| stream.push(piece)).map(Result::unwrap).collect();
    all.extend(stream.finish());
    all.into_iter().map(|message| (message.name, message.data)).collect()
}

#[test]
fn the_same_events_at_every_split() {
    let message = |data: &str| ("message".to_string(), data.to_string());
    let corpus: Vec<(&[u8], Events)> = vec![
        (b"data: a\n\ndata: b\n\n", vec![message("a"), message("b")]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", vec![message("a"), message("b")]),
        (b"data: a\r\rdata: b\r\r", vec![message("a"), message("b")]),
        (b"data: a\r\n\rdata: b\n\r\n", vec![message("a"), message("b")]),
        (b"\xef\xbb\xbfdata: a\n\n", vec![message("a")]),
        (b"data:a\n\ndata:  b\n\ndata\n\n", vec![message("a"), message(" b"), message("")]),
        (b"data: a\ndata: b\ndata:\ndata: c\n\n", vec![message("a\nb\n\nc")]),
        (b": comment\n\n:\n:data: x\ndata: a\n: more\n\n", vec![message("a")]),
        (b"event: error\ndata: x\n\ndata: y\n\n", vec![("error".into(), "x".into()), message("y")]),
        (b"event: lost\n\ndata: a\n\n", vec![message("a")]),
        (b"id: 1\nretry: 10\nunknown: x\nnocolon\ndata: a\n\n", vec![message("a")]),
        (
            "data: gr\u{fc}\u{df}e \u{1f5fc}\n\ndata: \u{4f60}\u{597d}\r\n\r\n".as_bytes(),
            vec![message("grüße 🗼"), message("你好")],
        ),
        (b"data: bad \xff\xfe utf-8\n\n", vec![message("bad \u{fffd}\u{fffd} utf-8")]),
        (b"data: last", vec![message("last")]),
        (b"data: last\n", vec![message("last")]),
        (b"data: last\r", vec![message("last")]),
        (b"data: last\r\n", vec![message("last")]),
        (b"\n\n\r\n\r\rdata: a\n\n\n\n", vec![message("a")]),
        (b"data: {\"a\": \"x: y\"}\n\n", vec![message("{\"a\": \"x: y\"}")]),
        (b"dat", vec![]),
        (b"", vec![]),
        (b"\xef\xbb", vec![]),
    ];
    for (bytes, expected) in &corpus {
        assert_eq!(events(&[bytes]), *expected, "{}", bytes.escape_ascii());
        for a in 0..=bytes.len() {
            for b in a..=bytes.len() {
                let split = events(&[&bytes[..a], &bytes[a..b], &bytes[b..]]);
                assert_eq!(split, *expected, "{} at {a} and {b}", bytes.escape_ascii());
            }
        }
        assert_eq!(events(&bytes.chunks(1).collect::<Vec<_>>()), *expected, "{}", bytes.escape_ascii());
    }
}

/// Text, finish, usage, and how it ended.
#[derive(Debug, PartialEq, Default)]
struct Read {
    text: String,
    finish: Option<Finish>,
    usage: Option<Tokens>,
    fault: Option<Fault>,
}

fn read(content_type: Option<&str>, pieces: &[&[u8]], cut: bool) -> Read {
    let mut reader = Reader::new(200, content_type).unwrap();
    let mut items: Vec<Item> = pieces.iter().flat_map(|piece| reader.push(piece)).collect();
    items.extend(reader.end(cut));
    let mut read = Read { usage: reader.usage, ..Read::default() };
    let ends = items.iter().filter(|item| matches!(item, Item::Done | Item::Fault(_))).count();
    assert_eq!(ends, 1, "{items:?}");
    for item in items {
        match item {
            Item::Text(text) => read.text += &text,
            Item::Fault(fault) => read.fault = Some(fault),
            Item::Done => read.finish = reader.finish,
            Item::Progress => {}
        }
    }
    read
}

#[test]
fn every_kind_of_answer_at_every_split() {
    const HI: &str = r#"data: {"choices":[{"index":0,"delta":{"content":"hé"}}]}"#;
    const STOP: &str = r#"data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
    const USAGE: &str = r#"data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#;
    let usage = Some(Tokens { input: 3, output: 2 });
    let good = |text: &str| Read { text: text.into(), finish: Some(Finish::Stop), ..Read::default() };
    let bad = |text: &str, fault| Read { text: text.into(), fault: Some(fault), ..Read::default() };
    let corpus: Vec<(String, Read)> = vec![
        (format!("{HI}\n\n{STOP}\n\n{USAGE}\n\ndata: [DONE]\n\n"), Read { usage, ..good("hé") }),
        (format!("{HI}\n\n{STOP}\n\ndata: [DONE] \n\n"), good("hé")),
        (format!("{HI}\n\n{STOP}\n\ndata:[DONE]"), good("hé")),
        (format!("{HI}\r\n\r\n{STOP}\r\n\r\n"), good("hé")),
        (format!("{HI}\n\n{STOP}\n\n{HI}\n\n{HI}\n\n"), good("hé")),
        (format!("{HI}\n\n{STOP}"), good("hé")),
        (format!("{HI}\n\ndata: [DONE]\n\n"), good("hé")),
        (format!("{HI}\n\n{HI}\n\n"), bad("héhé", Fault::Cut)),
        (format!("{HI}\n\ndata: {{\"choices\":[{{\"delta\":{{\"conte"), bad("hé", Fault::Cut)),
        (format!("data: {{\"choices\":[{{\"delta\":{{\"role\":\"assistant\",\"content\":null}},\"finish_reason\":null}}],\"usage\":null}}\n\n{HI}\n\n{STOP}\n\n"), good("hé")),
        (format!("{HI}\n\ndata: {{\"choices\":[{{\"index\":1,\"delta\":{{\"content\":\"other\"}}}}]}}\n\n{STOP}\n\n"), good("hé")),
        (format!("{HI}\n\ndata: nonsense\n\n{STOP}\n\n"), good("hé")),
        (format!("{HI}\n\ndata: nonsense\n\ndata: more\n\n{STOP}\n\n"), bad("hé", Fault::Malformed)),
        (format!("{HI}\n\ndata: {{\"error\":{{\"code\":503}}}}\n\n"), bad("hé", Fault::Http(503))),
        (format!("{HI}\n\ndata: {{\"error\":{{\"type\":\"insufficient_quota\",\"code\":\"insufficient_quota\"}}}}\n\n"), bad("hé", Fault::Http(402))),
        (format!("{HI}\n\nevent: error\ndata: {{\"error\":{{\"type\":\"overloaded_error\"}}}}\n\n"), bad("hé", Fault::Http(529))),
        (format!("{STOP}\n\ndata: [DONE]\n\n"), bad("", Fault::Empty)),
        ("\r\n<!DOCTYPE html><html>data: x\n\n".into(), bad("", Fault::Html)),
        (r#" {"choices":[{"message":{"content":[{"type":"text","text":"hé"}]},"finish_reason":"end_turn"}],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#.into(), Read { usage, ..good("hé") }),
        (r#"{"choices":[{"message":{"content":"hé"}}]}"#.into(), good("hé")),
        (r#"{"choices":[{"message":{"content":"h"#.into(), bad("", Fault::Cut)),
        (r#"{"error":{"message":"no","code":"context_length_exceeded"}}"#.into(), bad("", Fault::Http(400))),
        ("[1, 2]".into(), bad("", Fault::NotAnAnswer)),
        ("Service Unavailable".into(), bad("", Fault::NotAnAnswer)),
        (": ping\n\n: ping\n\n".into(), bad("", Fault::NotAnAnswer)),
        ("".into(), bad("", Fault::Cut)),
    ];
    for (text, expected) in &corpus {
        let bytes = text.as_bytes();
        for kind in [None, Some("application/octet-stream")] {
            assert_eq!(read(kind, &[bytes], false), *expected, "{text}");
            for at in 0..=bytes.len() {
                assert_eq!(read(kind, &[&bytes[..at], &bytes[at..]], false), *expected, "{text} at {at}");
            }
            assert_eq!(read(kind, &bytes.chunks(1).collect::<Vec<_>>(), false), *expected, "{text}");
        }
    }
}

#[test]
fn events_delivered_twice_count_once_where_they_are_numbered() {
    let event =
        |id: u32, text: &str| format!("id: {id}\ndata: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n");
    let unnumbered = |text: &str| event(0, text).replace("id: 0\n", "");
    let text = |stream: String| read(None, &[(stream + "data: [DONE]\n\n").as_bytes()], false).text;
    assert_eq!(text(event(1, "a") + &event(2, "ha") + &event(2, "ha") + &event(3, "ha")), "ahaha");
    // One id for all numbers nothing, and neither does none.
    assert_eq!(text(event(1, "a") + &event(1, "ha") + &event(1, "ha")), "ahaha");
    assert_eq!(text(unnumbered("ha") + &unnumbered("ha")), "haha");
}

#[test]
fn streams_of_real_servers() {
    const LLAMA_CPP: &str = include_str!("../fixtures/sse/llama-cpp.sse");
    const LLAMA_CPP_PYTHON: &str = include_str!("../fixtures/sse/llama-cpp-python.sse");
    const LITELLM: &str = include_str!("../fixtures/sse/litellm.sse");
    const LITELLM_ERROR: &str = include_str!("../fixtures/sse/litellm-error.sse");
    let bird =
        |usage| Read { text: "Once upon a time, there".into(), finish: Some(Finish::Length), usage, fault: None };
    let corpus = [
        (LLAMA_CPP, bird(Some(Tokens { input: 16, output: 6 }))),
        (LLAMA_CPP_PYTHON, bird(None)),
        (
            LITELLM,
            Read {
                text: "Paris is the capital of France – naïvely said 🗼.".into(),
                finish: Some(Finish::Stop),
                usage: Some(Tokens { input: 15, output: 15 }),
                fault: None,
            },
        ),
        (LITELLM_ERROR, Read { text: "Attempt 1 at ".into(), fault: Some(Fault::Http(500)), ..Read::default() }),
    ];
    for (stream, expected) in &corpus {
        let bytes = stream.as_bytes();
        assert_eq!(read(Some("text/event-stream"), &[bytes], false), *expected);
        for at in 0..=bytes.len() {
            assert_eq!(read(None, &[&bytes[..at], &bytes[at..]], false), *expected, "at {at}");
        }
    }
}
