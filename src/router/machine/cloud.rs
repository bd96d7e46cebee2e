//! The cloud side: attempts, their faults and remedies, and the answer.

use super::super::breaker::Health;
use super::super::budget::{Bill, Hold};
use super::super::fault::{Fault, Remedy, retry_after};
use super::super::json;
use super::super::ledger::{Op, Refusal};
use super::super::reader::{Item, Reader};
use super::super::record::{Attempt, Cause, Source, Tokens};
use super::super::sealed::SealedRequest;
use super::ask::{Ask, CloudState, Held, LocalState};
use super::event::{Action, Answer, Shown, tool_call};
use super::{Machine, show};

/// The response of an attempt, and what its headers say.
pub(super) struct Head {
    pub status: u16,
    pub content_type: Option<String>,
    pub retry_after: Option<String>,
}

impl Machine {
    /// Asks for what the next attempt needs: money, and the breaker's leave.
    pub(super) fn reserve(&mut self, now: u64, ask: &mut Ask) {
        ask.cloud.state = CloudState::Reserving;
        ask.cloud.deadline = Some(now.saturating_add(self.config.net.lock_ms));
        self.post(Op::Reserve { ask: ask.id });
    }

    /// The ledger is locked and speaks.
    pub(super) fn reserved(&mut self, now: u64, ask: &mut Ask) {
        if ask.cloud.state != CloudState::Reserving {
            return;
        }
        let amount = ask.cloud.scan.as_ref().map_or(0, |scan| self.most_cost(scan, &ask.request));
        let (owner, id) = (self.owner(ask.id), ask.cloud.attempt + 1);
        let id = [&owner, ":", &json::to_text(&id)].concat();
        let lease = self.lease();
        match self.ledger.reserve(now, &self.config.budget, &owner, &id, amount, lease) {
            Ok((hold, probe)) => {
                ask.cloud.held = Some(Held { id, amount: hold.amount() });
                ask.cloud.probe = probe;
                ask.cloud.admitted = true;
                self.send(now, ask, hold);
            }
            Err(Refusal::Breaker) => self.block(now, ask, Cause::Breaker),
            Err(Refusal::Budget) => self.block(now, ask, Cause::Budget),
        }
    }

    /// The one way out of the device.
    fn send(&mut self, now: u64, ask: &mut Ask, hold: Hold) {
        let cloud = &mut ask.cloud;
        let sealed = match (&self.endpoint, &cloud.consent, &cloud.scan) {
            (Some(endpoint), Some(consent), Some(scan)) => SealedRequest::seal(endpoint, consent, scan, hold),
            _ => None,
        };
        let Some(request) = sealed else {
            self.settle(ask, Bill::Nothing);
            return self.block(now, ask, Cause::ConsentDenied);
        };
        if cloud.attempt == 0 {
            cloud.last_moment = now.saturating_add(self.config.net.total_ms);
        }
        cloud.attempt += 1;
        cloud.sent_at = now;
        cloud.status = None;
        cloud.state = CloudState::Sending;
        cloud.deadline = Some(now.saturating_add(self.config.net.first_ms));
        let egress = &mut ask.record.egress;
        egress.bytes += request.body().len();
        if let Some(scan) = &cloud.scan {
            egress.to = Some(scan.destination().clone());
            egress.redactions = scan.redactions().clone();
        }
        self.out.push(Action::Send { ask: ask.id, attempt: cloud.attempt, request });
    }

    pub(super) fn response(&mut self, now: u64, ask: &mut Ask, head: Head) {
        if ask.cloud.reader.is_some() {
            return;
        }
        ask.cloud.status = Some(head.status);
        match Reader::new(head.status, head.content_type.as_deref()) {
            Ok(reader) => ask.cloud.reader = Some(reader),
            Err(fault) => {
                let wait = head.retry_after.and_then(|header| retry_after(&header, now));
                self.fail(now, ask, fault, true, wait);
            }
        }
    }

    pub(super) fn body(&mut self, now: u64, ask: &mut Ask, bytes: &[u8]) {
        if let Some(reader) = &mut ask.cloud.reader {
            let items = reader.push(bytes);
            self.items(now, ask, items, true);
        }
    }

    /// The body has ended (`cut`: by an error), or there was no response at all.
    pub(super) fn ended(&mut self, now: u64, ask: &mut Ask, cut: bool) {
        match &mut ask.cloud.reader {
            Some(reader) => {
                let items = reader.end(cut);
                self.items(now, ask, items, false);
            }
            None => self.fail(now, ask, Fault::Network, false, None),
        }
    }

