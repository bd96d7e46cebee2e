//! What a router is configured with, checked once.

use super::budget::{Budget, Price};
use super::consent::Destination;
use super::json::Map;
use super::privacy::{Privacy, is_provider_key};
use super::text;
use crate::{Error, Result};
use serde::Serialize;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    OnlyLocal,
    /// The cloud only where the local model fails, or its answer is none (empty, a loop, ...).
    PreferLocal,
    /// The cloud also where confidence in the local answer is low.
    #[default]
    Auto,
    /// The local model only where the cloud fails.
    PreferCloud,
    OnlyCloud,
}

#[derive(Clone, Debug, Default)]
pub struct Cloud {
    /// Of the chat completions, absolute: `https://host/v1/chat/completions`.
    pub url: String,
    pub model: String,
    pub price: Option<Price>,
    /// The most tokens of an answer where the request names no limit.
    pub max_tokens: Option<u64>,
    /// What the limit is called in the body; newer OpenAI models want `max_completion_tokens`.
    pub limit_name: Option<String>,
    /// Some servers reject `stream_options`; without it they send no usage, and each answer counts with its whole hold.
    pub no_usage: bool,
    /// Put into each body as it is.
    pub extra: Map,
}

const DEFAULT_MAX_TOKENS: u64 = 1024;

impl Cloud {
    pub fn limit(&self) -> u64 {
        self.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS)
    }
}

/// Milliseconds and counts.
#[derive(Clone, Copy, Debug)]
pub struct Net {
    /// Until the first content, headers included.
    pub first_ms: u64,
    /// Between contents.
    pub idle_ms: u64,
    /// For all attempts together.
    pub total_ms: u64,
    /// For usage and [DONE] after the finish.
    pub grace_ms: u64,
    pub retries: u64,
    pub restarts: u64,
    /// The first pause before a retry is at most this, the next twice as much.
    pub backoff_ms: u64,
    /// A server that asks to wait longer is not waited for.
    pub longest_wait_ms: u64,
    /// For the shared ledger's lock.
    pub lock_ms: u64,
    /// For a fresh token.
    pub refresh_ms: u64,
    /// For the user's word; no word is a no.
    pub consent_ms: u64,
}

impl Default for Net {
    fn default() -> Self {
        Self {
            first_ms: 20_000,
            idle_ms: 15_000,
            total_ms: 180_000,
            grace_ms: 1_000,
            retries: 2,
            restarts: 1,
            backoff_ms: 500,
            longest_wait_ms: 20_000,
            lock_ms: 5_000,
            refresh_ms: 10_000,
            consent_ms: 120_000,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Policy {
    /// A check below this sends the request to the cloud while the local model goes on. None: no early rejection.
    pub early: Option<f64>,
    /// A score of the question below this skips the local model. None: off.
    pub pre: Option<f64>,
    /// Nothing is shown before its source is decided.
    pub hold: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Unique among the tabs that share a ledger.
    pub tab: String,
    /// For jitter.
    pub seed: u64,
    pub cloud: Option<Cloud>,
    pub mode: Mode,
    pub policy: Policy,
    pub privacy: Privacy,
    pub budget: Budget,
    pub net: Net,
    /// What the user agreed to before.
    pub granted: Vec<Destination>,
    /// Nobody can be asked: without a standing consent nothing is sent.
    pub never_ask: bool,
}

/// Where requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    url: String,
    destination: Destination,
}

impl Endpoint {
    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    /// Errors: [`Error::BadRequest`] that names what is wrong with the address.
    pub fn new(url: &str, model: &str) -> Result<Self> {
        let bad = |what: &str| Err(Error::BadRequest(["cloud.url is ", url, ": ", what].concat()));
        let Some((scheme, rest)) = text::split(url, "://") else {
            return bad("give the whole address, like https://host/v1/chat/completions");
        };
        let (authority, _) = rest.split_at(rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len()));
        if text::contains(authority, "@") {
            return Err(Error::BadRequest(
                "cloud.url holds a user name or password: take it out, and give a token by auth".into(),
            ));
        }
        let name = text::split_last(authority, b':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
        let name = name.map_or(authority, |(name, _)| name);
        if name.is_empty() || authority.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return bad("it names no host");
        }
        let local = matches!(name, "localhost" | "127.0.0.1" | "[::1]") || name.ends_with(".localhost");
        match scheme.to_ascii_lowercase().as_str() {
            "https" => {}
            "http" if local => {}
            "http" => return bad("http sends everything readably; use https (http is for localhost only)"),
            _ => return bad("only https, and http for localhost"),
        }
        if model.is_empty() {
            return Err(Error::BadRequest("cloud.model is missing: name the model of the endpoint".into()));
        }
        let destination = Destination { host: authority.to_ascii_lowercase(), model: model.to_string() };
        Ok(Self { url: url.to_string(), destination })
    }
}

impl Config {
    /// Errors: [`Error::BadRequest`] that names the first setting that cannot be honoured.
    pub fn check(&self) -> Result<Option<Endpoint>> {
        let bad = |what: String| Err(Error::BadRequest(what));
        let amount = |name: &str, value: f64| match value.is_finite() && value >= 0.0 {
            true => Ok(()),
            false => Err(Error::BadRequest([name, " must be a number from 0 on"].concat())),
        };
        for (name, value) in [("policy.early", self.policy.early), ("policy.pre", self.policy.pre)] {
            if value.is_some_and(|p| !(0.0..=1.0).contains(&p)) {
                return bad([name, " must be a probability from 0 to 1"].concat());
            }
        }
        if let Some(usd) = self.budget.usd {
            amount("budget.usd", usd)?;
        }
        let Some(cloud) = &self.cloud else { return Ok(None) };
        if let Some(price) = &cloud.price {
            amount("cloud.price.input", price.input)?;
            amount("cloud.price.output", price.output)?;
        } else if self.budget.usd.is_some() {
            return bad("a budget needs cloud.price: { input, output } in dollars for a million tokens".into());
        }
        if cloud.limit() == 0 {
            return bad("cloud.maxTokens is 0; it must be at least 1".into());
        }
        Endpoint::new(&cloud.url, &cloud.model).map(Some)
    }
}

/// Errors: [`Error::BadRequest`] where the token is a key that a provider hands out: in a page, everybody can read it.
pub fn check_token(token: &str) -> Result<()> {
    match is_provider_key(token) {
        true => Err(Error::BadRequest(
            "auth gives a provider's key, which anyone could read in the page; send the requests to a proxy of your own \
             origin that adds the key, or give a short-lived token"
                .into(),
        )),
        false => Ok(()),
    }
}
