//! The local side: what the engine writes, whether it is good enough, and how an ask ends.

use super::super::json::Value;
use super::super::openai::Finish;
use super::super::policy::Mode;
use super::super::record::{Cause, Check, Reason, Record, Source, Tokens};
use super::super::veto::{Veto, veto};
use super::ask::{Ask, CloudState, LocalState};
use super::event::{Action, Answer, Confidence, Degraded, LocalEnd, Shown};
use super::{Machine, show};

impl Machine {
    /// Stage 1: who begins.
    pub(super) fn begin(&mut self, now: u64, ask: &mut Ask) {
        let skips = matches!((ask.request.pre, self.config.policy.pre), (Some(score), Some(least)) if score < least);
        let reason = match ask.mode {
            Mode::OnlyLocal => None,
            Mode::PreferCloud | Mode::OnlyCloud => Some(Reason::Mode),
            _ if ask.local.state == LocalState::Unavailable => Some(Reason::LocalUnavailable),
            Mode::Auto if skips => Some(Reason::Prescore),
            _ => None,
        };
        if let Some(reason) = reason {
            self.want_cloud(now, ask, reason);
        }
        self.conclude(now, ask);
    }

    pub(super) fn local_token(&mut self, ask: &mut Ask, text: &str) {
        if ask.local.state == LocalState::Running {
            ask.local.text += text;
            ask.show_local(text, &mut self.out);
        }
    }

    /// Stage 2: a check may only reject.
    pub(super) fn local_check(&mut self, now: u64, ask: &mut Ask, k: u32, p_ok: f64) {
        if ask.local.state != LocalState::Running {
            return;
        }
        let tau = self.calibration.tau;
        ask.record.checks.push(Check { k, p_ok, tau });
        if !ask.hold {
            show(&mut self.out, ask.id, Shown::Check { k, p_ok, tau });
        }
        let rejects = self.config.policy.early.is_some_and(|least| p_ok < least);
        if ask.mode == Mode::Auto && rejects && ask.cloud.wanted.is_none() {
            // The local model goes on: its draft is what stays if the cloud fails.
            self.want_cloud(now, ask, Reason::EarlyRejection);
        }
    }

    /// Stage 3.
    pub(super) fn local_done(&mut self, now: u64, ask: &mut Ask, mut end: LocalEnd) {
        if ask.local.state != LocalState::Running {
            return;
        }
        ask.local.state = LocalState::Done;
        ask.local.text += &end.text;
        ask.show_local(&end.text, &mut self.out);
        let record = &mut ask.record;
        record.p_ok = end.p_ok;
        // What it was measured with, whatever is in force when the ask ends.
        record.tau = end.p_ok.map(|_| self.calibration.tau);
        record.calibrated = self.calibration.calibrated;
        record.features = std::mem::take(&mut end.features);
        record.local_tokens = Tokens { input: end.prompt_tokens, output: end.completion_tokens };
        ask.local.end = end;
        if ask.cloud.wanted.is_none()
            && let Some(reason) = self.rejection(ask)
        {
            self.want_cloud(now, ask, reason);
        }
        self.conclude(now, ask);
    }

    pub(super) fn local_failed(&mut self, now: u64, ask: &mut Ask) {
        if ask.local.state != LocalState::Running {
            return;
        }
        ask.local.state = LocalState::Failed;
        if ask.mode != Mode::OnlyLocal {
            self.want_cloud(now, ask, Reason::LocalFailed);
        }
        self.conclude(now, ask);
    }

    /// Why the local answer is not good enough for its mode.
    fn rejection(&self, ask: &Ask) -> Option<Reason> {
        if !matches!(ask.mode, Mode::Auto | Mode::PreferLocal) {
            return None;
        }
        let end = &ask.local.end;
        let params = &ask.request.params;
        // Whoever sets a limit expects a cut.
        let limited = ["max_tokens", "max_completion_tokens"]
            .iter()
            .any(|key| params.get(key).is_some_and(|limit| limit.as_u64().is_some()));
        let cut = end.finish == Finish::Length && !limited;
        let structural = if end.tool_calls.is_empty() {
            veto(&ask.local.text, cut, params.get("response_format").unwrap_or(&Value::Null))
        } else {
            end.weak_tool_call.then_some(Veto::WeakToolCall)
        };
        let unsure = match end.p_ok {
            Some(p_ok) => p_ok.is_nan() || p_ok < self.calibration.tau,
            // The calibration looks at something that this answer does not have.
            None => self.calibration.calibrated,
        };
        let unsure = ask.mode == Mode::Auto && unsure;
        structural.map(Reason::Veto).or(unsure.then_some(Reason::LowConfidence))
    }