    /// `open`: the socket is.
    fn items(&mut self, now: u64, ask: &mut Ask, items: Vec<Item>, open: bool) {
        let net = self.config.net;
        for item in items {
            match item {
                Item::Progress => ask.cloud.deadline = Some(now.saturating_add(net.idle_ms)),
                Item::Text(text) => self.show_cloud(ask, &text),
                Item::Done => return self.cloud_done(now, ask, open),
                Item::Fault(fault) => return self.fail(now, ask, fault, open, None),
            }
            if ask.cloud.reader.as_ref().is_some_and(|reader| reader.finish.is_some()) {
                ask.cloud.deadline = Some(now.saturating_add(net.grace_ms));
            }
        }
    }

    fn show_cloud(&mut self, ask: &mut Ask, text: &str) {
        let cloud = &mut ask.cloud;
        let text = match &cloud.scan {
            Some(scan) => cloud.restorer.push(scan.vault(), text),
            None => text.to_string(),
        };
        cloud.text += &text;
        if !ask.hold && !text.is_empty() {
            self.screen_cloud(ask, &text);
        }
    }

    fn screen_cloud(&mut self, ask: &mut Ask, text: &str) {
        let reason = match ask.screen.source {
            Some((Source::Cloud, _)) => "restart",
            _ => ask.cloud.wanted.map_or("cloud", |reason| reason.name()),
        };
        ask.screen.show(ask.id, (Source::Cloud, ask.cloud.attempt), text, false, reason, &mut self.out);
    }

    fn cloud_done(&mut self, now: u64, ask: &mut Ask, open: bool) {
        let tail = ask.cloud.restorer.finish();
        ask.cloud.text += &tail;
        let rest = if ask.hold { ask.cloud.text.clone() } else { tail };
        // Even without text: what is shown of the local draft goes.
        self.screen_cloud(ask, &rest);

        let text = std::mem::take(&mut ask.cloud.text);
        let Some(reader) = ask.cloud.reader.take() else { return };
        let scan = ask.cloud.scan.take();
        let restore = |text: &str| scan.as_ref().map_or_else(|| text.to_string(), |scan| scan.vault().restore(text));
        let mut tool_calls = Vec::new();
        for call in &reader.tool_calls {
            tool_calls.push(tool_call(call, restore(&call.arguments)));
        }
        let usage = reader.usage;
        let bill = self.bill(usage);
        let before = ask.record.cost;
        self.end_attempt(now, ask, "ok".into(), bill, open);
        ask.record.counterfactual = ask.record.cost - before;
        ask.record.cloud_tokens = usage.unwrap_or_default();
        self.report(ask, Health::Good);
        if ask.local.state == LocalState::Running {
            self.out.push(Action::StopLocal { ask: ask.id });
        }
        let answer = Answer {
            text,
            source: Source::Cloud,
            finish: reader.finish.unwrap_or_default().name(),
            tool_calls,
            reasoning: restore(&reader.reasoning),
            confidence: self.confidence(ask),
            degraded: None,
            usage: usage.unwrap_or_default(),
            record: Default::default(),
        };
        self.finish(now, ask, answer);
    }

    fn bill(&self, usage: Option<Tokens>) -> Bill {
        match (usage, self.price()) {
            (Some(usage), Some(price)) => Bill::Cost(price.cost(usage.input, usage.output)),
            _ => Bill::Unknown,
        }
    }

    /// What follows from a fault of the attempt under way. `wait`: milliseconds that the server asked for.
    pub(super) fn fail(&mut self, now: u64, ask: &mut Ask, fault: Fault, open: bool, wait: Option<u64>) {
        let reader = ask.cloud.reader.as_ref();
        let content = reader.is_some_and(|reader| reader.has_text() || !reader.tool_calls.is_empty());
        let usage = reader.and_then(|reader| reader.usage);
        let bill = match (reader, usage) {
            (None, _) if fault.is_free() => Bill::Nothing,
            (_, usage) => self.bill(usage),
        };
        self.end_attempt(now, ask, fault.name(), bill, open);

        let net = self.config.net;
        // The one that tries for all others tries once.
        let may_again = self.online && !ask.cloud.probe;
        let delay = match fault.remedy(content) {
            Remedy::Retry if may_again && ask.cloud.retries < net.retries => {
                let most = net.backoff_ms.saturating_mul(1 << ask.cloud.retries.min(16));
                ask.cloud.retries += 1;
                match wait {
                    Some(wait) if wait > net.longest_wait_ms => None,
                    // Not all at the same moment.
                    Some(wait) => Some(wait + self.jitter(net.backoff_ms / 2)),
                    None => Some(self.jitter(most)),
                }
            }
            Remedy::Restart if may_again && ask.cloud.restarts < net.restarts => {
                ask.cloud.restarts += 1;
                Some(self.jitter(net.backoff_ms))
            }
            Remedy::Refresh if !ask.cloud.refreshed => {
                ask.cloud.refreshed = true;
                ask.cloud.state = CloudState::Refreshing;
                ask.cloud.deadline = Some(now.saturating_add(net.refresh_ms));
                return self.out.push(Action::RefreshToken { ask: ask.id });
            }
            _ => None,
        };
        match delay {
            Some(delay_ms) if now.saturating_add(delay_ms) < ask.cloud.last_moment => {
                ask.cloud.state = CloudState::Waiting;
                ask.cloud.deadline = Some(now + delay_ms);
                let attempt = ask.cloud.attempt + 1;
                show(&mut self.out, ask.id, Shown::Retry { attempt, delay_ms, cause: fault.name() });
            }
            _ => self.give_up(now, ask, fault, wait),
        }
    }

