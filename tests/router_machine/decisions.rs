//! Which source answers, and what stands against the cloud.

use super::observer::End;
use super::scripts::{TOKENS, answers, delta, healthy};
use super::world::{Engine, Net, Random, Script, URL, World, config, core, engine, request};
use kinglet::ErrorCode;
use kinglet::router::budget::{Budget, Spending};
use kinglet::router::consent::{Consent, Decision, Destination, Grants};
use kinglet::router::machine::{Event, LocalEnd, Machine};
use kinglet::router::openai::Finish;
use kinglet::router::policy::{Config, Endpoint, check_token};
use kinglet::router::privacy::{Privacy, scan};
use kinglet::router::record::{Cause, Reason, Source};
use kinglet::router::sealed::SealedRequest;
use kinglet::router::veto::Veto;
use serde_json::{Value, json};

const LOCAL: &str = "It is Lyon, I think. ";
const CLOUD: &str = "It is Paris.";

fn world(extra: Value) -> World {
    let mut world = World::new(vec![config(extra)]);
    let mut random = Random::new(1);
    world.server = Box::new(move |_, _, _| answers(&mut random, CLOUD));
    world.at(0, 0, Event::Calibration { tau: 0.8, calibrated: true, drift: false });
    world
}

fn asked(extra: Value, question: Value, engine: Engine) -> World {
    let mut world = world(extra);
    world.ask(1, 0, 1, request(question), engine);
    world.run();
    world
}

#[test]
fn modes() {
    let source = |mode: &str, p_ok: f64| {
        let world = asked(json!({ "mode": mode }), json!({}), engine(LOCAL, Some(p_ok)));
        let answer = world.observer(0, 1).answer();
        assert_eq!(answer.text, if answer.source == Source::Local { LOCAL } else { CLOUD });
        assert_eq!(world.sent.len(), usize::from(answer.source == Source::Cloud));
        (answer.source, answer.record.wanted_cloud)
    };
    assert_eq!(source("only-local", 0.1), (Source::Local, None));
    assert_eq!(source("prefer-local", 0.1), (Source::Local, None));
    assert_eq!(source("auto", 0.9), (Source::Local, None));
    assert_eq!(source("auto", 0.1), (Source::Cloud, Some(Reason::LowConfidence)));
    // Not a number, or none where a calibration looks for one: not sure.
    assert_eq!(source("auto", f64::NAN), (Source::Cloud, Some(Reason::LowConfidence)));
    let world = asked(json!({}), json!({}), engine(LOCAL, None));
    assert_eq!(world.observer(0, 1).answer().text, CLOUD);
    assert_eq!(source("prefer-cloud", 0.9), (Source::Cloud, Some(Reason::Mode)));
    assert_eq!(source("only-cloud", 0.9), (Source::Cloud, Some(Reason::Mode)));
}

#[test]
fn a_cloud_answer_counts_what_it_took() {
    let world = asked(json!({}), json!({}), engine(LOCAL, Some(0.1)));
    let answer = world.observer(0, 1).answer();
    let cost = TOKENS.0 * 3_000 + TOKENS.1 * 15_000;
    assert_eq!((answer.record.cost, answer.record.counterfactual, answer.record.cost_is_bound), (cost, cost, false));
    assert_eq!(world.ledger().spending.committed(), cost);
    assert_eq!(world.observer(0, 1).switches, 1, "the draft was retracted");
    // A local one counts what the cloud would have taken.
    let world = asked(json!({}), json!({}), engine(LOCAL, Some(0.9)));
    let record = world.observer(0, 1).record();
    assert_eq!((record.cost, record.counterfactual), (0, 12 * 3_000 + 5 * 15_000));
    assert!((record.saved_usd - 111e-6).abs() < 1e-12, "{}", record.saved_usd);
    let json = serde_json::to_string(record).unwrap();
    assert!(!json.contains("Lyon") && !json.contains("France"), "{json}");
}

