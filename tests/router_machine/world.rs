//! An honest shell in virtual time: an engine, users, a store with a lock, and servers that follow scripts. Any number
//! of tabs share the store.

use super::observer::Observer;
use kinglet::generate::sampler::SplitMix64;
use kinglet::router::consent::Decision;
use kinglet::router::ledger::Ledger;
use kinglet::router::machine::{Action, Event, LocalEnd, Machine, Preview, Request};
use kinglet::router::policy::Config;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

pub const URL: &str = "https://cloud.example/v1/chat/completions";
/// 2026-01-01: Retry-After dates are written for it.
pub const START: u64 = 1_767_225_600_000;

pub struct Random(SplitMix64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(SplitMix64(seed))
    }

    pub fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// By the remainder: what the seeds of the tests were found with.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }
}

/// What a server does with one request; times count from the sending.
#[derive(Clone, Debug, Default)]
pub struct Script {
    pub steps: Vec<(u64, Net)>,
    /// Tokens that it will bill, if it bills at all.
    pub billed: Option<(u64, u64)>,
}

#[derive(Clone, Debug)]
pub enum Net {
    Head { status: u16, content_type: Option<&'static str>, retry_after: Option<String> },
    Bytes(Vec<u8>),
    End,
    Error,
}

/// What the engine does with one ask.
#[derive(Clone, Debug)]
pub struct Engine {
    pub tokens: Vec<String>,
    pub token_ms: u64,
    /// After the first so many tokens, a check.
    pub check: Option<(usize, f64)>,
    /// None: it crashes after the tokens.
    pub end: Option<LocalEnd>,
}

/// As the shell hands it over.
pub fn core(value: &Value) -> kinglet::router::json::Value {
    kinglet::router::json::parse(&value.to_string()).unwrap()
}

pub fn config(extra: Value) -> Config {
    let mut all = json!({
        "tab": "t", "seed": 7,
        "cloud": { "url": URL, "model": "large", "price": { "input": 3.0, "output": 15.0 } },
    });
    for (key, value) in extra.as_object().unwrap() {
        all[key] = value.clone();
    }
    Config::from_json(&core(&all)).unwrap()
}

pub fn request(extra: Value) -> Request {
    let mut all =
        json!({ "messages": [{ "role": "user", "content": "What is the capital of France?" }], "local": true });
    for (key, value) in extra.as_object().unwrap() {
        all[key] = value.clone();
    }
    Request::from_json(&core(&all)).unwrap()
}

/// A tab and an ask.
pub type Key = (usize, u64);
/// What the user says, and after how long; None: nothing.
type User = dyn FnMut(Key, &Preview) -> Option<(u64, Decision)>;

struct Tab {
    machine: Machine,
    /// Sends that nobody has cancelled.
    open: BTreeSet<(u64, u32)>,
    running: BTreeSet<u64>,
}

pub struct World {
    pub now: u64,
    tabs: Vec<Tab>,
    pub store: Option<String>,
    queue: BTreeMap<(u64, u64), (usize, Event)>,
    sequence: u64,
    pub observers: BTreeMap<Key, Observer>,
    pub engines: BTreeMap<Key, Engine>,
    /// By ask and attempt (counted from 1).
    pub server: Box<dyn FnMut(Key, u32, u64) -> Script>,
    pub user: Box<User>,
    pub refresh: Option<bool>,
    /// Nobody grants the lock.
    pub locked: bool,
    pub sent: Vec<(Key, u32, String)>,
    pub previews: Vec<Preview>,
    pub consents_kept: usize,
    pub cancelled_at: BTreeMap<(Key, u32), u64>,
    pub stopped_local: usize,
    /// Nano-dollars that servers have billed.
    pub billed: u64,
    pub cap: u64,
}

impl World {
    pub fn new(configs: Vec<Config>) -> Self {
        let cap = configs[0].budget.usd.map_or(u64::MAX, |usd| (usd * 1e9) as u64);
        let tab =
            |config| Tab { machine: Machine::new(config).unwrap(), open: BTreeSet::new(), running: BTreeSet::new() };
        Self {
            now: START,
            tabs: configs.into_iter().map(tab).collect(),
            store: None,
            queue: BTreeMap::new(),
            sequence: 0,
            observers: BTreeMap::new(),
            engines: BTreeMap::new(),
            server: Box::new(|_, _, _| panic!("no server")),
            user: Box::new(|_, _| Some((50, Decision::Once))),
            refresh: Some(true),
            locked: false,
            sent: Vec::new(),
            previews: Vec::new(),
            consents_kept: 0,
            cancelled_at: BTreeMap::new(),
            stopped_local: 0,
            billed: 0,
            cap,
        }
    }

