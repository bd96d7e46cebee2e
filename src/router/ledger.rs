//! What all tabs share: spending and the breaker, changed only under one lock.

use super::breaker::{Admission, Breaker, Health};
use super::budget::{Bill, Budget, Hold, NanoUsd, Spending};
use super::json::{self, Problem};
use serde::Serialize;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ledger {
    pub spending: Spending,
    pub breaker: Breaker,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Breaker,
    Budget,
}

/// A change that waits for the lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Reserve { ask: u64 },
    Settle { hold: String, bill: Bill },
    Report { owner: String, health: Health },
}

impl Ledger {
    /// JSON, as it is stored.
    pub fn to_text(&self) -> String {
        json::to_text(self)
    }

    /// None: not what [`to_text`](Self::to_text) writes.
    pub fn from_text(text: &str) -> Option<Self> {
        let value = json::parse(text).ok()?;
        let problem = Problem::default();
        let spending = Spending::from_json(&value["spending"], &problem);
        let breaker = Breaker::from_json(&value["breaker"], &problem);
        problem.or(Self { spending, breaker }).ok()
    }

    /// Whether [`reserve`](Self::reserve) is bound to refuse, even if this copy is old: other tabs can have settled
    /// holds and ended tries since, but not shortened a pause or taken spending back.
    pub fn refuses(&self, now: u64, budget: &Budget, amount: NanoUsd) -> Option<Refusal> {
        if self.breaker.pauses(now) {
            return Some(Refusal::Breaker);
        }
        self.spending.is_used_up(now, budget, amount).then_some(Refusal::Budget)
    }

    /// Both or neither: money, and the breaker's leave. `lease`: milliseconds until whoever asks must be gone. True: as
    /// the one that tries whether the server is back.
    pub fn reserve(
        &mut self,
        now: u64,
        budget: &Budget,
        owner: &str,
        hold: &str,
        amount: NanoUsd,
        lease: u64,
    ) -> Result<(Hold, bool), Refusal> {
        if self.breaker.would_admit(now, owner) == Admission::Refused {
            return Err(Refusal::Breaker);
        }
        let expires = now.saturating_add(lease);
        let hold = self.spending.reserve(now, budget, hold, amount, expires).ok_or(Refusal::Budget)?;
        Ok((hold, self.breaker.admit(now, owner, lease) == Admission::Probe))
    }
}
