//! What the shell tells the machine, out of JSON.

use super::{Fields, Problem, Value, local_end, request};
use crate::router::consent::{Decision, Destination};
use crate::router::machine::Event;
use crate::{Error, Result};

impl Event {
    /// `{ type: "localToken", ask, text }` and so on: types and fields are those of [`Event`], in camel case; but
    /// [`Event::Body`] holds bytes, and is no JSON. A `request` is `{ messages, params, mode, hold, private, local, pre }`, an
    /// `end` `{ text, finish, toolCalls, reasoning, pOk, weakToolCall, features, promptTokens, completionTokens }`.
    ///
    /// Errors: [`Error::BadRequest`] naming the field.
    pub fn from_json(value: &Value) -> Result<Self> {
        let problem = Problem::default();
        let event = event(value, &problem);
        problem.or(event).map_err(Error::BadRequest)
    }
}

fn event(value: &Value, problem: &Problem) -> Event {
    let all = Fields::any(value, problem);
    let ask = all.count("ask");
    let attempt = all.count("attempt") as u32;
    match value["type"].as_str().unwrap_or_default() {
        "ask" => Event::Ask { ask, request: Box::new(request(&value["request"], problem)) },
        "abort" => Event::Abort { ask },
        "localToken" => Event::LocalToken { ask, text: all.text("text") },
        "localCheck" => {
            Event::LocalCheck { ask, k: all.count("k") as u32, p_ok: all.number("pOk").unwrap_or_default() }
        }
        "localDone" => Event::LocalDone { ask, end: Box::new(local_end(&value["end"], problem)) },
        "localFailed" => Event::LocalFailed { ask },
        "consent" => {
            let decision = match value["decision"].as_str() {
                Some("once") => Decision::Once,
                Some("always") => Decision::Always,
                // Whatever it is, it is no consent.
                _ => Decision::Deny,
            };
            Event::Consent { ask, decision }
        }
        "revoke" => Event::Revoke { destination: Destination { host: all.text("host"), model: all.text("model") } },
        "ledger" => Event::Ledger { state: all.optional_text("state") },
        "response" => Event::Response {
            ask,
            attempt,
            status: all.count("status") as u16,
            content_type: all.optional_text("contentType"),
            retry_after: all.optional_text("retryAfter"),
        },
        "bodyEnd" => Event::BodyEnd { ask, attempt },
        "networkError" => Event::NetworkError { ask, attempt },
        "tokenRefreshed" => Event::TokenRefreshed { ask, ok: all.flag("ok") },
        "authChanged" => Event::AuthChanged,
        "online" => Event::Online { online: all.flag("online") },
        "tick" => Event::Tick,
        _ => {
            all.wrong("type", "that of an event");
            Event::Tick
        }
    }
}
