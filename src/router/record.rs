//! What was decided and why, without a word of the conversation.

use super::budget::{NanoUsd, usd};
use super::consent::Destination;
use super::fault::Fault;
use super::json::Map;
use super::policy::Mode;
use super::privacy::{Blocked, Redactions};
use super::veto::Veto;
use serde::{Serialize, Serializer};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    Local,
    Cloud,
}

/// Why the cloud was wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The mode asks it first.
    Mode,
    LocalUnavailable,
    LocalFailed,
    /// The score of the question.
    Prescore,
    /// A check while the local model was writing.
    EarlyRejection,
    LowConfidence,
    Veto(Veto),
}

/// Why the cloud did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Mode,
    NotConfigured,
    Private,
    Secret,
    Pii,
    Offline,
    Auth,
    Breaker,
    Budget,
    ConsentDenied,
    /// The shared ledger's lock did not come.
    Storage,
    Fault(Fault),
}

impl From<Blocked> for Cause {
    fn from(blocked: Blocked) -> Self {
        match blocked {
            Blocked::Private => Cause::Private,
            Blocked::Secret => Cause::Secret,
            Blocked::Pii => Cause::Pii,
        }
    }
}

impl Reason {
    pub fn name(self) -> &'static str {
        match self {
            Reason::Mode => "mode",
            Reason::LocalUnavailable => "local-unavailable",
            Reason::LocalFailed => "local-failed",
            Reason::Prescore => "prescore",
            Reason::EarlyRejection => "early-rejection",
            Reason::LowConfidence => "low-confidence",
            Reason::Veto(Veto::Empty) => "veto-empty",
            Reason::Veto(Veto::Cut) => "veto-cut",
            Reason::Veto(Veto::Loop) => "veto-loop",
            Reason::Veto(Veto::NotJson) => "veto-not-json",
            Reason::Veto(Veto::Refusal) => "veto-refusal",
            Reason::Veto(Veto::WeakToolCall) => "veto-weak-tool-call",
        }
    }
}

impl Cause {
    pub fn name(self) -> String {
        match self {
            Cause::Mode => "mode".into(),
            Cause::NotConfigured => "not-configured".into(),
            Cause::Private => "private".into(),
            Cause::Secret => "secret".into(),
            Cause::Pii => "pii".into(),
            Cause::Offline => "offline".into(),
            Cause::Auth => "auth".into(),
            Cause::Breaker => "breaker".into(),
            Cause::Budget => "budget".into(),
            Cause::ConsentDenied => "consent-denied".into(),
            Cause::Storage => "storage".into(),
            Cause::Fault(fault) => fault.name(),
        }
    }

    /// What a developer is told where there is no answer at all.
    pub fn advice(self) -> &'static str {
        match self {
            Cause::Mode => "the mode is only-local: choose another, or load a model",
            Cause::NotConfigured => "no cloud is configured",
            Cause::Private => "the conversation is labelled private",
            Cause::Secret => "it holds a secret (a key, a token, a password): take it out",
            Cause::Pii => "it holds personal data, which the privacy settings keep here",
            Cause::Offline => "the device is offline",
            Cause::Auth => "the endpoint refuses the token: sign in again",
            Cause::Breaker => "the endpoint failed repeatedly and is left alone for a while",
            Cause::Budget => "the budget is used up",
            Cause::ConsentDenied => "nobody agreed to send it",
            Cause::Storage => "another tab held the budget's lock for too long",
            Cause::Fault(fault) => fault.advice(),
        }
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl Serialize for Cause {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name())
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// Tokens of the answer so far.
    pub k: u32,
    pub p_ok: f64,
    pub tau: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// "ok", "aborted", or the fault.
    pub outcome: String,
    pub status: Option<u16>,
    pub ms: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Egress {
    pub to: Option<Destination>,
    /// Of bodies, all attempts together.
    pub bytes: usize,
    /// How many values of each kind were hidden.
    pub redactions: Redactions,
}

/// Serializable at any moment; complete when the answer is.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    pub mode: Mode,
    /// None: aborted, or no answer.
    pub source: Option<Source>,
    pub wanted_cloud: Option<Reason>,
    pub blocked_by: Option<Cause>,
    pub checks: Vec<Check>,
    /// The signals of the local answer.
    pub features: Map,
    pub p_ok: Option<f64>,
    pub tau: Option<f64>,
    pub calibrated: bool,
    /// The answers of late differ from those of the calibration.
    pub drift: bool,
    pub egress: Egress,
    pub attempts: Vec<Attempt>,
    pub local_tokens: Tokens,
    pub cloud_tokens: Tokens,
    #[serde(rename = "costUsd", serialize_with = "dollars")]
    pub cost: NanoUsd,
    /// Part of the cost is an upper bound: the server did not say what it counted.
    pub cost_is_bound: bool,
    /// What the cloud would have taken for the answer that was given.
    #[serde(rename = "counterfactualUsd", serialize_with = "dollars")]
    pub counterfactual: NanoUsd,
    pub ms: u64,
    /// `counterfactualUsd - costUsd`: below 0 where attempts failed.
    pub saved_usd: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tokens {
    pub input: u64,
    pub output: u64,
}

impl Record {
    pub(super) fn charge(&mut self, cost: NanoUsd, is_bound: bool) {
        self.cost = self.cost.saturating_add(cost);
        self.cost_is_bound |= is_bound && cost > 0;
    }
}

fn dollars<S: Serializer>(nano: &NanoUsd, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(usd(*nano))
}
