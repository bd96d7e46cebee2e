//! 33 fault scripts x seeds: no answer lost, mixed, duplicated or hung, and none over the budget.

use super::observer::End;
use super::scripts::{FAULTS, Heals, answers, expected, faulty};
use super::world::{Key, Random, World, config, engine, request};
use kinglet::router::consent::Decision;
use kinglet::router::machine::Event;
use kinglet::router::record::{Cause, Source};
use serde_json::json;
use std::collections::BTreeMap;

const LOCAL: &str = "The draft says: maybe Lyon, maybe not. ";

fn cloud_text(attempt: u32) -> String {
    format!("Attempt {attempt} says: Paris – die Hauptstadt, naïvely “the capital” 🗼 of France.")
}

/// How one run of a script may end.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Want {
    /// This attempt's answer.
    Cloud(u32),
    Local,
    Failed,
}

fn want(heals: Heals, persists: bool, has_local: bool) -> Want {
    let fallback = if has_local { Want::Local } else { Want::Failed };
    match (heals, persists) {
        (Heals::Answers, _) => Want::Cloud(1),
        (Heals::Again, false) => Want::Cloud(2),
        (Heals::Again, true) | (Heals::Local, _) => fallback,
    }
}

/// Returns whether the budget refused it.
fn run(name: &'static str, heals: Heals, seed: u64) -> &'static str {
    let mut random = Random::new(seed ^ name.bytes().fold(0, |sum: u64, byte| sum.wrapping_mul(31) + u64::from(byte)));
    let persists = random.below(2) == 0;
    let mode = ["auto", "prefer-cloud", "only-cloud"][random.below(3) as usize];
    let hold = random.below(4) == 0;
    let aborts = (random.below(8) == 0).then(|| random.below(4_000));
    // Enough for one request, for two, or for many.
    let budget = [0.0185, 0.04, 1.0][random.below(3) as usize];
    let early = random.below(3) == 0;
    let mut world = World::new(vec![config(json!({
        "tab": format!("s{seed}"), "seed": random.next(), "mode": mode, "budget": { "usd": budget },
        "policy": { "hold": hold, "early": if early { json!(0.3) } else { json!(null) } },
    }))]);
    let mut script = Random::new(random.next());
    world.server = Box::new(move |_, attempt, now| {
        if attempt == 1 || persists {
            faulty(name, &mut script, now, &cloud_text(attempt))
        } else {
            answers(&mut script, &cloud_text(attempt))
        }
    });
    world.refresh = Some(true);
    world.user = Box::new(|_, _| Some((80, Decision::Always)));
    world.at(0, 0, Event::Calibration { tau: 0.8, calibrated: true, drift: false });
    let mut draft = engine(LOCAL, Some(0.4));
    draft.check = Some((2, 0.2));
    draft.token_ms = 5 + random.below(200);
    world.ask(1, 0, 1, request(json!({})), draft);
    if let Some(delay) = aborts {
        world.at(delay, 0, Event::Abort { ask: 1 });
    }
    world.run();

    let observer = world.observer(0, 1);
    let record = observer.record();
    let sent: usize = world.sent.iter().map(|(_, _, body)| body.len()).sum();
    assert_eq!(record.egress.bytes, sent);
    assert_eq!(record.attempts.len(), world.sent.len());
    assert!(record.attempts.len() <= 5, "{} attempts", record.attempts.len());
    let spent = world.ledger().spending;
    assert_eq!(spent.committed(), spent.spent(), "a hold is left");
    assert!(spent.spent() >= world.billed, "the server billed more than was counted");
    assert_eq!(record.cost, spent.spent());
    if let Some(End::Aborted(_)) = observer.end {
        assert!(aborts.is_some());
        return "aborted";
    }
    let refused = record.blocked_by == Some(Cause::Budget);
    match want(heals, persists, mode != "only-cloud") {
        // Less was left than a second attempt may take.
        _ if refused => {
            assert!(budget < 1.0);
            match mode {
                "only-cloud" => assert!(matches!(observer.end, Some(End::Failed(..)))),
                _ => assert_eq!(observer.answer().text, LOCAL),
            }
            return "budget";
        }
        Want::Cloud(attempt) => {
            let answer = observer.answer();
            assert_eq!(answer.source, Source::Cloud, "{:?}", record);
            assert_eq!(answer.text, expected_of(name, heals, attempt));
            assert_eq!(answer.degraded, None);
        }
        Want::Local => {
            let answer = observer.answer();
            assert_eq!((answer.source, answer.text.as_str()), (Source::Local, LOCAL));
            let degraded = answer.degraded.expect("it is degraded");
            assert!(matches!(degraded.blocked_by, Cause::Fault(_)), "{degraded:?}");
        }
        Want::Failed => assert!(matches!(&observer.end, Some(End::Failed(Cause::Fault(_), _))), "{:?}", observer.end),
    }
    if hold {
        assert_eq!(observer.switches, 0, "something was shown before it was decided");
    }
    "decided"
}

fn expected_of(name: &str, heals: Heals, attempt: u32) -> String {
    let text = cloud_text(attempt);
    if heals == Heals::Answers { expected(name, &text) } else { text }
}

#[test]
fn every_fault_ends_as_the_table_says() {
    // The 2 MB are the only slow ones.
    let soak = std::env::var_os("KINGLET_SOAK").is_some();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, heals) in FAULTS {
        let seeds = if soak {
            300
        } else if name == "a 2 MB event" {
            6
        } else {
            60
        };
        for seed in 0..seeds {
            let outcome = std::panic::catch_unwind(|| run(name, heals, seed));
            *counts.entry(outcome.unwrap_or_else(|_| panic!("{name}, seed {seed}"))).or_default() += 1;
        }
    }
    println!("{counts:?}");
    assert!(counts["decided"] > counts.values().sum::<usize>() / 2);
    assert!(counts["aborted"] > 20 && counts["budget"] > 20, "{counts:?}");
}

