//! What a shell knows, whatever the order in which things happen to it, and the invariants of what it is told to do.

use super::observer::{End, Observer};
use super::world::{START, config};
use kinglet::router::ledger::Ledger;
use kinglet::router::machine::{Action, Event, Machine, Preview};
use kinglet::router::policy::Mode;
use kinglet::router::record::Source;
use serde_json::json;
use std::collections::BTreeMap;

pub const CANARY: &str = "jane.canary@example.com";
pub const SECRET: &str = "sk-canary1234567890abcdef";
/// For seven of the longest answers at one time.
pub const USD: f64 = 0.03;

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Local {
    None,
    Idle,
    Running,
    Done,
    Failed,
}

#[derive(Default, Debug)]
pub struct Attempt {
    pub number: u32,
    pub hold: u64,
    /// It tries for all others; until then nobody else may.
    pub probes_until: u64,
    pub text: String,
    pub head: Option<u16>,
    pub fed: bool,
    pub finished: bool,
    pub whole: bool,
    pub usage: Option<u64>,
}

pub struct Ask {
    pub observer: Observer,
    pub mode: Mode,
    pub may_leave: bool,
    pub redacts: bool,
    pub local: Local,
    pub local_text: String,
    pub preview: Option<Preview>,
    /// What the user agreed to: a body, or whatever comes.
    pub agreed: Option<Option<String>>,
    pub refreshing: bool,
    pub attempt: Option<Attempt>,
    pub last_attempt: Option<Attempt>,
}

pub struct Tab {
    pub name: &'static str,
    pub machine: Machine,
    pub asks: BTreeMap<u64, Ask>,
    pub lock: bool,
    pub standing: bool,
}

pub struct Shell {
    pub now: u64,
    pub tabs: [Tab; 2],
    pub store: Option<String>,
    /// Nano-dollars that servers may have billed for what is over.
    pub billed: u64,
    pub words: u32,
    pub sends: usize,
}

impl Shell {
    pub fn new() -> Self {
        let tab = |name: &'static str| Tab {
            name,
            machine: Machine::new(config(json!({ "tab": name, "budget": { "usd": USD }, "policy": { "early": 0.3 } })))
                .unwrap(),
            asks: BTreeMap::new(),
            lock: false,
            standing: false,
        };
        Self { now: START, tabs: [tab("a"), tab("b")], store: None, billed: 0, words: 0, sends: 0 }
    }

    pub fn step(&mut self, tab: usize, event: Event) {
        for action in self.tabs[tab].machine.step(self.now, event) {
            self.act(tab, action);
        }
        let cap = (USD * 1e9) as u64;
        let open: u64 =
            self.tabs.iter().flat_map(|tab| tab.asks.values()).filter_map(|ask| Some(ask.attempt.as_ref()?.hold)).sum();
        assert!(self.billed + open <= cap, "{} billed and {open} open of {cap}", self.billed);
    }

    pub fn ledger(&self) -> Ledger {
        self.store.as_ref().map(|store| Ledger::from_text(store).unwrap()).unwrap_or_default()
    }

    pub fn act(&mut self, tab: usize, action: Action) {
        let now_store = self.store.clone();
        let Tab { asks, lock, .. } = &mut self.tabs[tab];
        match action {
            Action::StartLocal { ask } => {
                let ask = asks.get_mut(&ask).unwrap();
                assert_eq!(ask.local, Local::Idle, "started again, or where there is none");
                ask.local = Local::Running;
            }
            Action::StopLocal { ask } => {
                let ask = asks.get_mut(&ask).unwrap();
                assert_eq!(ask.local, Local::Running);
                ask.local = Local::Failed;
            }
            Action::LockLedger => *lock = true,
            Action::StoreLedger { state } => {
                assert!(*lock, "stored without the lock");
                self.store = Some(state);
            }
            Action::AskConsent { ask, preview } => {
                assert!(!preview.body.contains("canary"), "{}", preview.body);
                asks.get_mut(&ask).unwrap().preview = Some(preview);
            }
            Action::StoreConsent { .. } => {}
            Action::RefreshToken { ask } => asks.get_mut(&ask).unwrap().refreshing = true,
            Action::Send { ask: id, attempt, request } => {
                self.sends += 1;
                let others = (0..2).flat_map(|tab| self.tabs[tab].asks.values()).filter_map(|ask| ask.attempt.as_ref());
                let probed_until = others.map(|open| open.probes_until).max().unwrap_or(0);
                let Tab { name, asks, standing, .. } = &mut self.tabs[tab];
                let ask = asks.get_mut(&id).unwrap();
                assert!(ask.may_leave && !matches!(ask.mode, Mode::OnlyLocal));
                assert!(!request.body().contains("canary"), "{}", request.body());
                let agreed = *standing
                    || ask.agreed.as_ref().is_some_and(|body| body.as_ref().is_none_or(|body| body == request.body()));
                assert!(agreed, "sent without consent");
                assert!(ask.attempt.is_none(), "two at once");
                let store: serde_json::Value = serde_json::from_str(&now_store.expect("stored first")).unwrap();
                let hold = &store["spending"]["holds"][format!("{name}:{id}:{attempt}")];
                let hold = hold["amount"].as_u64().expect("the hold is stored");
                let breaker = &store["breaker"];
                let owner = format!("{name}:{id}");
                assert!(breaker["closed"].is_object() || breaker["probing"]["owner"] == owner, "sent past {breaker}");
                let probes_until = breaker["probing"]["until"].as_u64().unwrap_or(0);
                assert!(probes_until == 0 || probed_until <= self.now, "two try at one time");
                ask.attempt = Some(Attempt { number: attempt, hold, probes_until, ..Attempt::default() });
            }
            Action::Cancel { ask, attempt } => {
                let ask = asks.get_mut(&ask).unwrap();
                assert_eq!(ask.attempt.as_ref().map(|open| open.number), Some(attempt), "cancels what is not open");
                self.billed += close(ask);
            }
            Action::Show { ask: id, shown } => {
                let ask = asks.get_mut(&id).unwrap();
                ask.observer.see(shown);
                match &ask.observer.end {
                    Some(End::Final(answer)) if answer.source == Source::Cloud => {
                        let attempt = ask.last_attempt.as_ref().expect("an attempt");
                        assert!(attempt.finished, "no terminal finish");
                        let text =
                            if ask.redacts { attempt.text.replace("[EMAIL_1]", CANARY) } else { attempt.text.clone() };
                        assert_eq!(answer.text, text);
                    }
                    Some(End::Final(answer)) => {
                        assert_eq!(ask.local, Local::Done);
                        assert_eq!(answer.text, ask.local_text);
                    }
                    Some(End::Failed(..)) => {
                        assert!(matches!(ask.local, Local::None | Local::Failed), "the draft is lost");
                    }
                    _ => {}
                }
                if ask.observer.end.is_some() {
                    let record = serde_json::to_string(ask.observer.record()).unwrap();
                    assert!(!record.contains("canary") && !record.contains("word"), "text in a record: {record}");
                }
            }
        }
    }
}

/// The attempt is over; returns what the server may have billed.
pub fn close(ask: &mut Ask) -> u64 {
    let attempt = ask.attempt.take().unwrap();
    let billed = match (attempt.usage, attempt.head) {
        (_, Some(status)) if status >= 300 => 0,
        (Some(cost), _) => cost,
        _ => attempt.hold,
    };
    ask.last_attempt = Some(attempt);
    billed
}
