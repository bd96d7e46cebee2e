//! Watches what comes out of one ask, and holds it to the invariants.

use kinglet::router::machine::{Answer, Shown};
use kinglet::router::record::{Cause, Record, Source};

#[derive(Debug)]
pub enum End {
    Final(Box<Answer>),
    Failed(Cause, Box<Record>),
    Aborted(Box<Record>),
}

#[derive(Default, Debug)]
pub struct Observer {
    pub shown: String,
    source: Option<Source>,
    pub switches: usize,
    pub retries: usize,
    pub end: Option<End>,
}

impl Observer {
    pub fn see(&mut self, shown: Shown) {
        assert!(self.end.is_none(), "after the end: {shown:?}");
        match shown {
            Shown::Token { source, text, .. } => {
                assert!(!text.is_empty(), "an empty token");
                assert!(self.shown.is_empty() || self.source == Some(source), "{source:?} after {:?}", self.source);
                self.source = Some(source);
                self.shown += &text;
            }
            Shown::Switch { retract, .. } => {
                assert_eq!(
                    retract,
                    self.shown.encode_utf16().count(),
                    "retracts something else than all: {}",
                    self.shown
                );
                assert!(retract > 0, "retracts nothing");
                self.shown.clear();
                self.switches += 1;
            }
            Shown::Retry { .. } => self.retries += 1,
            Shown::Check { .. } => {}
            Shown::Final { answer } => {
                assert_eq!(answer.text, self.shown, "the answer is not what is shown");
                assert!(self.shown.is_empty() || self.source == Some(answer.source));
                assert!(["stop", "length", "tool_calls", "content_filter"].contains(&answer.finish));
                assert_eq!(answer.record.source, Some(answer.source));
                self.end = Some(End::Final(answer));
            }
            Shown::Failed { blocked_by, record, message } => {
                assert!(self.shown.is_empty(), "a part of an answer stays: {}", self.shown);
                assert!(message.len() > 20);
                self.end = Some(End::Failed(blocked_by, record));
            }
            Shown::Aborted { record } => self.end = Some(End::Aborted(record)),
        }
    }

    pub fn answer(&self) -> &Answer {
        match &self.end {
            Some(End::Final(answer)) => answer,
            end => panic!("no answer, but {end:?}"),
        }
    }

    pub fn record(&self) -> &Record {
        match self.end.as_ref().expect("it is over") {
            End::Final(answer) => &answer.record,
            End::Failed(_, record) | End::Aborted(record) => record,
        }
    }
}
