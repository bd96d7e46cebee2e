//! The router's face to JavaScript, a binary of its own: a method for each event of the machine (see there for what the
//! shell does), whose answer is the list of actions as JSON. `now`: `Date.now()`. Errors: the message, as a string.

use crate::router::artifact::{Calibration, MadeFor};
use crate::router::budget::usd;
use crate::router::consent::{Decision, Destination};
use crate::router::judge::{Judge, signals};
use crate::router::machine::{Event, LocalEnd, Machine, Request};
use crate::router::policy::{Config, check_token};
use crate::{Error, Result as KingletResult};
use serde_json::{Value, json};
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
pub struct Router {
    machine: Machine,
    judge: Option<Judge>,
}

fn failure(error: Error) -> JsValue {
    error.to_string().into()
}

fn parse(json: &str) -> KingletResult<Value> {
    serde_json::from_str(json).map_err(|_| Error::BadRequest("it is no JSON".into()))
}

/// Throws where the token is a provider's key.
#[wasm_bindgen]
pub fn check(token: &str) -> Result<(), JsValue> {
    check_token(token).map_err(failure)
}

#[wasm_bindgen]
impl Router {
    /// `config`: see [`Config::from_json`]. `calibration`: a file of `kinglet route calibrate`.
    #[wasm_bindgen(constructor)]
    pub fn new(config: &str, calibration: Option<String>) -> Result<Router, JsValue> {
        let machine = parse(config).and_then(|config| Machine::new(Config::from_json(&config)?)).map_err(failure)?;
        let calibration = calibration.map(|file| Calibration::from_json(&file)).transpose().map_err(failure)?;
        let mut router = Self { machine, judge: calibration.map(Judge::new) };
        if let Some(judge) = &router.judge {
            router.machine.step(0, judge.event());
        }
        Ok(router)
    }

    /// `request`: see [`Request::from_json`].
    pub fn ask(&mut self, now: f64, ask: u32, request: &str) -> Result<String, JsValue> {
        let request = parse(request).and_then(|request| Request::from_json(&request)).map_err(failure)?;
        Ok(self.step(now, Event::Ask { ask: ask.into(), request: Box::new(request) }))
    }

    pub fn abort(&mut self, now: f64, ask: u32) -> String {
        self.step(now, Event::Abort { ask: ask.into() })
    }

    pub fn local_token(&mut self, now: f64, ask: u32, text: &str) -> String {
        self.step(now, Event::LocalToken { ask: ask.into(), text: text.into() })
    }

    /// `features`: the signals after `k` tokens, as JSON.
    pub fn local_check(&mut self, now: f64, ask: u32, k: u32, features: &str) -> String {
        let features = parse(features).unwrap_or_default();
        let p_ok = self.judge.as_ref().zip(features.as_object()).and_then(|(judge, map)| judge.p_ok(&signals(map)));
        p_ok.map_or("[]".into(), |p_ok| self.step(now, Event::LocalCheck { ask: ask.into(), k, p_ok }))
    }

    /// `end`: see [`LocalEnd::from_json`]; `pOk` comes from here. `running`: what the answer came of, a [`MadeFor`] as
    /// JSON, where that is known.
    pub fn local_done(&mut self, now: f64, ask: u32, end: &str, running: Option<String>) -> Result<String, JsValue> {
        let mut end = parse(end).and_then(|end| LocalEnd::from_json(&end)).map_err(failure)?;
        if let Some(judge) = &mut self.judge {
            let running = running.and_then(|running| MadeFor::from_json(&parse(&running).ok()?));
            end.p_ok = judge.judge(&signals(&end.features), running.as_ref());
            let event = judge.event();
            self.machine.step(0, event);
        }
        Ok(self.step(now, Event::LocalDone { ask: ask.into(), end: Box::new(end) }))
    }

    pub fn local_failed(&mut self, now: f64, ask: u32) -> String {
        self.step(now, Event::LocalFailed { ask: ask.into() })
    }

    /// "once", "always"; anything else is a no.
    pub fn consent(&mut self, now: f64, ask: u32, decision: &str) -> String {
        let decision = match decision {
            "once" => Decision::Once,
            "always" => Decision::Always,
            _ => Decision::Deny,
        };
        self.step(now, Event::Consent { ask: ask.into(), decision })
    }

    pub fn revoke(&mut self, host: String, model: String) {
        self.machine.step(0, Event::Revoke { destination: Destination { host, model } });
    }

    /// Under the lock.
    pub fn ledger(&mut self, now: f64, state: Option<String>) -> String {
        self.step(now, Event::Ledger { state })
    }

    pub fn response(
        &mut self,
        now: f64,
        ask: u32,
        attempt: u32,
        status: u16,
        content_type: Option<String>,
        retry_after: Option<String>,
    ) -> String {
        self.step(now, Event::Response { ask: ask.into(), attempt, status, content_type, retry_after })
    }

    pub fn body(&mut self, now: f64, ask: u32, attempt: u32, bytes: Vec<u8>) -> String {
        self.step(now, Event::Body { ask: ask.into(), attempt, bytes })
    }

    pub fn body_end(&mut self, now: f64, ask: u32, attempt: u32) -> String {
        self.step(now, Event::BodyEnd { ask: ask.into(), attempt })
    }

    pub fn network_error(&mut self, now: f64, ask: u32, attempt: u32) -> String {
        self.step(now, Event::NetworkError { ask: ask.into(), attempt })
    }

    pub fn token_refreshed(&mut self, now: f64, ask: u32, ok: bool) -> String {
        self.step(now, Event::TokenRefreshed { ask: ask.into(), ok })
    }

    pub fn auth_changed(&mut self) {
        self.machine.step(0, Event::AuthChanged);
    }

    pub fn online(&mut self, now: f64, online: bool) -> String {
        self.step(now, Event::Online { online })
    }

    pub fn tick(&mut self, now: f64) -> String {
        self.step(now, Event::Tick)
    }

    /// When to call [`Router::tick`].
    pub fn deadline(&self) -> Option<f64> {
        self.machine.deadline().map(|at| at as f64)
    }

    /// A [`crate::router::machine::Explanation`] as JSON.
    pub fn explain(&self, now: f64, request: &str) -> Result<String, JsValue> {
        let request = parse(request).and_then(|request| Request::from_json(&request)).map_err(failure)?;
        Ok(to_json(&self.machine.explain(now as u64, &request)))
    }

    /// Dollars that all tabs spent in this period, as this one saw them last, and how much of that is an upper bound.
    pub fn spent(&self) -> Vec<f64> {
        let spending = &self.machine.ledger().spending;
        vec![usd(spending.spent()), usd(spending.unsure())]
    }

    /// Of the calibration, as JSON: `{ differs, drift, tau, feasibility }`; null without one. `differs`: what the last answer
    /// came of that it was not made for (null before the first); `drift`: the finding that raised the alarm.
    pub fn calibration(&self) -> String {
        let Some(judge) = &self.judge else { return "null".into() };
        let calibration = judge.calibration();
        let tau = calibration.tau(judge.alarm().is_some());
        let feasibility = &calibration.feasibility;
        to_json(&json!({ "differs": judge.differs(), "drift": judge.alarm(), "tau": tau, "feasibility": feasibility }))
    }

    fn step(&mut self, now: f64, event: Event) -> String {
        to_json(&self.machine.step(now as u64, event))
    }
}

fn to_json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("plain data")
}
