//! What leaves the device, and what does not.

use super::observer::End;
use super::runner::runner;
use super::scripts::{answers, healthy};
use super::world::{Net, Random, Script, World, config, core, engine, request};
use kinglet::router::consent::{Decision, Destination};
use kinglet::router::machine::{Event, Request};
use kinglet::router::policy::Config;
use kinglet::router::privacy::find::{Kind, find};
use kinglet::router::privacy::{Privacy, Restorer, scan};
use kinglet::router::record::{Cause, Source};
use proptest::prelude::*;
use serde_json::{Value, json};

fn found(text: &str) -> Vec<(&str, Kind)> {
    find(text, &[]).into_iter().map(|(range, kind)| (&text[range], kind)).collect()
}

#[test]
fn patterns_are_found() {
    for (text, value, kind) in [
        ("mail jane.doe+x@mail.example.co.uk.", "jane.doe+x@mail.example.co.uk", Kind::Email),
        ("müller@bücher.de", "müller@bücher.de", Kind::Email),
        ("<o'brien@example.org>", "o'brien@example.org", Kind::Email),
        ("call +49 (0)170 1234567!", "+49 (0)170 1234567", Kind::Phone),
        ("call +14155552671", "+14155552671", Kind::Phone),
        ("(415) 555-2671", "(415) 555-2671", Kind::Phone),
        ("415.555.2671", "415.555.2671", Kind::Phone),
        ("0170 1234567", "0170 1234567", Kind::Phone),
        ("card 4111 1111 1111 1111, thanks", "4111 1111 1111 1111", Kind::Card),
        ("5500005555555559", "5500005555555559", Kind::Card),
        ("378282246310005", "378282246310005", Kind::Card),
        ("to DE89 3704 0044 0532 0130 00 and then", "DE89 3704 0044 0532 0130 00", Kind::Iban),
        ("gb82west12345698765432", "gb82west12345698765432", Kind::Iban),
        ("at 192.168.178.1.", "192.168.178.1", Kind::Ip),
        ("at 10.0.0.1:8080", "10.0.0.1", Kind::Ip),
        ("at [2001:db8::8a2e:370:7334]", "2001:db8::8a2e:370:7334", Kind::Ip),
        ("fe80::1", "fe80::1", Kind::Ip),
        ("mac 00:1A:2b:3c:4D:5e", "00:1A:2b:3c:4D:5e", Kind::Mac),
        ("mac 00-1A-2b-3c-4D-5e.", "00-1A-2b-3c-4D-5e", Kind::Mac),
    ] {
        assert_eq!(found(text), [(value, kind)], "{text}");
    }
    for secret in [
        "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl",
        "Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w",
        "AKIAIOSFODNN7EXAMPLE",
        "key=sk-proj-Ab3dEf6hIj9kLm2n",
        "ghp_0123456789abcdefghijABCDEFGHIJ012345",
        "github_pat_11ABCDEFG0123456789_abcdef",
        "vncy_0123456789abcdef",
        "https://bob:hunter2@example.com/path",
        "postgres://app:p%40ss@db:5432/x",
        "postgres://app:p@ss@db:5432/x",
    ] {
        assert!(found(secret).iter().any(|(_, kind)| *kind == Kind::Secret), "{secret}: {:?}", found(secret));
    }
}

#[test]
fn what_is_none_stays() {
    for text in [
        "In 1999-2000, 3.14159 of 1,000,000 people",
        "version 1.2.3, at 12:30:45, on 2026-11-25T17:00:00",
        "order 4111 1111 1111 1112",
        "std::net::Ipv6Addr and a::b::c",
        "@home and name@, or a @ b",
        "scikit-learn, task-oriented-dialogue-system, sk-learn-contrib-modules",
        "GB82 WEST 1234 5698 7654 33",
        "999.1.1.1 and 1.2.3",
        "https://example.com/a:b@c",
        "-----BEGIN CERTIFICATE-----",
        "1 2 3 4 5 6 7 8 9 10 11 12",
        "eyJ is how they begin",
        "the years 1914 1918 1939 1945",
    ] {
        assert_eq!(found(text), [], "{text}");
    }
}

