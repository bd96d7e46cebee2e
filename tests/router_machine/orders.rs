//! Events in any order, from two tabs that share a ledger, late ones and wrong ones among them: the invariants hold.
//! A million orders with `KINGLET_SOAK=1`.

use super::observer::{End, Observer};
use super::runner::runner;
use super::scripts::{delta, event};
use super::shell::{Ask, Attempt, CANARY, Local, SECRET, Shell, close};
use super::world::request;
use kinglet::router::consent::{Decision, Destination};
use kinglet::router::machine::{Action, Event, LocalEnd};
use kinglet::router::openai::Finish;
use kinglet::router::policy::Mode;
use kinglet::router::record::Source;
use proptest::prelude::*;
use serde_json::json;

impl Shell {
    fn ids(&self, tab: usize, is: impl Fn(&Ask) -> bool) -> Vec<u64> {
        self.tabs[tab].asks.iter().filter(|(_, ask)| is(ask)).map(|(id, _)| *id).collect()
    }

    fn word(&mut self) -> String {
        self.words += 1;
        format!("word{} ", self.words)
    }

    /// One honest event of a kind, or a late or senseless one.
    fn event(&mut self, choice: u32) {
        let tab = (choice & 1) as usize;
        let (kind, arg) = (choice >> 1 & 31, choice >> 6);
        let over = |ask: &Ask| ask.observer.end.is_some();
        let pick =
            |ids: Vec<u64>, otherwise: u64| ids.get(arg as usize % ids.len().max(1)).copied().unwrap_or(otherwise);
        let any = pick(self.ids(tab, |ask| !over(ask)), u64::from(arg % 5));
        match kind {
            0..=2 => self.new_ask(tab, arg),
            3..=5 => {
                let id = pick(self.ids(tab, |ask| ask.local == Local::Running), any);
                let text = self.word();
                if let Some(ask) = self.tabs[tab].asks.get_mut(&id).filter(|ask| ask.local == Local::Running) {
                    ask.local_text += &text;
                }
                self.step(tab, Event::LocalToken { ask: id, text });
            }
            6 => self.step(tab, Event::LocalCheck { ask: any, k: 8, p_ok: f64::from(arg % 10) / 10.0 }),
            7 | 8 => self.end_local(tab, pick(self.ids(tab, |ask| ask.local == Local::Running), any), arg),
            9..=11 => {
                let id = pick(self.ids(tab, |ask| ask.preview.is_some() && !over(ask)), any);
                self.consent(
                    tab,
                    id,
                    [Decision::Once, Decision::Always, Decision::Deny, Decision::Once][arg as usize % 4],
                );
            }
            12..=15 => self.grant(tab),
            16 | 17 => {
                let id = pick(self.ids(tab, |ask| ask.attempt.as_ref().is_some_and(|open| open.head.is_none())), any);
                let status = [200, 200, 200, 200, 200, 200, 401, 429, 500, 503, 400, 204][arg as usize % 12];
                self.respond(tab, id, status, arg);
            }
            18..=25 => {
                let id = pick(self.ids(tab, |ask| ask.attempt.is_some()), any);
                self.feed(tab, id, kind - 18, arg);
            }
            26 => {
                let id = pick(self.ids(tab, |ask| ask.attempt.is_some()), any);
                self.close(tab, id, arg.is_multiple_of(2));
            }
            27 => {
                let id = pick(self.ids(tab, |ask| ask.refreshing), any);
                if let Some(ask) = self.tabs[tab].asks.get_mut(&id) {
                    ask.refreshing = false;
                }
                self.step(tab, Event::TokenRefreshed { ask: id, ok: !arg.is_multiple_of(3) });
            }
            28 => {
                if let Some(due) = self.tabs[tab].machine.deadline() {
                    self.now = self.now.max(due);
                }
                self.step(tab, Event::Tick);
            }
            29 => {
                self.now += u64::from(arg) * 37;
                self.step(tab, Event::Tick);
            }
            30 if arg.is_multiple_of(3) => self.step(tab, Event::Abort { ask: any }),
            30 => {
                // For an attempt that never was, or is over.
                let bytes = delta("late ").into_bytes();
                self.step(tab, Event::Body { ask: any, attempt: 90 + arg, bytes });
                self.step(tab, Event::NetworkError { ask: any, attempt: 0 });
            }
            _ => match arg % 6 {
                0 => self.step(tab, Event::Online { online: false }),
                1 | 2 => self.step(tab, Event::Online { online: true }),
                3 => self.step(tab, Event::AuthChanged),
                4 => self
                    .step(tab, Event::Calibration { tau: f64::from(arg % 10) / 10.0, calibrated: true, drift: false }),
                _ => {
                    self.tabs[tab].standing = false;
                    let destination = Destination { host: "cloud.example".into(), model: "large".into() };
                    // Consent of those under way stays; nobody new has it.
                    for ask in self.tabs[tab].asks.values_mut() {
                        ask.agreed.get_or_insert(None);
                    }
                    self.step(tab, Event::Revoke { destination });
                }
            },
        }
    }