#[test]
fn retry_after_is_kept_to() {
    for (name, header_ms) in [("429 with seconds", None), ("429 with a date", Some(5_000))] {
        let mut world = World::new(vec![config(json!({ "mode": "prefer-cloud" }))]);
        let mut script = Random::new(3);
        let mut times = Vec::new();
        let (send, moments) = std::sync::mpsc::channel();
        world.server = Box::new(move |_, attempt, now| {
            send.send(now).unwrap();
            if attempt == 1 { faulty(name, &mut script, now, "x") } else { answers(&mut script, "Paris is it.") }
        });
        world.ask(0, 0, 1, request(json!({})), engine(LOCAL, None));
        world.run();
        times.extend(moments.try_iter());
        assert_eq!(times.len(), 2);
        let waited = times[1] - times[0];
        match header_ms {
            // A date has no milliseconds.
            Some(ms) => assert!(waited >= ms - 1000 && waited < ms + 1000, "{waited}"),
            None => assert!((1_000..20_500).contains(&waited), "{waited}"),
        }
        assert_eq!(world.observer(0, 1).answer().source, Source::Cloud);
    }
}

#[test]
fn an_open_breaker_lets_one_through_across_tabs() {
    let tab = |name: &str| config(json!({ "tab": name, "mode": "prefer-cloud" }));
    let mut world = World::new(vec![tab("a"), tab("b")]);
    world.user = Box::new(|_, _| Some((1, Decision::Always)));
    let heals_at = world.now + 200_000;
    let mut script = Random::new(5);
    world.server = Box::new(move |_, _, now| {
        if now < heals_at { faulty("500", &mut script, now, "x") } else { answers(&mut script, "Paris is it.") }
    });
    let ask = |world: &mut World, at: u64, tab: usize, id: u64| {
        world.ask(at, tab, id, request(json!({})), engine(LOCAL, None));
    };
    // Three failures open it; later five ask at one moment, from both tabs.
    (0..3).for_each(|id| ask(&mut world, id * 10_000, 0, id));
    ask(&mut world, 31_000, 1, 10);
    (20..25).for_each(|id| ask(&mut world, 100_000, (id % 2) as usize, id));
    (30..35).for_each(|id| ask(&mut world, 300_000, (id % 2) as usize, id));
    (40..42).for_each(|id| ask(&mut world, 310_000, (id % 2) as usize, id));
    world.run();
    let sends = |ids: std::ops::Range<u64>| world.sent.iter().filter(|((_, id), _, _)| ids.contains(id)).count();
    assert_eq!(sends(0..3), 9, "one attempt and two retries each");
    assert_eq!(sends(10..11), 0, "open");
    assert_eq!(sends(20..25), 1, "one tries, and once only");
    assert_eq!(sends(30..35), 1, "one tries, and finds it healed");
    assert_eq!(sends(40..42), 2);
    let blocked: Vec<Key> = world
        .observers
        .iter()
        .filter(|(_, o)| o.record().blocked_by == Some(Cause::Breaker))
        .map(|(k, _)| *k)
        .collect();
    assert_eq!(blocked.len(), 1 + 4 + 4, "{blocked:?}");
    assert!(world.observers.values().all(|o| matches!(o.end, Some(End::Final(_)))));
}

#[test]
fn two_tabs_never_pass_one_cap() {
    for seed in 0..40 {
        let tab = |name: &str| {
            config(json!({ "tab": name, "mode": "prefer-cloud", "budget": { "usd": 0.05 }, "seed": seed }))
        };
        let mut world = World::new(vec![tab("a"), tab("b")]);
        world.user = Box::new(|_, _| Some((1, Decision::Always)));
        let mut script = Random::new(seed);
        world.server = Box::new(move |_, _, now| match script.below(4) {
            0 => faulty("cut inside a token", &mut script, now, "A half of an answer."),
            // As expensive as it may get.
            1 => {
                let mut script = faulty("usage missing", &mut script, now, "Paris.");
                script.billed = Some((100, 1024));
                script
            }
            _ => answers(&mut script, "Paris is it."),
        });
        (0..30).for_each(|id| world.ask(id * 700, (id % 2) as usize, id, request(json!({})), engine(LOCAL, None)));
        world.run();
        let blocked = world.observers.values().filter(|o| o.record().blocked_by == Some(Cause::Budget)).count();
        assert!(blocked > 0, "the cap was never met");
        assert!(world.observers.values().all(|o| matches!(o.end, Some(End::Final(_)))));
    }
}