fn redact(text: &str, terms: &[&str]) -> kinglet::router::privacy::CleanScan {
    let destination = Destination { host: "h".into(), model: "m".into() };
    let privacy = Privacy { terms: terms.iter().map(|term| term.to_string()).collect(), ..Privacy::default() };
    scan(destination, text.into(), &privacy).unwrap()
}

#[test]
fn the_same_value_has_the_same_placeholder() {
    let scan = redact("a@b.co, c@d.co, again a@b.co; Project Heron by 0170 1234567.", &["Heron"]);
    assert_eq!(scan.body(), "\"[EMAIL_1], [EMAIL_2], again [EMAIL_1]; Project [TERM_1] by [PHONE_1].\"");
    // The user's own words are not restored.
    let scan = redact("What does [EMAIL_1] mean? Mine is a@b.co.", &[]);
    assert_eq!(scan.body(), "\"What does [EMAIL_1] mean? Mine is [EMAIL_2].\"");
    assert_eq!(scan.vault().restore("[EMAIL_1] and [EMAIL_2]"), "[EMAIL_1] and a@b.co");
}

#[test]
fn restored_at_every_split() {
    let ten: Vec<String> = (0..12).map(|i| format!("u{i}@x.co")).collect();
    let scan = redact(&ten.join(" "), &[]);
    let text = "[[EMAIL_1], [EMAIL_12]x[EMAIL_2][EMAIL_ [EMAIL_99] ü[EMAI[EMAIL_11]L_3] [EMAIL_1";
    let expected = "[u0@x.co, u11@x.cox".to_string() + "u1@x.co[EMAIL_ [EMAIL_99] ü[EMAIu10@x.coL_3] [EMAIL_1";
    let borders: Vec<usize> = (0..=text.len()).filter(|&i| text.is_char_boundary(i)).collect();
    let run = |pieces: &[&str]| {
        let mut restorer = Restorer::default();
        let shown: String = pieces.iter().map(|piece| restorer.push(scan.vault(), piece)).collect();
        shown + &restorer.finish()
    };
    for &a in &borders {
        for &b in borders.iter().filter(|&&b| b >= a) {
            assert_eq!(run(&[&text[..a], &text[a..b], &text[b..]]), expected, "{a} {b}");
        }
    }
    let single: Vec<String> = text.chars().map(String::from).collect();
    assert_eq!(run(&single.iter().map(String::as_str).collect::<Vec<_>>()), expected);
    // Nothing is held longer than needed.
    let mut restorer = Restorer::default();
    assert_eq!(restorer.push(scan.vault(), "an array [EM"), "an array ");
    assert_eq!(restorer.push(scan.vault(), "PTY]"), "[EMPTY]");
}

#[test]
fn an_option_that_looks_like_a_card_stays_a_number() {
    let mut world = World::new(vec![config(json!({ "mode": "only-cloud" }))]);
    let mut script = Random::new(1);
    world.server = Box::new(move |_, _, _| answers(&mut script, "Yes."));
    let card = 4_111_111_111_111_111u64;
    let tool = json!({ "type": "function", "function": { "name": "f", "parameters": { "const": card } } });
    let question = json!({
        "messages": [{ "role": "user", "content": "Hm?", "metadata": { "card": card } }],
        "params": { "seed": card, "temperature": 0.123_456_789, "tools": [tool] },
    });
    world.ask(0, 0, 1, request(question), engine("", None));
    world.run();
    let body: Value = serde_json::from_str(&world.sent[0].2).unwrap();
    assert_eq!((&body["seed"], &body["temperature"]), (&json!(card), &json!(0.123_456_789)));
    assert_eq!(body["messages"][0]["metadata"]["card"], "[CARD_1]");
    assert_eq!(body["tools"][0]["function"]["parameters"]["const"], "[CARD_1]");
}