    fn new_ask(&mut self, tab: usize, arg: u32) {
        let id = self.tabs[tab].asks.len() as u64;
        if id >= 4 {
            return;
        }
        let mode = ["auto", "prefer-local", "prefer-cloud", "only-cloud", "auto", "only-local"][arg as usize % 6];
        let flag = |bit: u32| arg >> bit & 3 == 0;
        let (private, secret, redacts) = (flag(2) && flag(4), flag(4) && flag(6), flag(6));
        let text = match (secret, redacts) {
            (true, _) => format!("Is {SECRET} a key?"),
            (_, true) => format!("Write to {CANARY}, please."),
            _ => "What is the capital of France?".to_string(),
        };
        let local = !(flag(1) && flag(3));
        let request = request(json!({
            "messages": [{ "role": "user", "content": text, "private": private }],
            "mode": mode, "hold": flag(5), "local": local, "params": { "max_tokens": 200 },
        }));
        let mode = request.mode.unwrap();
        let ask = Ask {
            observer: Observer::default(),
            mode,
            may_leave: !private && !secret,
            redacts,
            local: if local && mode != Mode::OnlyCloud { Local::Idle } else { Local::None },
            local_text: String::new(),
            preview: None,
            agreed: self.tabs[tab].standing.then_some(None),
            refreshing: false,
            attempt: None,
            last_attempt: None,
        };
        self.tabs[tab].asks.insert(id, ask);
        self.step(tab, Event::Ask { ask: id, request: Box::new(request) });
    }

    fn end_local(&mut self, tab: usize, id: u64, arg: u32) {
        let crashes = arg.is_multiple_of(7);
        let tail = if arg.is_multiple_of(2) { self.word() } else { String::new() };
        if let Some(ask) = self.tabs[tab].asks.get_mut(&id).filter(|ask| ask.local == Local::Running) {
            ask.local = if crashes { Local::Failed } else { Local::Done };
            if !crashes {
                ask.local_text += &tail;
            }
        }
        let p_ok = (!arg.is_multiple_of(3)).then(|| f64::from(arg % 10) / 10.0);
        let finish = if arg.is_multiple_of(5) { Finish::Length } else { Finish::Stop };
        let end = LocalEnd { text: tail, p_ok, finish, ..LocalEnd::default() };
        self.step(
            tab,
            if crashes { Event::LocalFailed { ask: id } } else { Event::LocalDone { ask: id, end: Box::new(end) } },
        );
    }

    fn consent(&mut self, tab: usize, id: u64, decision: Decision) {
        let machine_tab = &mut self.tabs[tab];
        if let Some(ask) = machine_tab.asks.get_mut(&id)
            && let Some(preview) = ask.preview.take()
            && ask.observer.end.is_none()
        {
            match decision {
                Decision::Deny => {}
                Decision::Once => ask.agreed = Some(Some(preview.body)),
                // It may come too late for this ask, and then nothing is granted.
                Decision::Always => ask.agreed = Some(None),
            }
        }
        let actions = machine_tab.machine.step(self.now, Event::Consent { ask: id, decision });
        machine_tab.standing |= actions.iter().any(|action| matches!(action, Action::StoreConsent { .. }));
        for action in actions {
            self.act(tab, action);
        }
    }

    fn grant(&mut self, tab: usize) {
        if self.tabs[tab].lock {
            let state = self.store.clone();
            self.step(tab, Event::Ledger { state });
            // Let go, unless the step has asked for it again, which it never does.
            self.tabs[tab].lock = false;
        }
    }

    fn respond(&mut self, tab: usize, id: u64, status: u16, arg: u32) {
        let Some(ask) = self.tabs[tab].asks.get_mut(&id) else { return };
        let attempt = ask.attempt.as_mut().map_or(7, |open| {
            open.head.get_or_insert(status);
            open.number
        });
        let content_type =
            [Some("text/event-stream"), None, Some("application/json")][arg as usize % 3].map(String::from);
        let retry_after = [None, Some("3"), Some("4000")][(arg / 3) as usize % 3].map(String::from);
        self.step(tab, Event::Response { ask: id, attempt, status, content_type, retry_after });
    }