    fn give_up(&mut self, now: u64, ask: &mut Ask, fault: Fault, wait: Option<u64>) {
        self.auth_closed |= fault.remedy(false) == Remedy::Refresh;
        let hold_off = wait.filter(|wait| *wait > self.config.net.longest_wait_ms);
        let health = match () {
            () if !self.online => Health::Unknown,
            () if fault.counts() => Health::Bad { hold_off },
            () => Health::Good,
        };
        self.report(ask, health);
        let cause = if self.online { Cause::Fault(fault) } else { Cause::Offline };
        self.block(now, ask, cause);
    }

    pub(super) fn refreshed(&mut self, now: u64, ask: &mut Ask, ok: bool) {
        if ask.cloud.state != CloudState::Refreshing {
            return;
        }
        match ok {
            true => self.reserve(now, ask),
            false => self.give_up(now, ask, Fault::Http(ask.cloud.status.unwrap_or(401)), None),
        }
    }

    /// What the deadline of the state means.
    pub(super) fn expired(&mut self, now: u64, ask: &mut Ask) {
        match ask.cloud.state {
            CloudState::Consent => self.block(now, ask, Cause::ConsentDenied),
            CloudState::Reserving => {
                // Whoever asks next asks for the lock anew.
                self.locking = false;
                self.block(now, ask, Cause::Storage);
            }
            CloudState::Waiting => self.reserve(now, ask),
            CloudState::Refreshing => self.refreshed(now, ask, false),
            CloudState::Sending => match &mut ask.cloud.reader {
                // It has said that it is at its end; only the usage is missing.
                Some(reader) if reader.finish.is_some() => {
                    let items = reader.end(true);
                    self.items(now, ask, items, true);
                }
                _ => self.fail(now, ask, Fault::Stalled, true, None),
            },
            CloudState::Unwanted | CloudState::Blocked(_) => {}
        }
    }

    /// The cloud is out of it: the local side takes over.
    pub(super) fn block(&mut self, now: u64, ask: &mut Ask, cause: Cause) {
        self.leave_cloud(now, ask);
        ask.cloud.state = CloudState::Blocked(cause);
        self.conclude(now, ask);
    }

    /// Nothing of it stays: no socket, no hold, no place in the queue for the lock.
    pub(super) fn leave_cloud(&mut self, now: u64, ask: &mut Ask) {
        if ask.cloud.state == CloudState::Sending {
            let usage = ask.cloud.reader.as_ref().and_then(|reader| reader.usage);
            let bill = self.bill(usage);
            self.end_attempt(now, ask, "aborted".into(), bill, true);
        }
        if let Some(at) = self.ops.iter().position(|op| *op == Op::Reserve { ask: ask.id }) {
            self.ops.remove(at);
        }
        self.report(ask, Health::Unknown);
        ask.cloud.state = CloudState::Unwanted;
        ask.cloud.deadline = None;
    }

    fn end_attempt(&mut self, now: u64, ask: &mut Ask, outcome: String, bill: Bill, open: bool) {
        if open {
            self.out.push(Action::Cancel { ask: ask.id, attempt: ask.cloud.attempt });
        }
        let ms = now.saturating_sub(ask.cloud.sent_at);
        ask.record.attempts.push(Attempt { outcome, status: ask.cloud.status, ms });
        self.settle(ask, bill);
        ask.cloud.reader = None;
        ask.cloud.text.clear();
        ask.cloud.restorer = Default::default();
        ask.cloud.deadline = None;
        // Nobody listens to this attempt any more.
        ask.cloud.state = CloudState::Waiting;
    }

    fn settle(&mut self, ask: &mut Ask, bill: Bill) {
        let Some(Held { id, amount }) = ask.cloud.held.take() else { return };
        match bill {
            Bill::Nothing => {}
            Bill::Cost(cost) => ask.record.charge(cost, false),
            Bill::Unknown => ask.record.charge(amount, true),
        }
        self.post(Op::Settle { hold: id, bill });
    }

    fn report(&mut self, ask: &mut Ask, health: Health) {
        if std::mem::take(&mut ask.cloud.admitted) {
            ask.cloud.probe = false;
            self.post(Op::Report { owner: self.owner(ask.id), health });
        }
    }
}