#[test]
fn structural_vetoes_want_the_cloud_in_prefer_local_too() {
    let reason = |text: &str, change: &dyn Fn(&mut LocalEnd), question: Value| {
        let mut engine = engine(text, Some(0.99));
        change(engine.end.as_mut().unwrap());
        let world = asked(json!({ "mode": "prefer-local" }), question, engine);
        world.observer(0, 1).record().wanted_cloud
    };
    let cut = |end: &mut LocalEnd| end.finish = Finish::Length;
    let veto = |veto| Some(Reason::Veto(veto));
    assert_eq!(reason("", &|_| {}, json!({})), veto(Veto::Empty));
    assert_eq!(reason(LOCAL, &cut, json!({})), veto(Veto::Cut));
    assert_eq!(reason(LOCAL, &cut, json!({ "params": { "max_tokens": 4 } })), None, "it asked for a cut");
    assert_eq!(
        reason(LOCAL, &|_| {}, json!({ "params": { "response_format": { "type": "json_object" } } })),
        veto(Veto::NotJson)
    );
    let call = |weak: bool| {
        move |end: &mut LocalEnd| {
            end.tool_calls = vec![core(&json!({ "function": { "name": "f", "arguments": "{}" } }))];
            end.weak_tool_call = weak;
        }
    };
    assert_eq!(reason("", &call(false), json!({})), None);
    assert_eq!(reason("", &call(true), json!({})), veto(Veto::WeakToolCall));
}

#[test]
fn nothing_is_sent_where_something_stands_against_it() {
    let blocked = |extra: Value, question: Value| {
        let mut world = world(extra);
        world.user = Box::new(|_, _| Some((10, Decision::Deny)));
        world.ask(1, 0, 1, request(question), engine(LOCAL, Some(0.1)));
        world.run();
        assert!(world.sent.is_empty());
        let answer = world.observer(0, 1).answer();
        assert_eq!((answer.text.as_str(), answer.source), (LOCAL, Source::Local));
        let degraded = answer.degraded.expect("degraded");
        assert_eq!(degraded.wanted, Reason::LowConfidence);
        (degraded.blocked_by, world.previews.len())
    };
    let says = |text: &str| json!({ "messages": [{ "role": "user", "content": text }] });
    assert_eq!(blocked(json!({}), json!({})), (Cause::ConsentDenied, 1));
    assert_eq!(blocked(json!({ "neverAsk": true }), json!({})), (Cause::ConsentDenied, 0));
    assert_eq!(blocked(json!({ "cloud": null }), json!({})), (Cause::NotConfigured, 0));
    assert_eq!(blocked(json!({}), json!({ "private": true })), (Cause::Private, 0));
    let granted = json!([{ "host": "cloud.example", "model": "large" }]);
    let private =
        json!({ "messages": [{ "role": "user", "content": [{ "type": "text", "text": "x", "private": true }] }] });
    assert_eq!(blocked(json!({ "granted": granted }), private), (Cause::Private, 0), "a label beats consent");
    let secret = says("My key is sk-abcdefgh12345678ijkl, why does it fail?");
    assert_eq!(blocked(json!({ "granted": granted }), secret), (Cause::Secret, 0));
    let email = says("Write to jane.doe@example.com");
    assert_eq!(blocked(json!({ "granted": granted, "privacy": { "pii": "block" } }), email), (Cause::Pii, 0));
    assert_eq!(blocked(json!({ "budget": { "usd": 0.001 } }), json!({})), (Cause::Budget, 0));
}