    fn feed(&mut self, tab: usize, id: u64, kind: u32, arg: u32) {
        let word = self.word();
        if self.tabs[tab].asks.get(&id).is_some_and(|ask| ask.attempt.as_ref().is_some_and(|open| open.head.is_none()))
        {
            self.respond(tab, id, 200, arg);
        }
        let Some(ask) = self.tabs[tab].asks.get_mut(&id) else { return };
        let Some(open) = ask.attempt.as_mut().filter(|open| open.head.is_some()) else { return };
        let finish = |reason: &str| event(&json!({ "choices": [{ "delta": {}, "finish_reason": reason }] }));
        let says = |open: &mut Attempt, text: &str| {
            if !open.finished {
                open.text += text;
            }
            delta(text)
        };
        let bytes = match kind {
            1 if !open.fed && arg.is_multiple_of(4) => {
                open.whole = true;
                open.finished = true;
                open.text = word.clone();
                json!({ "choices": [{ "message": { "content": word }, "finish_reason": "stop" }] }).to_string()
            }
            0 | 1 => says(open, &word),
            2 => says(open, ["[EMA", "IL_1]", "[EMAIL_1] ", "[", "1] "][arg as usize % 5]),
            3 | 7 if open.text.trim().is_empty() => says(open, &word),
            3 | 7 => {
                open.finished = true;
                finish(["stop", "length", "content_filter"][arg as usize % 3])
            }
            4 => {
                // Whoever has finished says only now what it took.
                open.usage = Some(u64::from(arg % 50) * 3_000 + u64::from(arg % 200) * 15_000);
                event(&json!({ "choices": [], "usage": { "prompt_tokens": arg % 50, "completion_tokens": arg % 200 } }))
            }
            5 => {
                open.finished |= !open.text.is_empty();
                "data: [DONE]\n\n".into()
            }
            6 if !arg.is_multiple_of(4) => says(open, &word),
            _ => match arg / 4 % 5 {
                0 => "data: {\"error\":{\"code\":500}}\n\n".into(),
                1 => "data: {oops\n\n".into(),
                2 => ": ping\n\n".into(),
                3 => finish("banana"),
                _ => "<html>\n\n".into(),
            },
        };
        open.fed = true;
        let attempt = open.number;
        self.step(tab, Event::Body { ask: id, attempt, bytes: bytes.into_bytes() });
    }

    fn close(&mut self, tab: usize, id: u64, clean: bool) {
        let Some(ask) = self.tabs[tab].asks.get_mut(&id) else { return };
        let Some(attempt) = ask.attempt.as_ref().map(|open| open.number) else { return };
        self.billed += close(ask);
        let event = if clean { Event::BodyEnd { ask: id, attempt } } else { Event::NetworkError { ask: id, attempt } };
        self.step(tab, event);
    }

    /// The shell does what it still owes, until everything is over.
    fn settle(&mut self) {
        for round in 0.. {
            assert!(round < 300, "something hangs");
            for tab in 0..2 {
                self.grant(tab);
                for id in self.ids(tab, |ask| ask.observer.end.is_none()) {
                    let ask = &self.tabs[tab].asks[&id];
                    if ask.local == Local::Running {
                        self.end_local(tab, id, 1);
                    } else if ask.preview.is_some() {
                        self.consent(tab, id, Decision::Once);
                    } else if ask.attempt.is_some() {
                        // Some servers answer after all: a text, its finish, the end.
                        if !self.words.is_multiple_of(3) {
                            [0, 3, 5].into_iter().for_each(|kind| self.feed(tab, id, kind, 1));
                        }
                        self.close(tab, id, false);
                    } else if let Some(due) = self.tabs[tab].machine.deadline() {
                        self.now = self.now.max(due);
                        self.step(tab, Event::Tick);
                    }
                }
            }
            if self.tabs.iter().all(|tab| tab.machine.is_empty() && !tab.lock) {
                break;
            }
        }
        for tab in &self.tabs {
            assert!(tab.asks.values().all(|ask| ask.observer.end.is_some() && ask.attempt.is_none()));
        }
        let spending = self.ledger().spending;
        assert_eq!(spending.committed(), spending.spent(), "a hold is left");
        assert!(spending.spent() >= self.billed, "{} counted, {} billed", spending.spent(), self.billed);
    }
}

#[test]
fn any_order_of_events_keeps_the_invariants() {
    let sends = std::cell::Cell::new(0);
    let cloud = std::cell::Cell::new(0);
    let cases = if std::env::var_os("KINGLET_SOAK").is_some() { 1_000_000 } else { 4_000 };
    runner(4_000, 1_000_000)
        .run(&prop::collection::vec(0u32..1 << 16, 10..120), |choices| {
            let mut shell = Shell::new();
            choices.iter().for_each(|&choice| shell.event(choice));
            shell.settle();
            sends.set(sends.get() + shell.sends);
            let from_cloud =
                |ask: &&Ask| matches!(&ask.observer.end, Some(End::Final(answer)) if answer.source == Source::Cloud);
            cloud.set(cloud.get() + shell.tabs.iter().flat_map(|tab| tab.asks.values()).filter(from_cloud).count());
            Ok(())
        })
        .unwrap();
    println!("{cases} orders, {} requests sent, {} answers of the cloud", sends.get(), cloud.get());
    assert!(sends.get() > cases && cloud.get() > cases / 10, "the orders reach too little");
}