/// What was meant to hide something, and would not.
#[test]
fn settings_that_cannot_be_read_are_errors() {
    let cloud = json!({ "url": "https://cloud.example/v1", "model": "m" });
    for (settings, name) in [
        (json!({ "privacy": { "terms": ["Heron", 7] } }), "privacy.terms"),
        (json!({ "privacy": { "terms": ["Heron", null] } }), "privacy.terms"),
        (json!({ "privacy": { "terms": "Heron" } }), "privacy.terms"),
        (json!({ "privacy": { "term": ["Heron"] } }), "privacy.term is"),
        (json!({ "privacy": ["Heron"] }), "privacy must"),
        (json!({ "privcay": { "terms": ["Heron"] } }), "privcay"),
        (json!({ "policy": { "hold": true, "earl": 0.3 } }), "policy.earl"),
        (json!({ "budget": { "USD": 1 } }), "budget.USD"),
        (json!({ "net": { "first_ms": 1 } }), "net.first_ms"),
        (json!({ "cloud": { "url": "https://cloud.example/v1", "model": "m", "max_tokens": 9 } }), "cloud.max_tokens"),
        (json!({ "cloud": { "url": "https://x.example", "price": { "in": 1, "out": 2 } } }), "cloud.price.in"),
        (json!({ "granted": [{ "host": "cloud.example", "model": "m" }, "cloud.example"] }), "granted"),
        (json!({ "granted": [{ "host": "cloud.example" }] }), "granted"),
        (json!({ "granted": [{ "host": "cloud.example", "model": "m", "until": 1 }] }), "granted"),
        (json!([]), "an object"),
    ] {
        let error = Config::from_json(&core(&settings)).expect_err("it was accepted").to_string();
        assert!(error.contains(name), "{name}: {error}");
    }
    let all = json!({
        "tab": "t", "seed": 1, "cloud": cloud, "mode": "auto", "policy": { "early": 0.1, "pre": null, "hold": false },
        "privacy": { "pii": "redact", "context": "all", "terms": ["Heron"] }, "budget": { "periodMs": 1 },
        "net": { "firstMs": 1, "consentMs": 2 }, "granted": [{ "host": "cloud.example", "model": "m" }], "neverAsk": true,
    });
    let config = Config::from_json(&core(&all)).unwrap();
    assert_eq!((config.privacy.terms, config.granted.len(), config.net.consent_ms), (vec!["Heron".into()], 1, 2));
    let error = Request::from_json(&core(&json!({ "messages": [], "privat": true }))).unwrap_err().to_string();
    assert!(error.contains("privat is"), "{error}");
}