#[test]
fn offline_and_no_word_and_no_lock() {
    let ask = |prepare: &dyn Fn(&mut World)| {
        let mut world = world(json!({}));
        prepare(&mut world);
        world.ask(1, 0, 1, request(json!({})), engine(LOCAL, Some(0.1)));
        world.run();
        assert!(world.sent.is_empty());
        let answer = world.observer(0, 1).answer();
        assert_eq!(answer.text, LOCAL);
        (answer.degraded.unwrap().blocked_by, answer.record.ms)
    };
    let (cause, ms) = ask(&|world| world.at(0, 0, Event::Online { online: false }));
    assert!(cause == Cause::Offline && ms < 500, "{cause:?} {ms}");
    let (cause, ms) = ask(&|world| world.user = Box::new(|_, _| None));
    assert!(cause == Cause::ConsentDenied && (120_000..121_000).contains(&ms), "{cause:?} {ms}");
    let (cause, ms) = ask(&|world| world.locked = true);
    assert!(cause == Cause::Storage && (5_000..6_000).contains(&ms), "{cause:?} {ms}");
    // It goes offline while the user still reads the preview.
    let (cause, ms) = ask(&|world| {
        world.user = Box::new(|_, _| Some((9_000, Decision::Always)));
        world.at(3_000, 0, Event::Online { online: false });
    });
    assert!(cause == Cause::Offline && ms < 3_100, "{cause:?} {ms}");
}

#[test]
fn consent_is_for_what_was_shown() {
    let mut world = world(json!({ "mode": "prefer-cloud" }));
    let (send, decisions) = std::sync::mpsc::channel();
    [Decision::Once, Decision::Deny, Decision::Always].into_iter().for_each(|d| send.send(d).unwrap());
    world.user = Box::new(move |_, _| Some((10, decisions.recv().unwrap())));
    (1..=5).for_each(|id| world.ask(id * 10_000, 0, id, request(json!({})), engine(LOCAL, None)));
    world.run();
    assert_eq!((world.previews.len(), world.consents_kept), (3, 1));
    let sent: Vec<u64> = world.sent.iter().map(|((_, id), _, _)| *id).collect();
    assert_eq!(sent, [1, 3, 4, 5]);
    assert!(world.sent.iter().all(|(_, _, body)| *body == world.previews[0].body));
    // A word for one body seals no other.
    let endpoint = Endpoint::new(URL, "large").unwrap();
    let body =
        |text: &str| scan(endpoint.destination().clone(), core(&json!({ "text": text })), &Privacy::default()).unwrap();
    let hold = || Spending::default().reserve(0, &Budget::default(), "id", 1, 1).unwrap();
    let once = Grants::default().decide(&body("shown"), Decision::Once).unwrap();
    assert!(SealedRequest::seal(&endpoint, &once, &body("shown"), hold()).is_some());
    assert!(SealedRequest::seal(&endpoint, &once, &body("other"), hold()).is_none());
    let elsewhere = Endpoint::new("https://other.example/v1", "large").unwrap();
    assert!(SealedRequest::seal(&elsewhere, &once, &body("shown"), hold()).is_none());
    // For another model it does not hold.
    let large = Destination { host: "cloud.example".into(), model: "large".into() };
    let grants = Grants::new([large.clone()]);
    let standing = |destination: &Destination| -> Option<Consent> { grants.standing(destination) };
    assert!(standing(&large).is_some());
    assert!(standing(&Destination { model: "larger".into(), ..large.clone() }).is_none());
    assert!(standing(&Destination { host: "cloud.example:8443".into(), ..large }).is_none());
}

