//! One question on its way: its local side, its cloud side, and what of both is on the screen.

use super::super::budget::NanoUsd;
use super::super::consent::Consent;
use super::super::policy::{Config, Mode};
use super::super::privacy::{CleanScan, Restorer};
use super::super::reader::Reader;
use super::super::record::{Cause, Reason, Record, Source};
use super::event::{Action, AskId, LocalEnd, Request, Shown};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalState {
    /// There is none, or the mode forbids it.
    Unavailable,
    Idle,
    Running,
    Done,
    Failed,
}

pub struct Local {
    pub state: LocalState,
    pub text: String,
    pub end: LocalEnd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloudState {
    Unwanted,
    /// It was wanted, and cannot be.
    Blocked(Cause),
    Consent,
    /// Waits for the ledger's lock.
    Reserving,
    /// Before a retry.
    Waiting,
    Refreshing,
    Sending,
}

/// Whose hold the ledger knows.
pub struct Held {
    pub id: String,
    pub amount: NanoUsd,
}

pub struct CloudSide {
    pub state: CloudState,
    pub wanted: Option<Reason>,
    pub scan: Option<CleanScan>,
    pub consent: Option<Consent>,
    pub held: Option<Held>,
    /// The breaker let it through to try.
    pub probe: bool,
    /// The breaker waits for what it found.
    pub admitted: bool,
    /// None: no headers yet.
    pub reader: Option<Reader>,
    /// The status of the current attempt.
    pub status: Option<u16>,
    pub restorer: Restorer,
    /// Of the current attempt, restored.
    pub text: String,
    /// Counted from 1.
    pub attempt: u32,
    pub sent_at: u64,
    pub retries: u64,
    pub restarts: u64,
    pub refreshed: bool,
    /// Of the state.
    pub deadline: Option<u64>,
    /// Of all attempts.
    pub last_moment: u64,
}

pub struct Ask {
    pub id: AskId,
    pub started: u64,
    pub mode: Mode,
    pub hold: bool,
    pub request: Request,
    pub local: Local,
    pub cloud: CloudSide,
    pub screen: Screen,
    pub record: Record,
    pub over: bool,
}

impl Ask {
    pub fn new(now: u64, id: AskId, request: Request, config: &Config) -> Self {
        let mode = request.mode.unwrap_or(config.mode);
        let local = request.local && mode != Mode::OnlyCloud;
        Self {
            id,
            started: now,
            mode,
            hold: request.hold.unwrap_or(config.policy.hold),
            request,
            local: Local {
                state: if local { LocalState::Idle } else { LocalState::Unavailable },
                text: String::new(),
                end: LocalEnd::default(),
            },
            cloud: CloudSide {
                state: CloudState::Unwanted,
                wanted: None,
                scan: None,
                consent: None,
                held: None,
                probe: false,
                admitted: false,
                reader: None,
                status: None,
                restorer: Restorer::default(),
                text: String::new(),
                attempt: 0,
                sent_at: 0,
                retries: 0,
                restarts: 0,
                refreshed: false,
                deadline: None,
                last_moment: u64::MAX,
            },
            screen: Screen::default(),
            record: Record { mode, ..Record::default() },
            over: false,
        }
    }

    /// Whether the cloud may still answer.
    pub fn cloud_is_coming(&self) -> bool {
        !matches!(self.cloud.state, CloudState::Unwanted | CloudState::Blocked(_))
    }

    /// Whether what the local model writes may still be retracted.
    pub fn is_draft(&self) -> bool {
        self.mode != Mode::OnlyLocal && !matches!(self.cloud.state, CloudState::Blocked(_))
    }

    /// What the local model wrote last: shown, unless the cloud has the screen or nothing is decided.
    pub fn show_local(&mut self, text: &str, out: &mut Vec<Action>) {
        if !self.hold && self.screen.source.is_none_or(|(source, _)| source == Source::Local) {
            let draft = self.is_draft();
            self.screen.show(self.id, (Source::Local, 0), text, draft, "local", out);
        }
    }
}

/// What is shown comes from one source: a text of another one retracts it first.
#[derive(Default)]
pub struct Screen {
    /// And the attempt.
    pub source: Option<(Source, u32)>,
    /// UTF-16 units.
    units: usize,
}

impl Screen {
    pub fn show(
        &mut self,
        ask: AskId,
        source: (Source, u32),
        text: &str,
        draft: bool,
        reason: &'static str,
        out: &mut Vec<Action>,
    ) {
        if self.source != Some(source) {
            self.clear(ask, reason, out);
            self.source = Some(source);
        }
        if !text.is_empty() {
            self.units += text.encode_utf16().count();
            out.push(Action::Show { ask, shown: Shown::Token { source: source.0, text: text.to_string(), draft } });
        }
    }

    /// Retracts what is shown.
    pub fn clear(&mut self, ask: AskId, reason: &'static str, out: &mut Vec<Action>) {
        if self.units > 0 {
            out.push(Action::Show { ask, shown: Shown::Switch { reason, retract: self.units } });
        }
        self.units = 0;
        self.source = None;
    }
}
