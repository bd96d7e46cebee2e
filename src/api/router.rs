//! The router's face to JavaScript, a binary of its own: events of the machine in (see there for what the shell does),
//! actions out, both as JSON: a method for each event would be an eighth of the binary. `now`: `Date.now()`. Errors: the message, as a string.

use crate::router::artifact::{Calibration, MadeFor};
use crate::router::budget::usd;
use crate::router::json::{self, Value};
use crate::router::judge::{Judge, Report, signals};
use crate::router::machine::{Event, Machine, Request};
use crate::router::policy::{Config, check_token};
use crate::{Error, Result as KingletResult};
use wasm_bindgen::prelude::*;

/// A quarter of the code of std's allocator for wasm.
#[cfg(target_arch = "wasm32")]
#[global_allocator]
static ALLOCATOR: talc::wasm::WasmDynamicTalc = talc::wasm::new_wasm_dynamic_allocator();

#[wasm_bindgen]
pub struct Router {
    machine: Machine,
    judge: Option<Judge>,
}

#[derive(serde::Serialize)]
struct Status<'a> {
    spent: f64,
    unsure: f64,
    calibration: Option<Report<'a>>,
}

fn failure(error: Error) -> JsValue {
    match error {
        Error::BadRequest(message) => message.into(),
        // The router makes no other, and to spell them all takes 2 kB.
        _ => "the router failed".into(),
    }
}

fn parse(text: &str) -> KingletResult<Value> {
    json::parse(text).map_err(|_| Error::BadRequest("it is no JSON".into()))
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

    /// `event`: see [`Event::from_json`]; `localCheck` has `features`, the signals so far, instead of `pOk`, and `localDone`
    /// beside its `end` a `madeFor`: what the answer came of, a [`MadeFor`], where that is known. To `explain` with a `request`
    /// the answer is an [`Explanation`](crate::router::machine::Explanation), and nothing is done.
    pub fn step(&mut self, now: f64, event: &str) -> Result<String, JsValue> {
        let value = parse(event).map_err(failure)?;
        if value["type"] == "explain" {
            let request = Request::from_json(&value["request"]).map_err(failure)?;
            return Ok(json::to_text(&self.machine.explain(now as u64, &request)));
        }
        let mut event = Event::from_json(&value).map_err(failure)?;
        match (&mut event, &mut self.judge) {
            (Event::LocalCheck { p_ok, .. }, judge) => {
                let features = value["features"].as_object();
                let found = judge.as_ref().zip(features).and_then(|(judge, map)| judge.p_ok(&signals(map)));
                let Some(found) = found else { return Ok("[]".into()) };
                *p_ok = found;
            }
            (Event::LocalDone { end, .. }, Some(judge)) => {
                let running = MadeFor::from_json(&value["madeFor"]);
                end.p_ok = judge.judge(&signals(&end.features), running.as_ref());
                self.machine.step(0, judge.event());
            }
            _ => {}
        }
        Ok(self.act(now, event))
    }

    /// The one event that is no JSON.
    pub fn body(&mut self, now: f64, ask: u32, attempt: u32, bytes: Vec<u8>) -> String {
        self.act(now, Event::Body { ask: ask.into(), attempt, bytes })
    }

    /// When to step with a `tick`.
    pub fn deadline(&self) -> Option<f64> {
        self.machine.deadline().map(|at| at as f64)
    }

    /// As JSON: dollars that all tabs spent in this period, as this one saw them last, how much of that is an upper bound, and
    /// a [`Report`] on the calibration, or null.
    pub fn status(&self) -> String {
        let spending = &self.machine.ledger().spending;
        let calibration = self.judge.as_ref().map(Judge::report);
        json::to_text(&Status { spent: usd(spending.spent()), unsure: usd(spending.unsure()), calibration })
    }

    fn act(&mut self, now: f64, event: Event) -> String {
        json::to_text(&self.machine.step(now as u64, event))
    }
}