#[test]
fn the_draft_survives_and_the_local_model_steps_in() {
    // Early rejection: the local model goes on while the cloud is tried.
    let mut slow = engine(&"word ".repeat(50), Some(0.9));
    slow.check = Some((8, 0.1));
    slow.token_ms = 400;
    let mut world = world(json!({ "policy": { "early": 0.5 } }));
    world.server = Box::new(|_, _, _| Script {
        steps: vec![(20, Net::Head { status: 400, content_type: None, retry_after: None })],
        billed: None,
    });
    world.ask(1, 0, 1, request(json!({})), slow.clone());
    world.run();
    let answer = world.observer(0, 1).answer();
    assert_eq!((answer.text.len(), world.observer(0, 1).switches), (250, 0));
    assert_eq!(answer.degraded.unwrap().wanted, Reason::EarlyRejection);
    // The cloud answers first: the local model is stopped.
    let world = asked(json!({ "policy": { "early": 0.5 } }), json!({}), slow);
    assert_eq!(world.observer(0, 1).answer().text, CLOUD);
    assert_eq!(world.stopped_local, 1);
    // A crash of the engine.
    let crash = Engine { end: None, ..engine("Half an ", None) };
    let world = asked(json!({ "mode": "prefer-local" }), json!({}), crash.clone());
    assert_eq!(world.observer(0, 1).answer().text, CLOUD);
    let world = asked(json!({ "mode": "only-local" }), json!({}), crash);
    assert!(matches!(world.observer(0, 1).end, Some(End::Failed(Cause::Mode, _))));
    // No engine at all.
    let world = asked(json!({}), json!({ "local": false }), engine(LOCAL, None));
    assert_eq!(world.observer(0, 1).record().wanted_cloud, Some(Reason::LocalUnavailable));
    // A score of the question, where one was validated.
    let pre = json!({ "pre": 0.2 });
    let world = asked(json!({ "policy": { "pre": 0.5 } }), pre.clone(), engine(LOCAL, Some(0.9)));
    assert_eq!(world.observer(0, 1).record().wanted_cloud, Some(Reason::Prescore));
    assert_eq!(asked(json!({}), pre, engine(LOCAL, Some(0.9))).observer(0, 1).answer().text, LOCAL, "off by default");
}

#[test]
fn a_refused_token_closes_the_cloud_until_somebody_signs_in() {
    let mut world = world(json!({ "mode": "prefer-cloud" }));
    world.user = Box::new(|_, _| Some((1, Decision::Always)));
    let mut random = Random::new(2);
    let signed_in = world.now + 50_000;
    world.server = Box::new(move |_, _, now| {
        if now > signed_in {
            return answers(&mut random, CLOUD);
        }
        Script { steps: vec![(20, Net::Head { status: 401, content_type: None, retry_after: None })], billed: None }
    });
    (1..=3).for_each(|id| world.ask(id * 10_000, 0, id, request(json!({})), engine(LOCAL, None)));
    world.at(60_000, 0, Event::AuthChanged);
    world.ask(61_000, 0, 4, request(json!({})), engine(LOCAL, None));
    world.run();
    let sends = |id| world.sent.iter().filter(|((_, ask), _, _)| *ask == id).count();
    assert_eq!([1, 2, 3, 4].map(sends), [2, 0, 0, 1], "a fresh token is tried once");
    assert_eq!(world.observer(0, 2).record().blocked_by, Some(Cause::Auth));
    assert_eq!(world.observer(0, 4).answer().text, CLOUD);
}

#[test]
fn an_abort_closes_everything_at_once() {
    for at in [10, 50, 90, 110, 130, 170, 200, 300, 500, 700] {
        let mut slow = engine(LOCAL, Some(0.1));
        slow.check = Some((1, 0.1));
        let mut world = world(json!({ "policy": { "early": 0.5 } }));
        let mut random = Random::new(4);
        world.server = Box::new(move |_, _, _| {
            let mut script = answers(&mut random, &"Paris, that is. ".repeat(20));
            script.steps.iter_mut().for_each(|(at, _)| *at *= 3);
            script
        });
        world.ask(0, 0, 1, request(json!({})), slow);
        world.at(at, 0, Event::Abort { ask: 1 });
        let aborted = world.now + at;
        world.run();
        let observer = world.observer(0, 1);
        assert!(matches!(observer.end, Some(End::Aborted(_))), "{at}: {:?}", observer.end);
        for ((_, attempt), cancelled) in &world.cancelled_at {
            assert_eq!((*attempt, *cancelled), (1, aborted), "in the same step");
        }
        assert_eq!(world.cancelled_at.len(), world.sent.len());
        let spending = world.ledger().spending;
        assert_eq!(spending.committed(), spending.spent(), "no hold is left");
    }
}

