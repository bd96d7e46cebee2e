//! Money: reserved before a request leaves, settled when its answer says what it took, never above the cap.

use super::json::{Fields, Problem, Value};
use serde::{Serialize, Serializer};

/// Billionths of a dollar.
pub type NanoUsd = u64;

/// Dollars for a million tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Price {
    pub input: f64,
    pub output: f64,
}

impl Price {
    /// Rounded up.
    pub fn cost(&self, input: u64, output: u64) -> NanoUsd {
        (input as f64 * self.input * 1e3 + output as f64 * self.output * 1e3).ceil() as NanoUsd
    }
}

pub fn usd(nano: NanoUsd) -> f64 {
    nano as f64 / 1e9
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Budget {
    /// None: no cap.
    pub usd: Option<f64>,
    /// The cap is for each such period, counted from 1970 in UTC (a day: 86,400,000). None: for good.
    pub period_ms: Option<u64>,
}

impl Budget {
    fn cap(&self) -> NanoUsd {
        self.usd.map_or(NanoUsd::MAX, |usd| (usd * 1e9).floor() as NanoUsd)
    }
}

/// The proof that money is held for one request. Only [`Spending::reserve`] makes one, and sealing a request takes it.
#[derive(Debug, PartialEq, Eq)]
pub struct Hold {
    amount: NanoUsd,
}

impl Hold {
    pub fn amount(&self) -> NanoUsd {
        self.amount
    }
}

/// What a request took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bill {
    /// The server refused it.
    Nothing,
    Cost(NanoUsd),
    /// It may have been billed: the whole hold counts.
    Unknown,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
struct Held {
    #[serde(skip)]
    id: String,
    amount: NanoUsd,
    /// When whoever holds it must be gone.
    expires: u64,
}

/// How many have passed since 1970; 0 where there is but one.
fn period(now: u64, budget: &Budget) -> u64 {
    budget.period_ms.filter(|ms| *ms > 0).map_or(0, |ms| now / ms)
}

/// Shared by all tabs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Spending {
    /// Since the epoch, in periods.
    period: u64,
    spent: NanoUsd,
    /// Of `spent`, what is an upper bound only.
    unsure: NanoUsd,
    #[serde(serialize_with = "by_id")]
    holds: Vec<Held>,
}

fn by_id<S: Serializer>(holds: &[Held], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(holds.iter().map(|held| (&held.id, held)))
}

impl Spending {
    pub(super) fn from_json(value: &Value, problem: &Problem) -> Self {
        let all = Fields::any(value, problem);
        let mut holds = Vec::new();
        if all.get("holds").is_none() {
            all.wrong("holds", "given");
        }
        for (id, held) in &all.map("holds").0 {
            let held = Fields::any(held, problem);
            holds.push(Held { id: id.clone(), amount: held.needed("amount"), expires: held.needed("expires") });
        }
        Self { period: all.needed("period"), spent: all.needed("spent"), unsure: all.needed("unsure"), holds }
    }

    pub fn spent(&self) -> NanoUsd {
        self.spent
    }

    pub fn unsure(&self) -> NanoUsd {
        self.unsure
    }

    /// Spent and held.
    pub fn committed(&self) -> NanoUsd {
        self.holds.iter().fold(self.spent, |sum, held| sum.saturating_add(held.amount))
    }

    /// What a tab that is gone held is counted as spent; a new period begins with what is held.
    fn pass_time(&mut self, now: u64, budget: &Budget) {
        let gone = self.holds.iter().filter(|held| held.expires <= now).map(|held| held.id.clone());
        for id in gone.collect::<Vec<_>>() {
            self.settle(&id, Bill::Unknown);
        }
        let period = period(now, budget);
        // A clock that was set back begins no period.
        if period > self.period {
            *self = Self { period, holds: std::mem::take(&mut self.holds), ..Self::default() };
        }
    }

    /// Whether what is spent in this period leaves less than `amount`, whatever becomes of the holds.
    pub fn is_used_up(&self, now: u64, budget: &Budget, amount: NanoUsd) -> bool {
        period(now, budget) <= self.period && self.spent.saturating_add(amount) > budget.cap()
    }

    /// None: with `amount` the cap would be passed.
    pub fn reserve(&mut self, now: u64, budget: &Budget, id: &str, amount: NanoUsd, expires: u64) -> Option<Hold> {
        self.pass_time(now, budget);
        if self.committed().saturating_add(amount) > budget.cap() || self.holds.iter().any(|held| held.id == id) {
            return None;
        }
        self.holds.push(Held { id: id.to_string(), amount, expires });
        Some(Hold { amount })
    }

    /// What no longer is held has been counted in full already.
    pub fn settle(&mut self, id: &str, bill: Bill) {
        let Some(at) = self.holds.iter().position(|held| held.id == id) else { return };
        let held = self.holds.swap_remove(at);
        let cost = match bill {
            Bill::Nothing => 0,
            Bill::Cost(cost) => cost,
            Bill::Unknown => {
                self.unsure = self.unsure.saturating_add(held.amount);
                held.amount
            }
        };
        self.spent = self.spent.saturating_add(cost);
    }
}
