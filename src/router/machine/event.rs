//! What the machine is told and what it asks for.

use super::super::consent::{Decision, Destination};
use super::super::json::{Map, Value};
use super::super::openai::{Finish, ToolCall};
use super::super::policy::Mode;
use super::super::privacy::Redactions;
use super::super::record::{Cause, Reason, Record, Source, Tokens};
use super::super::sealed::SealedRequest;
use serde::Serialize;

/// Chosen by the shell, never used twice.
pub type AskId = u64;

/// A question. `messages` and `params` are OpenAI's; a message, or a part of one, may be labelled `private: true` or
/// `labels: ["private"]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    pub messages: Vec<Value>,
    pub params: Map,
    /// Default: the router's.
    pub mode: Option<Mode>,
    pub hold: Option<bool>,
    pub private: bool,
    /// There is a local model that can take it.
    pub local: bool,
    /// A score of the question, where somebody validated one.
    pub pre: Option<f64>,
}

/// The end of a local answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LocalEnd {
    /// What was held back until the end.
    pub text: String,
    pub finish: Finish,
    pub tool_calls: Vec<Value>,
    /// What a thinking model thought before.
    pub reasoning: String,
    /// Calibrated confidence, where there is a calibration.
    pub p_ok: Option<f64>,
    pub weak_tool_call: bool,
    /// The signals behind `p_ok`, for the record: numbers by name.
    pub features: Map,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
}

/// `attempt` is the one of [`Action::Send`]; what comes late, for an attempt or an ask that is over, is passed over.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    Ask {
        ask: AskId,
        request: Box<Request>,
    },
    Abort {
        ask: AskId,
    },

    LocalToken {
        ask: AskId,
        text: String,
    },
    /// Confidence after `k` tokens.
    LocalCheck {
        ask: AskId,
        k: u32,
        p_ok: f64,
    },
    LocalDone {
        ask: AskId,
        end: Box<LocalEnd>,
    },
    LocalFailed {
        ask: AskId,
    },

    Consent {
        ask: AskId,
        decision: Decision,
    },
    /// The user takes a standing consent back.
    Revoke {
        destination: Destination,
    },

    /// The lock is held: what storage has. None: nothing, or it cannot be read.
    Ledger {
        state: Option<String>,
    },

    Response {
        ask: AskId,
        attempt: u32,
        status: u16,
        content_type: Option<String>,
        retry_after: Option<String>,
    },
    Body {
        ask: AskId,
        attempt: u32,
        bytes: Vec<u8>,
    },
    BodyEnd {
        ask: AskId,
        attempt: u32,
    },
    /// `fetch` or the reading of the body was rejected.
    NetworkError {
        ask: AskId,
        attempt: u32,
    },

    /// The answer to [`Action::RefreshToken`].
    TokenRefreshed {
        ask: AskId,
        ok: bool,
    },
    /// Somebody signed in: what was refused may be tried again.
    AuthChanged,
    Online {
        online: bool,
    },
    /// What local answers are measured with from now on.
    Calibration {
        tau: f64,
        calibrated: bool,
        drift: bool,
    },
    /// [`Machine::deadline`](super::Machine::deadline) has come.
    Tick,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Action {
    StartLocal {
        ask: AskId,
    },
    StopLocal {
        ask: AskId,
    },
    /// Take the lock of the ledger, read it, and step with [`Event::Ledger`].
    LockLedger,
    /// Write it before anything else of this step is done, then let go of the lock.
    StoreLedger {
        state: String,
    },
    /// Show the preview, and step with [`Event::Consent`].
    AskConsent {
        ask: AskId,
        preview: Preview,
    },
    /// Keep a standing consent for the next time.
    StoreConsent {
        destination: Destination,
    },
    RefreshToken {
        ask: AskId,
    },
    Send {
        ask: AskId,
        attempt: u32,
        request: SealedRequest,
    },
    /// Close the socket.
    Cancel {
        ask: AskId,
        attempt: u32,
    },
    /// For whoever asked.
    Show {
        ask: AskId,
        shown: Shown,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Preview {
    pub to: Destination,
    /// Exactly what would be sent.
    pub body: String,
    pub redactions: Redactions,
}

/// What comes out of `ask()`. The last one of an ask is `final`, `failed` or `aborted`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Shown {
    /// To be appended. `draft`: it may still be retracted.
    Token {
        source: Source,
        text: String,
        draft: bool,
    },
    Check {
        k: u32,
        p_ok: f64,
        tau: f64,
    },
    /// Take the last `retract` UTF-16 units back, which is all that is shown.
    Switch {
        reason: &'static str,
        retract: usize,
    },
    Retry {
        attempt: u32,
        delay_ms: u64,
        cause: String,
    },
    Final {
        answer: Box<Answer>,
    },
    /// There is neither a local answer nor one of the cloud.
    Failed {
        blocked_by: Cause,
        message: String,
        record: Box<Record>,
    },
    Aborted {
        record: Box<Record>,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// The text that is shown.
    pub text: String,
    pub source: Source,
    /// [`Finish::name`].
    pub finish: &'static str,
    pub tool_calls: Vec<Value>,
    pub reasoning: String,
    pub confidence: Confidence,
    pub degraded: Option<Degraded>,
    pub usage: Tokens,
    pub record: Record,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Confidence {
    pub p_ok: Option<f64>,
    pub tau: Option<f64>,
    pub calibrated: bool,
}

/// The cloud was wanted, and did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Degraded {
    pub wanted: Reason,
    pub blocked_by: Cause,
    /// What a developer can do about it.
    pub advice: &'static str,
}

/// A tool call in OpenAI's shape, with `arguments` of its own.
pub(super) fn tool_call(call: &ToolCall, arguments: String) -> Value {
    let text = |text: &str| text.into();
    let function = Value::object(&[("name", text(&call.name)), ("arguments", arguments.into())]);
    Value::object(&[("id", text(&call.id)), ("type", text("function")), ("function", function)])
}

/// What [`Machine::explain`](super::Machine::explain) says; nothing is sent for it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    pub mode: Mode,
    pub local: bool,
    /// None: nothing stands against it.
    pub cloud_blocked_by: Option<Cause>,
    /// It would have to be asked for.
    pub needs_consent: bool,
    pub preview: Option<Preview>,
    /// With a whole answer.
    pub most_usd: Option<f64>,
}
