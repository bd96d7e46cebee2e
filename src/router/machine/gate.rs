//! What stands between a question and the cloud: mode, labels, network, breaker, budget, secrets, consent.

use super::super::budget::{NanoUsd, Price, usd};
use super::super::json::{Map, Value};
use super::super::ledger::Refusal;
use super::super::policy::Mode;
use super::super::privacy::{self, CleanScan};
use super::super::record::{Cause, Reason};
use super::Machine;
use super::ask::{Ask, CloudState};
use super::event::{Action, Explanation, Preview, Request};
use crate::router::consent::Decision;

/// Parameters that other servers know; what only our engine knows stays here.
const PASSED_ON: [&str; 9] = [
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "stop",
    "response_format",
    "tools",
    "tool_choice",
];
/// Tokens that one image or recording may count as.
const MEDIA_TOKENS: u64 = 16_384;

impl Machine {
    /// Stage 4 up to the user's word.
    pub(super) fn want_cloud(&mut self, now: u64, ask: &mut Ask, reason: Reason) {
        if ask.cloud.wanted.is_some() {
            return;
        }
        ask.cloud.wanted = Some(reason);
        let scan = match self.gate(now, ask.mode, &ask.request) {
            Ok(scan) => scan,
            Err(cause) => {
                ask.cloud.state = CloudState::Blocked(cause);
                ask.record.blocked_by = Some(cause);
                return;
            }
        };
        ask.cloud.consent = self.grants.standing(scan.destination());
        if ask.cloud.consent.is_some() {
            ask.cloud.scan = Some(scan);
            return self.reserve(now, ask);
        }
        if self.config.never_ask {
            ask.cloud.state = CloudState::Blocked(Cause::ConsentDenied);
            ask.record.blocked_by = Some(Cause::ConsentDenied);
            return;
        }
        self.out.push(Action::AskConsent { ask: ask.id, preview: preview(&scan) });
        ask.cloud.scan = Some(scan);
        ask.cloud.state = CloudState::Consent;
        ask.cloud.deadline = Some(now.saturating_add(self.config.net.consent_ms));
    }

    pub(super) fn consent(&mut self, now: u64, ask: &mut Ask, decision: Decision) {
        let (CloudState::Consent, Some(scan)) = (ask.cloud.state, &ask.cloud.scan) else { return };
        ask.cloud.consent = self.grants.decide(scan, decision);
        match &ask.cloud.consent {
            None => self.block(now, ask, Cause::ConsentDenied),
            Some(_) => {
                if decision == Decision::Always {
                    self.out.push(Action::StoreConsent { destination: scan.destination().clone() });
                }
                self.reserve(now, ask);
            }
        }
    }

    /// The scanned body, if nothing but consent stands against sending it.
    fn gate(&self, now: u64, mode: Mode, request: &Request) -> Result<CleanScan, Cause> {
        if mode == Mode::OnlyLocal {
            return Err(Cause::Mode);
        }
        let endpoint = self.endpoint.as_ref().ok_or(Cause::NotConfigured)?;
        if request.private {
            return Err(Cause::Private);
        }
        if !self.online {
            return Err(Cause::Offline);
        }
        if self.auth_closed {
            return Err(Cause::Auth);
        }
        let messages = privacy::choose(&request.messages, self.config.privacy.context)?;
        let scan =
            privacy::scan(endpoint.destination().clone(), self.compose(messages, request), &self.config.privacy)?;
        let amount = self.most_cost(&scan, request);
        match self.ledger.refuses(now, &self.config.budget, amount) {
            None => Ok(scan),
            Some(Refusal::Breaker) => Err(Cause::Breaker),
            Some(Refusal::Budget) => Err(Cause::Budget),
        }
    }

    fn compose(&self, messages: Vec<Value>, request: &Request) -> Value {
        let Some(cloud) = &self.config.cloud else { return Value::Null };
        let mut body: Vec<(String, Value)> = Vec::new();
        let mut put = |name: &str, value: Value| body.push((name.to_string(), value));
        put("model", cloud.model.as_str().into());
        put("messages", messages.into());
        put("stream", true.into());
        if !cloud.no_usage {
            put("stream_options", Value::object(&[("include_usage", true.into())]));
        }
        for name in PASSED_ON {
            if let Some(value) = request.params.get(name).filter(|value| !value.is_null()) {
                put(name, value.clone());
            }
        }
        for (name, value) in &cloud.extra.0 {
            // What is set here stands above; and the budget counts on the limit: nothing overrides it.
            body.retain(|(known, _)| known != name);
            body.push((name.clone(), value.clone()));
        }
        body.retain(|(name, _)| name != "max_tokens" && name != "max_completion_tokens" && name != "n");
        let name = cloud.limit_name.as_deref().unwrap_or("max_tokens");
        body.retain(|(known, _)| known != name);
        body.push((name.to_string(), self.limit(request).into()));
        Map(body).into()
    }

    fn limit(&self, request: &Request) -> u64 {
        let asked = ["max_completion_tokens", "max_tokens"].iter().find_map(|name| request.params.get(name)?.as_u64());
        asked.or(self.config.cloud.as_ref().map(|cloud| cloud.limit())).unwrap_or(0)
    }

    /// With the longest answer. A token has at least one byte, and JSON adds more bytes than a template adds tokens.
    pub(super) fn most_cost(&self, scan: &CleanScan, request: &Request) -> NanoUsd {
        let Some(price) = self.price() else { return 0 };
        let parts = request.messages.iter().flat_map(|message| message["content"].items());
        let media = parts.filter(|part| part["type"] != "text").count() as u64;
        price.cost(scan.body().len() as u64 + media * MEDIA_TOKENS, self.limit(request))
    }

    pub(super) fn price(&self) -> Option<Price> {
        self.config.cloud.as_ref()?.price
    }

    /// What would be done with a question. Nothing is sent, and nothing remembered.
    pub fn explain(&self, now_ms: u64, request: &Request) -> Explanation {
        let mode = request.mode.unwrap_or(self.config.mode);
        let scan = self.gate(now_ms, mode, request);
        let consented = scan.as_ref().is_ok_and(|scan| self.grants.standing(scan.destination()).is_some());
        Explanation {
            mode,
            local: request.local && mode != Mode::OnlyCloud,
            cloud_blocked_by: match &scan {
                Err(cause) => Some(*cause),
                Ok(_) if !consented && self.config.never_ask => Some(Cause::ConsentDenied),
                Ok(_) => None,
            },
            needs_consent: scan.is_ok() && !consented,
            most_usd: scan
                .as_ref()
                .ok()
                .filter(|_| self.price().is_some())
                .map(|scan| usd(self.most_cost(scan, request))),
            preview: scan.ok().as_ref().map(preview),
        }
    }
}

fn preview(scan: &CleanScan) -> Preview {
    Preview { to: scan.destination().clone(), body: scan.body().to_string(), redactions: scan.redactions().clone() }
}