    pub fn ledger(&self) -> Ledger {
        self.store.as_ref().map(|store| Ledger::from_text(store).unwrap()).unwrap_or_default()
    }

    pub fn at(&mut self, delay: u64, tab: usize, event: Event) {
        self.sequence += 1;
        self.queue.insert((self.now + delay, self.sequence), (tab, event));
    }

    pub fn ask(&mut self, delay: u64, tab: usize, ask: u64, request: Request, engine: Engine) {
        self.observers.insert((tab, ask), Observer::default());
        self.engines.insert((tab, ask), engine);
        self.at(delay, tab, Event::Ask { ask, request: Box::new(request) });
    }

    /// Until nothing is left to happen. Panics if an ask hangs.
    pub fn run(&mut self) {
        let mut steps = 0;
        loop {
            steps += 1;
            assert!(steps < 200_000, "it never ends");
            let timer = (0..self.tabs.len()).filter_map(|tab| Some((self.tabs[tab].machine.deadline()?, tab))).min();
            let first = self.queue.first_key_value().map(|(&(at, _), _)| at);
            let (tab, event) = match (first, timer) {
                (None, None) => break,
                (Some(at), timer) if timer.is_none_or(|(due, _)| at <= due) => {
                    let ((at, _), event) = self.queue.pop_first().unwrap();
                    self.now = self.now.max(at);
                    event
                }
                (_, Some((due, tab))) => {
                    self.now = self.now.max(due);
                    (tab, Event::Tick)
                }
                _ => unreachable!(),
            };
            self.step(tab, event);
            assert!(self.now < START + 7 * 86_400_000, "it hangs");
        }
        for (key, observer) in &self.observers {
            assert!(observer.end.is_some(), "{key:?} never ended");
        }
        for tab in &self.tabs {
            assert!(tab.machine.is_empty() && tab.open.is_empty() && tab.running.is_empty(), "something is left open");
        }
    }

    pub fn step(&mut self, tab: usize, event: Event) {
        // The server's part of the connection ends for both.
        let Tab { open, running, .. } = &mut self.tabs[tab];
        let goes_on = match &event {
            Event::BodyEnd { ask, attempt } | Event::NetworkError { ask, attempt } => open.remove(&(*ask, *attempt)),
            Event::Response { ask, attempt, .. } | Event::Body { ask, attempt, .. } => open.contains(&(*ask, *attempt)),
            Event::LocalToken { ask, .. } | Event::LocalCheck { ask, .. } => running.contains(ask),
            Event::LocalDone { ask, .. } | Event::LocalFailed { ask } => running.remove(ask),
            _ => true,
        };
        if !goes_on {
            return;
        }
        let locks = matches!(event, Event::Ledger { .. });
        let event = if locks { Event::Ledger { state: self.store.clone() } } else { event };
        let actions = self.tabs[tab].machine.step(self.now, event);
        for action in actions {
            self.act(tab, action);
        }
        let ledger = self.ledger();
        assert!(ledger.spending.committed() <= self.cap, "committed more than the cap");
        assert!(self.billed <= self.cap, "billed more than the cap");
    }