#[test]
fn tool_calls_and_reasoning_come_whole_and_restored() {
    let mut world = world(json!({ "mode": "prefer-cloud" }));
    world.server = Box::new(|_, _, _| {
        let call = |index: u64, rest: Value| {
            let call = json!({ "index": index, "id": if rest["name"].is_string() { json!("id") } else { json!(null) }, "function": rest });
            format!("data: {}\n\n", json!({ "choices": [{ "delta": { "content": null, "tool_calls": [call] } }] }))
        };
        let thought =
            format!("data: {}\n\n", json!({ "choices": [{ "delta": { "reasoning_content": "to [EMAIL_1]?" } }] }));
        let pieces = [
            thought,
            call(0, json!({ "name": "mail", "arguments": "{\"to\": \"[EMA" })),
            call(1, json!({ "name": "now", "arguments": "{}" })),
            call(0, json!({ "arguments": "IL_1]\"}" })),
            "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\ndata: [DONE]\n\n".to_string(),
        ];
        let bytes = pieces.concat().into_bytes();
        let head = Net::Head { status: 200, content_type: None, retry_after: None };
        Script { steps: vec![(5, head), (6, Net::Bytes(bytes)), (7, Net::End)], billed: None }
    });
    let question = json!({ "messages": [{ "role": "user", "content": "Write to jane@example.com" }] });
    world.ask(0, 0, 1, request(question), engine(LOCAL, None));
    world.run();
    let answer = world.observer(0, 1).answer();
    assert_eq!(
        (answer.finish, answer.text.as_str(), answer.reasoning.as_str()),
        ("tool_calls", "", "to jane@example.com?")
    );
    let arguments: Vec<&str> =
        answer.tool_calls.iter().map(|call| call["function"]["arguments"].as_str().unwrap()).collect();
    assert_eq!(arguments, ["{\"to\": \"jane@example.com\"}", "{}"]);
    assert!(!world.sent[0].2.contains("jane"));
}

#[test]
fn explaining_sends_nothing_and_says_all() {
    let machine = Machine::new(config(json!({ "budget": { "usd": 1.0 } }))).unwrap();
    let says = |text: &str| request(json!({ "messages": [{ "role": "user", "content": text }] }));
    let explained = machine.explain(0, &says("Call +49 170 1234567 or mail a@b.co"));
    assert_eq!((explained.local, explained.cloud_blocked_by, explained.needs_consent), (true, None, true));
    let preview = explained.preview.unwrap();
    assert!(preview.body.contains("Call [PHONE_1] or mail [EMAIL_1]"), "{}", preview.body);
    let most = preview.body.len() as f64 * 3e-6 + 1024.0 * 15e-6;
    assert!((explained.most_usd.unwrap() - most).abs() < 1e-9);
    assert_eq!(machine.explain(0, &says("AKIAABCDEFGHIJKLMNOP")).cloud_blocked_by, Some(Cause::Secret));
    assert!(machine.is_empty() && machine.deadline().is_none());
}