/// Pieces of what is looked for, in any order: nothing panics, and what was hidden comes back as it was.
#[test]
fn whatever_is_hidden_comes_back() {
    let pieces = [
        "a",
        "ü",
        "🗼",
        " ",
        "\n",
        "@",
        ".",
        "co",
        "x@y.de",
        "+49",
        "0170",
        "(",
        ")",
        "-",
        "/",
        ":",
        "::",
        "fe80",
        "12",
        "345",
        "6789",
        "4111 1111 1111 1111",
        "DE89 3704 0044 0532 0130 00",
        "DE89",
        "10.0.0.1",
        "00:1A:2b",
        ":3c:4D:5e",
        "[",
        "]",
        "[EMAIL_1]",
        "[PHONE_",
        "1]",
        "://",
        "eyJ",
        "sk_",
        "-----BEGIN ",
        "_",
        "\"",
        "\\",
        "\u{0}",
    ];
    let text = prop::collection::vec(0..pieces.len(), 0..40);
    runner(4_000, 400_000)
        .run(&text, |choice| {
            let text: String = choice.into_iter().map(|i| pieces[i]).collect();
            let destination = Destination { host: "h".into(), model: "m".into() };
            let privacy = Privacy { terms: vec!["ü🗼".into(), "co".into()], ..Privacy::default() };
            if let Ok(scan) = scan(destination, text.clone().into(), &privacy) {
                let sent: String = serde_json::from_str(scan.body()).unwrap();
                prop_assert_eq!(scan.vault().restore(&sent), text);
                prop_assert!(!sent.contains("x@y.de") && !sent.contains("ü🗼"), "{}", sent);
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn hostile_texts_take_no_long_time() {
    for piece in [
        "(",
        "sk-",
        "eyJ",
        "-----BEGIN PRIVATE KEY-----",
        "@",
        "a@",
        "a@b.co ",
        "1:",
        "::",
        "1.1.1.1",
        "DE89",
        "4111 ",
        "+1 ",
        "[EMAIL_1]",
    ] {
        let text = piece.repeat(200_000 / piece.len());
        let started = std::time::Instant::now();
        let destination = Destination { host: "h".into(), model: "m".into() };
        let _ = scan(destination, text.into(), &Privacy::default());
        assert!(started.elapsed().as_secs() < 10, "{piece}: {:?}", started.elapsed());
    }
}

const SECRETS: [&str; 8] = [
    "sk-CANARYabcdef1234567890",
    "AKIACANARY0123456789",
    "ghp_CANARY0123456789abcdefghij",
    "eyJCANARYhbGciOi.eyJzdWIiOiIx.c2lnbmF0dXJl",
    "https://canary:CANARY9@example.com/",
    "-----BEGIN PRIVATE KEY-----\nCANARY0123\n-----END PRIVATE KEY-----",
    "xoxb-CANARY-0123456789abc",
    "hf_CANARY0123456789abcdef",
];
const PII: [&str; 7] = [
    "canary@example.com",
    "+49 170 5550123",
    "4111 1111 1111 1111",
    "DE89 3704 0044 0532 0130 00",
    "203.0.113.77",
    "2001:db8::ca:7a",
    "ca:7a:00:11:22:33",
];

/// 10,000 requests, each with something that must not leave: hidden, blocked, private, or for lack of consent.
#[test]
fn no_canary_leaves() {
    let mut outcomes = [0usize; 5];
    for seed in 0..10_000 {
        let mut random = Random::new(seed);
        let mut below = |n: u64| random.below(n) as usize;
        let (secret, pii) = (SECRETS[below(8)], PII[below(7)]);
        // What is in it, besides a word that only consent lets out.
        let (with_secret, private, older) = (below(5) == 0, below(6) == 0, below(2) == 0);
        let canary = if with_secret { secret } else { pii };
        let around =
            [("", ""), ("Please use ", " for it."), ("(", ")"), ("x=\"", "\"\n"), ("é ", " 🗼"), ("\t", "\r\n")]
                [below(6)];
        let hidden = format!("{}{canary}{} and PLAIN-WORD-{seed}", around.0, around.1);
        let mut question = json!({ "messages": [
            { "role": "user", "content": "OLDER-WORD before" }, { "role": "assistant", "content": "Yes?" },
            { "role": "user", "content": "Tell me." },
        ], "params": {} });
        let last = &mut question["messages"][2];
        match below(5) {
            0 => last["content"] = json!([{ "type": "text", "text": hidden }]),
            1 => {
                question["params"]["tools"] =
                    json!([{ "type": "function", "function": { "name": "f", "description": hidden } }])
            }
            2 => question["params"]["stop"] = json!([hidden]),
            3 => last["metadata"] = json!({ hidden: 1 }),
            _ => last["content"] = json!(hidden),
        }
        if private {
            question["messages"][2]["labels"] = json!(["private"]);
        }
        if older {
            question["messages"][0]["content"] = json!(format!("OLDER-WORD {canary}"));
            question["messages"][0]["private"] = json!(true);
        }
        let mode = ["auto", "only-local", "prefer-cloud", "only-cloud", "prefer-local"][below(5)];
        let consents = [None, Some(Decision::Deny), Some(Decision::Once), Some(Decision::Always)][below(4)];
        let mut world = World::new(vec![config(json!({ "mode": mode, "seed": seed, "net": { "consentMs": 5000 } }))]);
        world.user = Box::new(move |_, _| consents.map(|decision| (20, decision)));
        let mut script = Random::new(seed);
        world.server = Box::new(move |_, _, _| {
            answers(&mut script, "Written to [EMAIL_1] [PHONE_1] [CARD_1] [IBAN_1] [IP_1] [MAC_1].")
        });
        world.at(0, 0, Event::Calibration { tau: 0.8, calibrated: true, drift: false });
        world.ask(1, 0, 1, request(question), engine("Hm. ", Some(0.1)));
        world.run();

        let observer = world.observer(0, 1);
        let record = serde_json::to_string(observer.record()).unwrap();
        let digits = |text: &str| text.chars().filter(|c| c.is_ascii_alphanumeric()).collect::<String>().to_lowercase();
        for text in [&record].into_iter().chain(world.sent.iter().map(|(_, _, body)| body)) {
            assert!(
                !digits(text).contains(&digits(canary)) && !text.contains("CANARY"),
                "seed {seed}: {canary} in {text}"
            );
            assert!(!text.contains("OLDER-WORD"));
        }
        assert!(!record.contains("PLAIN-WORD"));
        for preview in &world.previews {
            assert!(!preview.body.contains("CANARY") && !preview.body.contains(canary));
        }
        let may_leave = !with_secret && !private && matches!(consents, Some(Decision::Once | Decision::Always));
        match mode {
            "only-local" => {
                assert!(world.sent.is_empty() && world.previews.is_empty() && world.store.is_none());
                outcomes[0] += 1;
            }
            // The local answer is not vetoed.
            "prefer-local" => assert!(world.sent.is_empty()),
            _ if may_leave => {
                assert_eq!(world.sent.len(), 1);
                let answer = observer.answer();
                assert!(answer.source == Source::Cloud && answer.text.contains(pii), "seed {seed}: {}", answer.text);
                outcomes[1] += 1;
            }
            _ => {
                assert!(world.sent.is_empty(), "seed {seed}");
                let cause = observer.record().blocked_by.unwrap();
                let expected = match () {
                    () if private => Cause::Private,
                    () if with_secret => Cause::Secret,
                    () => Cause::ConsentDenied,
                };
                assert_eq!(cause, expected);
                assert!(matches!(observer.end, Some(End::Failed(..))) == (mode == "only-cloud"));
                outcomes[2 + usize::from(private) + 2 * usize::from(!private && with_secret)] += 1;
            }
        }
    }
    println!("only-local, sent clean, no consent, private, secret: {outcomes:?}");
    assert!(outcomes.iter().all(|n| *n > 300), "{outcomes:?}");
}

#[test]
fn a_placeholder_split_over_chunks_is_shown_whole() {
    let pieces = healthy("To [EMAIL_1] at [PHONE_1], of course.");
    let bytes = pieces.concat().into_bytes();
    for split in 1..bytes.len() {
        let mut world = World::new(vec![config(json!({ "mode": "only-cloud" }))]);
        let (a, b) = (bytes[..split].to_vec(), bytes[split..].to_vec());
        world.server = Box::new(move |_, _, _| {
            let head = Net::Head { status: 200, content_type: None, retry_after: None };
            let steps = vec![(5, head), (6, Net::Bytes(a.clone())), (7, Net::Bytes(b.clone())), (8, Net::End)];
            Script { steps, billed: None }
        });
        let question = json!({ "messages": [{ "role": "user", "content": "jane@example.com, +49 170 5550123" }] });
        world.ask(0, 0, 1, request(question), engine("", None));
        world.run();
        assert_eq!(world.observer(0, 1).answer().text, "To jane@example.com at +49 170 5550123, of course.");
    }
}