    fn act(&mut self, tab: usize, action: Action) {
        match action {
            Action::StartLocal { ask } => self.start_local(tab, ask),
            Action::StopLocal { ask } => {
                assert!(self.tabs[tab].running.remove(&ask), "stops what does not run");
                self.stopped_local += 1;
            }
            Action::LockLedger => {
                if !self.locked {
                    self.at(3, tab, Event::Ledger { state: None });
                }
            }
            Action::StoreLedger { state } => self.store = Some(state),
            Action::AskConsent { ask, preview } => {
                if let Some((delay, decision)) = (self.user)((tab, ask), &preview) {
                    self.at(delay, tab, Event::Consent { ask, decision });
                }
                self.previews.push(preview);
            }
            Action::StoreConsent { .. } => self.consents_kept += 1,
            Action::RefreshToken { ask } => {
                if let Some(ok) = self.refresh {
                    self.at(20, tab, Event::TokenRefreshed { ask, ok });
                }
            }
            Action::Send { ask, attempt, request } => {
                assert_eq!(request.url(), URL);
                let json: Value = serde_json::from_str(self.store.as_ref().expect("stored first")).unwrap();
                let holds = json["spending"]["holds"].as_object().unwrap();
                assert!(
                    holds.keys().any(|id| id.ends_with(&format!(":{ask}:{attempt}"))),
                    "sent without a stored hold"
                );
                assert!(self.tabs[tab].open.insert((ask, attempt)), "sent twice");
                self.sent.push(((tab, ask), attempt, request.body().to_string()));
                let script = (self.server)((tab, ask), attempt, self.now);
                if let Some((input, output)) = script.billed {
                    self.billed += input * 3_000 + output * 15_000;
                }
                for (delay, net) in script.steps {
                    let event = match net {
                        Net::Head { status, content_type, retry_after } => {
                            let content_type = content_type.map(String::from);
                            Event::Response { ask, attempt, status, content_type, retry_after }
                        }
                        Net::Bytes(bytes) => Event::Body { ask, attempt, bytes },
                        Net::End => Event::BodyEnd { ask, attempt },
                        Net::Error => Event::NetworkError { ask, attempt },
                    };
                    self.at(delay, tab, event);
                }
            }
            Action::Cancel { ask, attempt } => {
                assert!(self.tabs[tab].open.remove(&(ask, attempt)), "cancels what is not open");
                self.cancelled_at.insert(((tab, ask), attempt), self.now);
            }
            Action::Show { ask, shown } => {
                // Everything that is said can be said to JavaScript.
                serde_json::to_value(&shown).unwrap();
                self.observers.get_mut(&(tab, ask)).expect("an ask").see(shown);
            }
        }
    }

    fn start_local(&mut self, tab: usize, ask: u64) {
        assert!(self.tabs[tab].running.insert(ask), "started twice");
        let engine = self.engines[&(tab, ask)].clone();
        let mut delay = 30;
        for (i, text) in engine.tokens.into_iter().enumerate() {
            delay += engine.token_ms;
            self.at(delay, tab, Event::LocalToken { ask, text });
            if let Some((after, p_ok)) = engine.check.filter(|(after, _)| *after == i + 1) {
                self.at(delay, tab, Event::LocalCheck { ask, k: after as u32, p_ok });
            }
        }
        let event = match engine.end {
            Some(end) => Event::LocalDone { ask, end: Box::new(end) },
            None => Event::LocalFailed { ask },
        };
        self.at(delay + engine.token_ms, tab, event);
    }

    pub fn observer(&self, tab: usize, ask: u64) -> &Observer {
        &self.observers[&(tab, ask)]
    }
}

/// A local answer in tokens.
pub fn engine(text: &str, p_ok: Option<f64>) -> Engine {
    let tokens: Vec<String> = text.split_inclusive(' ').map(String::from).collect();
    let end = LocalEnd { p_ok, prompt_tokens: 12, completion_tokens: tokens.len() as u64, ..LocalEnd::default() };
    Engine { tokens, token_ms: 20, check: None, end: Some(end) }
}
