//! A calibration at work: p(ok) of the answers as they come, the threshold in force, and whether its promise holds.

use super::artifact::{Calibration, MadeFor};
use super::drift::{DriftMonitor, Finding};
use super::feasibility::Feasibility;
use super::json::Map;
use super::machine::Event;
use crate::generate::AnswerSignals;
use serde::Serialize;

/// Of one local model in one tab.
pub struct Judge {
    calibration: Calibration,
    monitor: DriftMonitor,
    /// What the last answer came of that the calibration was not made for; None: there was no answer yet.
    differs: Option<Vec<&'static str>>,
}

/// How a calibration fares.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    /// What the last answer came of that it was not made for (null before the first); see [`Calibration::mismatch`].
    pub differs: Option<&'a [&'static str]>,
    /// What raised the alarm that is on.
    pub drift: Option<&'a Finding>,
    pub tau: f64,
    pub feasibility: &'a Feasibility,
}

impl Judge {
    pub fn new(calibration: Calibration) -> Self {
        let monitor = DriftMonitor::new(calibration.reference.clone());
        Self { calibration, monitor, differs: None }
    }

    pub fn report(&self) -> Report<'_> {
        let (drift, feasibility) = (self.monitor.alarm(), &self.calibration.feasibility);
        Report { differs: self.differs.as_deref(), drift, tau: self.calibration.tau(drift.is_some()), feasibility }
    }

    pub fn p_ok(&self, signals: &AnswerSignals) -> Option<f64> {
        self.calibration.model.p_ok(signals)
    }

    /// Takes a whole answer into account and says what it is worth. `running`: what it came of, where that is known.
    pub fn judge(&mut self, signals: &AnswerSignals, running: Option<&MadeFor>) -> Option<f64> {
        self.differs =
            Some(running.map_or(vec!["what runs is not known"], |running| self.calibration.mismatch(running)));
        let p_ok = self.p_ok(signals);
        if let Some(p_ok) = p_ok {
            self.monitor.push(p_ok, signals);
        }
        p_ok
    }

    /// What the machine measures answers with from now on.
    pub fn event(&self) -> Event {
        let drift = self.monitor.alarm().is_some();
        let calibrated = self.differs.as_ref().is_some_and(Vec::is_empty);
        Event::Calibration { tau: self.calibration.tau(drift), calibrated, drift }
    }
}

/// The signals among the features of an answer.
pub fn signals(features: &Map) -> AnswerSignals {
    AnswerSignals::by_name(|name| features.get(name)?.as_f64())
}