#[test]
fn configurations_that_cannot_be_honoured_are_refused() {
    let refusal = |cloud: Value, rest: Value| {
        let mut all = json!({ "cloud": cloud });
        all.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        let error = Config::from_json(&core(&all)).and_then(Machine::new).err().expect("it was accepted");
        assert_eq!(error.code(), ErrorCode::BadRequest);
        error.to_string()
    };
    let cloud = |url: &str| json!({ "url": url, "model": "m" });
    assert!(refusal(cloud("http://example.com/v1"), json!({})).contains("https"));
    assert!(refusal(cloud("/v1/chat"), json!({})).contains("whole address"));
    assert!(refusal(cloud("https://"), json!({})).contains("host"));
    assert!(refusal(cloud("ftp://x/v1"), json!({})).contains("https"));
    let error = refusal(cloud("https://user:hunter2@example.com/v1"), json!({}));
    assert!(error.contains("auth") && !error.contains("hunter2"), "{error}");
    assert!(refusal(json!({ "url": URL }), json!({})).contains("cloud.model"));
    assert!(refusal(cloud(URL), json!({ "budget": { "usd": 1.0 } })).contains("cloud.price"));
    assert!(refusal(cloud(URL), json!({ "policy": { "early": 1.5 } })).contains("policy.early"));
    assert!(
        refusal(json!({ "url": URL, "model": "m", "price": { "input": -1.0, "output": 0.0 } }), json!({}))
            .contains("price.input")
    );
    for url in [
        "http://localhost:11434/v1/chat/completions",
        "http://127.0.0.1:8000/v1",
        "http://[::1]:1/x",
        "https://x.example",
    ] {
        assert!(Config::from_json(&core(&json!({ "cloud": cloud(url) }))).and_then(Machine::new).is_ok(), "{url}");
    }
    assert!(check_token("sk-proj-abcdefghij1234567890").unwrap_err().to_string().contains("proxy"));
    assert!(check_token("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln").is_ok(), "a short-lived token");
}

#[test]
fn the_last_turn_is_sent_and_nothing_that_only_our_engine_knows() {
    let question = json!({
        "messages": [
            { "role": "system", "content": "Be brief." }, { "role": "user", "content": "old", "private": true },
            { "role": "assistant", "content": "older" }, { "role": "user", "content": "new", "labels": ["x"] },
        ],
        "params": { "temperature": 0.5, "top_k": 40, "adapters": [], "max_tokens": 99, "n": 3, "logit_bias": { "1": 1 } },
    });
    let mut world = world(json!({ "mode": "prefer-cloud" }));
    world.ask(0, 0, 1, request(question.clone()), engine(LOCAL, None));
    world.run();
    let body: Value = serde_json::from_str(&world.sent[0].2).unwrap();
    assert_eq!(
        body,
        json!({
            "model": "large", "messages": [{ "role": "user", "content": "new" }], "stream": true,
            "stream_options": { "include_usage": true }, "temperature": 0.5, "max_tokens": 99,
        })
    );
    let world =
        asked(json!({ "privacy": { "context": "all" }, "mode": "prefer-cloud" }), question, engine(LOCAL, None));
    assert_eq!(
        world.observer(0, 1).record().blocked_by,
        Some(Cause::Private),
        "the whole context holds a private turn"
    );
}

#[test]
fn times_are_of_content_and_the_whole_has_an_end() {
    // A server that never comes to an end, slowly enough to pass every other limit.
    let mut world = world(json!({ "mode": "prefer-cloud" }));
    world.server = Box::new(|_, _, _| {
        let mut steps = vec![(5, Net::Head { status: 200, content_type: None, retry_after: None })];
        steps.extend((0..100).map(|i| (1_000 + i * 10_000, Net::Bytes(delta("more ").into_bytes()))));
        Script { steps, billed: None }
    });
    world.ask(0, 0, 1, request(json!({})), engine(LOCAL, None));
    world.run();
    let answer = world.observer(0, 1).answer();
    assert_eq!((answer.text.as_str(), answer.record.attempts.len()), (LOCAL, 1));
    assert!((180_000..181_000).contains(&answer.record.ms), "{}", answer.record.ms);
    // The finish is there, the end is not: a moment for the usage, then it counts.
    let mut world = self::world(json!({ "mode": "prefer-cloud" }));
    world.server = Box::new(|_, _, _| {
        let pieces = healthy(CLOUD);
        let bytes = pieces[..pieces.len() - 2].concat().into_bytes();
        let head = Net::Head { status: 200, content_type: None, retry_after: None };
        Script { steps: vec![(5, head), (10, Net::Bytes(bytes))], billed: None }
    });
    world.ask(0, 0, 1, request(json!({})), engine(LOCAL, None));
    world.run();
    let answer = world.observer(0, 1).answer();
    assert_eq!(answer.text, CLOUD);
    assert!(answer.record.ms < 1_200 && answer.record.cost_is_bound);
}
