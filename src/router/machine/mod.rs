//! The deciding half of the router, without a clock, a socket or a store of its own: [`Machine::step`] is told what
//! happened and says what is to be done.
//!
//! # What the shell (`pkg/src/router/shell.ts`) does
//!
//! ```text
//! ask()/abort()  ->  Ask, Abort          Show                     ->  the events of ask(); the last ends it
//! engine         ->  LocalToken, ...     StartLocal, StopLocal    ->  engine.chat.completions.create, its abort
//! dialog         ->  Consent             AskConsent, StoreConsent ->  the preview; granted ones kept for Config.granted
//! fetch          ->  Response, Body, ... Send, Cancel             ->  fetch with the token added, AbortController
//! storage        ->  Ledger              LockLedger, StoreLedger  ->  navigator.locks around IndexedDB
//! auth()         ->  TokenRefreshed      RefreshToken
//! setTimeout     ->  Tick                deadline()               ->  one timer, set anew after each step
//! ```
//!
//! - Actions are done in their order. `LockLedger`: when the lock is granted, read the store and step with `Ledger`
//!   before letting go; `StoreLedger` comes first among the answers and is written before a `Send` behind it goes out.
//! - Times are milliseconds since 1970 (`Date.now()`), because the ledger is shared and Retry-After may be a date.
//! - An ask is over with `Final`, `Failed` or `Aborted`; whatever arrives for it later is passed over, so that nothing
//!   has to be unhooked in time. So it is with events of an attempt that is over.
//! - `Send` carries everything but the token. There is no other action that leaves the device.

mod ask;
mod cloud;
mod event;
mod gate;
mod local;

pub use event::{Action, Answer, AskId, Confidence, Degraded, Event, Explanation, LocalEnd, Preview, Request, Shown};

use super::consent::Grants;
use super::json;
use super::ledger::{Ledger, Op};
use super::policy::{Config, Endpoint};
use super::record::Cause;
use crate::Result;
use crate::generate::sampler::SplitMix64;
use ask::{Ask, CloudState};
use cloud::Head;

/// Added to the longest request, so that a hold outlives it.
const LEASE_SLACK_MS: u64 = 60_000;

struct Calibration {
    tau: f64,
    calibrated: bool,
    drift: bool,
}

/// All questions of one router in one tab.
pub struct Machine {
    config: Config,
    endpoint: Option<Endpoint>,
    calibration: Calibration,
    grants: Grants,
    asks: Vec<Ask>,
    /// As it was when the lock was last held; what decides is read under the lock.
    ledger: Ledger,
    /// What waits for the lock.
    ops: Vec<Op>,
    /// The lock was asked for.
    locking: bool,
    online: bool,
    /// The token was refused.
    auth_closed: bool,
    random: SplitMix64,
    out: Vec<Action>,
}

fn show(out: &mut Vec<Action>, ask: AskId, shown: Shown) {
    out.push(Action::Show { ask, shown });
}

impl Machine {
    /// Errors: [`Error::BadRequest`](crate::Error::BadRequest) that names the setting to change.
    pub fn new(config: Config) -> Result<Self> {
        let endpoint = config.check()?;
        Ok(Self {
            endpoint,
            // Without a calibration nothing is below the threshold.
            calibration: Calibration { tau: 0.0, calibrated: false, drift: false },
            grants: Grants::new(config.granted.iter().cloned()),
            asks: Vec::new(),
            ledger: Ledger::default(),
            ops: Vec::new(),
            locking: false,
            online: true,
            auth_closed: false,
            random: SplitMix64(config.seed),
            out: Vec::new(),
            config,
        })
    }

    /// `now_ms`: since 1970.
    pub fn step(&mut self, now_ms: u64, event: Event) -> Vec<Action> {
        let now = now_ms;
        match event {
            Event::Ask { ask, request } => {
                // An id in use is the shell's mistake; the first question keeps it.
                if self.asks.iter().all(|known| known.id != ask) {
                    self.asks.push(Ask::new(now, ask, *request, &self.config));
                    self.with(ask, |machine, ask| machine.begin(now, ask));
                }
            }
            Event::Abort { ask } => self.with(ask, |machine, ask| machine.abort(now, ask)),
            Event::LocalToken { ask, text } => self.with(ask, |machine, ask| machine.local_token(ask, &text)),
            Event::LocalCheck { ask, k, p_ok } => {
                self.with(ask, |machine, ask| machine.local_check(now, ask, k, p_ok));
            }
            Event::LocalDone { ask, end } => self.with(ask, |machine, ask| machine.local_done(now, ask, *end)),
            Event::LocalFailed { ask } => self.with(ask, |machine, ask| machine.local_failed(now, ask)),
            Event::Consent { ask, decision } => self.with(ask, |machine, ask| machine.consent(now, ask, decision)),
            Event::Revoke { destination } => self.grants.revoke(&destination),
            Event::Ledger { state } => self.ledger_locked(now, state),
            Event::Response { ask, attempt, status, content_type, retry_after } => {
                let head = Head { status, content_type, retry_after };
                self.with_attempt(ask, attempt, |machine, ask| machine.response(now, ask, head));
            }
            Event::Body { ask, attempt, bytes } => {
                self.with_attempt(ask, attempt, |machine, ask| machine.body(now, ask, &bytes));
            }
            Event::BodyEnd { ask, attempt } => {
                self.with_attempt(ask, attempt, |machine, ask| machine.ended(now, ask, false));
            }
            Event::NetworkError { ask, attempt } => {
                self.with_attempt(ask, attempt, |machine, ask| machine.ended(now, ask, true));
            }
            Event::TokenRefreshed { ask, ok } => self.with(ask, |machine, ask| machine.refreshed(now, ask, ok)),
            Event::AuthChanged => self.auth_closed = false,
            Event::Online { online } => self.set_online(now, online),
            Event::Calibration { tau, calibrated, drift } => {
                self.calibration = Calibration { tau, calibrated, drift };
            }
            Event::Tick => self.tick(now),
        }
        std::mem::take(&mut self.out)
    }

