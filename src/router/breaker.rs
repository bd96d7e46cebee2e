//! The circuit breaker of one destination, shared by all tabs: after some failures nobody asks it for a while, then one
//! request tries.

use super::json::{Fields, Problem, Value};
use serde::Serialize;

/// Failed requests in a row that open it.
const FAILURES: u32 = 3;
const FIRST_PAUSE_MS: u64 = 30_000;
const LONGEST_PAUSE_MS: u64 = 600_000;
/// What a server may ask for by Retry-After.
const LONGEST_HOLD_OFF_MS: u64 = 3_600_000;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Closed {
        failures: u32,
    },
    Open {
        until: u64,
        trips: u32,
    },
    /// `owner` tries; it is given up at `until`.
    Probing {
        owner: String,
        until: u64,
        trips: u32,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Breaker(State);

impl Default for Breaker {
    fn default() -> Self {
        Self(State::Closed { failures: 0 })
    }
}

/// How a request that was let through found the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Good,
    /// `hold_off`: milliseconds that the server asked for.
    Bad {
        hold_off: Option<u64>,
    },
    /// It ended before one could tell.
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    Free,
    /// The one that tries.
    Probe,
    Refused,
}

impl Breaker {
    pub(super) fn from_json(value: &Value, problem: &Problem) -> Self {
        let of = |state: &str| value.get(state).map(|of| Fields::any(of, problem));
        let small = |fields: &Fields, name: &str| u32::try_from(fields.needed(name)).unwrap_or_default();
        Self(if let Some(open) = of("open") {
            State::Open { until: open.needed("until"), trips: small(&open, "trips") }
        } else if let Some(probing) = of("probing") {
            let (until, trips) = (probing.needed("until"), small(&probing, "trips"));
            State::Probing { owner: probing.text("owner"), until, trips }
        } else {
            let closed = Fields::any(&value["closed"], problem);
            State::Closed { failures: small(&closed, "failures") }
        })
    }

    /// Whether nobody is let through, not even to try.
    pub fn pauses(&self, now: u64) -> bool {
        matches!(self.0, State::Open { until, .. } if until > now)
    }

    pub fn would_admit(&self, now: u64, owner: &str) -> Admission {
        match &self.0 {
            State::Closed { .. } => Admission::Free,
            State::Open { until, .. } if *until <= now => Admission::Probe,
            State::Probing { owner: probe, until, .. } if probe == owner || *until <= now => Admission::Probe,
            _ => Admission::Refused,
        }
    }

    /// `lease`: milliseconds after which the owner must be gone.
    pub fn admit(&mut self, now: u64, owner: &str, lease: u64) -> Admission {
        let admission = self.would_admit(now, owner);
        if let (Admission::Probe, State::Open { trips, .. } | State::Probing { trips, .. }) = (admission, &self.0) {
            self.0 = State::Probing { owner: owner.to_string(), until: now.saturating_add(lease), trips: *trips };
        }
        admission
    }

    /// What `owner` found. Those that were let through before the breaker opened say nothing about now.
    pub fn report(&mut self, now: u64, owner: &str, health: Health) {
        let trips = match &self.0 {
            State::Closed { .. } => None,
            State::Probing { owner: probe, trips, .. } if probe == owner => Some(*trips),
            _ => return,
        };
        self.0 = match (health, trips, &self.0) {
            (Health::Good, ..) => State::Closed { failures: 0 },
            // The next may try at once.
            (Health::Unknown, Some(trips), _) => State::Open { until: now, trips },
            (Health::Unknown, None, _) => return,
            (Health::Bad { hold_off }, Some(trips), _) => opened(now, trips + 1, hold_off),
            (Health::Bad { hold_off }, None, State::Closed { failures })
                if hold_off.is_some() || failures + 1 >= FAILURES =>
            {
                opened(now, 0, hold_off)
            }
            (Health::Bad { .. }, _, State::Closed { failures }) => State::Closed { failures: failures + 1 },
            (Health::Bad { .. }, ..) => return,
        };
    }
}

fn opened(now: u64, trips: u32, hold_off: Option<u64>) -> State {
    let pause = FIRST_PAUSE_MS.saturating_mul(1 << trips.min(10)).min(LONGEST_PAUSE_MS);
    let pause = pause.max(hold_off.unwrap_or(0).min(LONGEST_HOLD_OFF_MS));
    State::Open { until: now.saturating_add(pause), trips }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BAD: Health = Health::Bad { hold_off: None };

    #[test]
    fn opens_after_three_and_lets_one_through() {
        let mut breaker = Breaker::default();
        for now in 0..3 {
            assert_eq!(breaker.admit(now, "a", 1000), Admission::Free);
            breaker.report(now, "a", BAD);
        }
        assert_eq!(breaker.admit(29_999, "a", 1000), Admission::Refused);
        assert_eq!(breaker.admit(30_002, "a", 1000), Admission::Probe);
        assert_eq!(breaker.admit(30_002, "b", 1000), Admission::Refused);
        // A late word of one that was let through before.
        breaker.report(30_003, "c", Health::Good);
        assert_eq!(breaker.would_admit(30_004, "b"), Admission::Refused);
        // Twice the pause after a failed try.
        breaker.report(30_005, "a", BAD);
        assert_eq!(breaker.would_admit(90_004, "b"), Admission::Refused);
        assert_eq!(breaker.admit(90_005, "b", 1000), Admission::Probe);
        // Its tab is gone: the next one tries.
        assert_eq!(breaker.admit(91_005, "c", 1000), Admission::Probe);
        breaker.report(91_006, "c", Health::Unknown);
        assert_eq!(breaker.admit(91_006, "d", 1000), Admission::Probe);
        breaker.report(91_007, "d", Health::Good);
        assert_eq!(breaker.would_admit(91_008, "e"), Admission::Free);
    }

    #[test]
    fn waits_as_long_as_the_server_asks_within_reason() {
        let mut breaker = Breaker::default();
        breaker.report(0, "a", Health::Bad { hold_off: Some(u64::MAX) });
        assert_eq!(breaker.would_admit(3_599_999, "a"), Admission::Refused);
        assert_eq!(breaker.would_admit(3_600_000, "a"), Admission::Probe);
    }
}