    /// Ends the ask if nothing is left to wait for; the local model steps in where the cloud cannot.
    pub(super) fn conclude(&mut self, now: u64, ask: &mut Ask) {
        if ask.over || ask.cloud_is_coming() {
            return;
        }
        if let CloudState::Blocked(cause) = ask.cloud.state {
            ask.record.blocked_by = Some(cause);
            // A part of an answer that will never be whole.
            if ask.screen.source.is_some_and(|(source, _)| source == Source::Cloud) {
                ask.screen.clear(ask.id, "cloud-failed", &mut self.out);
                let text = ask.local.text.clone();
                ask.show_local(&text, &mut self.out);
            }
        }
        match ask.local.state {
            LocalState::Running => {}
            LocalState::Idle => {
                ask.local.state = LocalState::Running;
                self.out.push(Action::StartLocal { ask: ask.id });
            }
            LocalState::Done => self.answer_locally(now, ask),
            LocalState::Unavailable | LocalState::Failed => self.fail_ask(now, ask),
        }
    }

    fn answer_locally(&mut self, now: u64, ask: &mut Ask) {
        let text = std::mem::take(&mut ask.local.text);
        // It has the screen already, unless it was held back or the cloud had it.
        if ask.screen.source.is_none() {
            ask.screen.show(ask.id, (Source::Local, 0), &text, false, "local", &mut self.out);
        }
        let blocked_by = ask.record.blocked_by;
        let degraded =
            |(wanted, blocked_by): (Reason, Cause)| Degraded { wanted, blocked_by, advice: blocked_by.advice() };
        let degraded = ask.cloud.wanted.zip(blocked_by).map(degraded);
        let usage = ask.record.local_tokens;
        if let Some(price) = self.price() {
            ask.record.counterfactual = price.cost(usage.input, usage.output);
        }
        let answer = Answer {
            text,
            source: Source::Local,
            finish: ask.local.end.finish.name(),
            tool_calls: std::mem::take(&mut ask.local.end.tool_calls),
            reasoning: std::mem::take(&mut ask.local.end.reasoning),
            confidence: self.confidence(ask),
            degraded,
            usage,
            record: Default::default(),
        };
        self.finish(now, ask, answer);
    }

    pub(super) fn confidence(&self, ask: &Ask) -> Confidence {
        let Record { p_ok, tau, calibrated, .. } = ask.record;
        Confidence { p_ok, tau, calibrated }
    }

    /// The one final answer.
    pub(super) fn finish(&mut self, now: u64, ask: &mut Ask, mut answer: Answer) {
        ask.record.source = Some(answer.source);
        self.close_record(now, ask);
        answer.record = std::mem::take(&mut ask.record);
        show(&mut self.out, ask.id, Shown::Final { answer: Box::new(answer) });
        ask.over = true;
    }

    fn fail_ask(&mut self, now: u64, ask: &mut Ask) {
        ask.screen.clear(ask.id, "failed", &mut self.out);
        let cause = ask.record.blocked_by.unwrap_or(Cause::Mode);
        ask.record.blocked_by = Some(cause);
        let local = match (ask.local.state, ask.mode) {
            (LocalState::Failed, _) => "the local model failed",
            (_, Mode::OnlyCloud) => "the mode is only-cloud",
            _ => "there is no local model for it",
        };
        let message =
            ["no answer: ", local, ", and the cloud was not asked or did not answer: ", cause.advice()].concat();
        self.close_record(now, ask);
        let record = Box::new(std::mem::take(&mut ask.record));
        show(&mut self.out, ask.id, Shown::Failed { blocked_by: cause, message, record });
        ask.over = true;
    }

    pub(super) fn abort(&mut self, now: u64, ask: &mut Ask) {
        if ask.local.state == LocalState::Running {
            self.out.push(Action::StopLocal { ask: ask.id });
        }
        self.leave_cloud(now, ask);
        self.close_record(now, ask);
        let record = Box::new(std::mem::take(&mut ask.record));
        show(&mut self.out, ask.id, Shown::Aborted { record });
        ask.over = true;
    }

    fn close_record(&self, now: u64, ask: &mut Ask) {
        let record = &mut ask.record;
        record.wanted_cloud = ask.cloud.wanted;
        record.drift = self.calibration.drift;
        record.ms = now.saturating_sub(ask.started);
        record.saved_usd = (record.counterfactual as f64 - record.cost as f64) / 1e9;
    }
}