    /// When to step with [`Event::Tick`]; None: never yet.
    pub fn deadline(&self) -> Option<u64> {
        self.asks.iter().filter_map(due).min()
    }

    /// How many questions are under way.
    pub fn len(&self) -> usize {
        self.asks.len()
    }

    pub fn is_empty(&self) -> bool {
        self.asks.is_empty()
    }

    /// Spending and breaker as this tab last saw them.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn with(&mut self, id: AskId, act: impl FnOnce(&mut Self, &mut Ask)) {
        if let Some((at, mut ask)) = self.take(id) {
            act(self, &mut ask);
            self.put_back(at, ask);
        }
    }

    fn take(&mut self, id: AskId) -> Option<(usize, Ask)> {
        let at = self.asks.iter().position(|ask| ask.id == id)?;
        Some((at, self.asks.remove(at)))
    }

    /// Where it was: first come, first served when the clock strikes.
    fn put_back(&mut self, at: usize, ask: Ask) {
        if !ask.over {
            self.asks.insert(at.min(self.asks.len()), ask);
        }
    }

    fn with_attempt(&mut self, id: AskId, attempt: u32, act: impl FnOnce(&mut Self, &mut Ask)) {
        self.with(id, |machine, ask| {
            if ask.cloud.state == CloudState::Sending && ask.cloud.attempt == attempt {
                act(machine, ask);
            }
        });
    }

    /// Of all questions, and when they want to be looked at.
    fn ids(&self) -> Vec<(AskId, Option<u64>)> {
        self.asks.iter().map(|ask| (ask.id, due(ask))).collect()
    }

    fn tick(&mut self, now: u64) {
        for (id, due) in self.ids() {
            if due.is_some_and(|at| at <= now) {
                self.with(id, |machine, ask| machine.expired(now, ask));
            }
        }
    }

    fn set_online(&mut self, now: u64, online: bool) {
        self.online = online;
        if online {
            return;
        }
        for (id, _) in self.ids() {
            self.with(id, |machine, ask| {
                // What is on the wire may still come through.
                if ask.cloud_is_coming() && ask.cloud.state != CloudState::Sending {
                    machine.block(now, ask, Cause::Offline);
                }
            });
        }
    }

    fn ledger_locked(&mut self, now: u64, state: Option<String>) {
        // What cannot be read is no reason to forget what this tab knows.
        if let Some(known) = state.and_then(|state| Ledger::from_text(&state)) {
            self.ledger = known;
        }
        if self.ops.is_empty() {
            self.locking = false;
            return;
        }
        self.locking = true;
        // What is known of money and of the server comes before those that ask for it.
        while !self.ops.is_empty() {
            let next = self.ops.iter().position(|op| !matches!(op, Op::Reserve { .. })).unwrap_or(0);
            match self.ops.remove(next) {
                Op::Reserve { ask } => self.with(ask, |machine, ask| machine.reserved(now, ask)),
                Op::Settle { hold, bill } => self.ledger.spending.settle(&hold, bill),
                Op::Report { owner, health } => self.ledger.breaker.report(now, &owner, health),
            }
        }
        self.locking = false;
        let state = self.ledger.to_text();
        self.out.insert(0, Action::StoreLedger { state });
    }

    /// Queues a change of the ledger.
    fn post(&mut self, op: Op) {
        self.ops.push(op);
        if !self.locking {
            self.locking = true;
            self.out.push(Action::LockLedger);
        }
    }

    /// Of the breaker's leave and of holds.
    fn owner(&self, ask: AskId) -> String {
        [&self.config.tab, ":", &json::to_text(&ask)].concat()
    }

    fn lease(&self) -> u64 {
        self.config.net.total_ms.saturating_add(LEASE_SLACK_MS)
    }

    /// From 0 to `most`, both included.
    fn jitter(&mut self, most: u64) -> u64 {
        (self.random.unit() * (most as f64 + 1.0)) as u64
    }
}

/// When the ask wants to be looked at.
fn due(ask: &Ask) -> Option<u64> {
    let last = (ask.cloud.state == CloudState::Sending).then_some(ask.cloud.last_moment);
    ask.cloud.deadline.into_iter().chain(last).min()
}
