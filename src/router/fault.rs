//! What can go wrong on the way to the cloud, and what is done about it: the table of faults in one place.

use super::{json, text};
use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No response: DNS, TLS, CORS, refused, reset ("Failed to fetch").
    Network,
    /// A status that is no success, or the code of an error sent within a stream.
    Http(u16),
    /// A page where an answer was expected: a captive portal.
    Html,
    /// Neither events nor JSON.
    NotAnAnswer,
    /// The first content, or the next, came too late.
    Stalled,
    /// The stream ended before its finish.
    Cut,
    /// More than one event was not JSON.
    Malformed,
    /// A `finish_reason` that says nothing of an end.
    BadFinish,
    /// A whole answer without text and without tool calls.
    Empty,
    TooLarge,
}

/// What to do after a fault, before the local draft is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Wait, and send again.
    Retry,
    /// Discard what came, and send again once.
    Restart,
    /// A fresh token, once.
    Refresh,
    Local,
}

impl Fault {
    /// `content`: some text of this attempt had arrived.
    pub fn remedy(self, content: bool) -> Remedy {
        match self {
            Fault::Http(401 | 403) => Remedy::Refresh,
            Fault::Stalled | Fault::Cut | Fault::BadFinish => Remedy::Restart,
            Fault::Network if content => Remedy::Restart,
            Fault::Network => Remedy::Retry,
            Fault::Http(408 | 409 | 425 | 429 | 500..=599) if !content => Remedy::Retry,
            _ => Remedy::Local,
        }
    }

    /// Whether the server, rather than the request, is to blame: the breaker counts it.
    pub fn counts(self) -> bool {
        match self {
            Fault::Http(status) => matches!(status, 408 | 425 | 429 | 500..=599),
            Fault::Empty => false,
            _ => true,
        }
    }

    /// Whether nothing can have been billed: the server refused before it generated.
    pub fn is_free(self) -> bool {
        matches!(self, Fault::Http(_))
    }

    /// The name in records and messages: "network", "http-429", ...
    pub fn name(self) -> String {
        match self {
            Fault::Http(status) => ["http-", &json::to_text(&status)].concat(),
            Fault::Network => "network".into(),
            Fault::Html => "html".into(),
            Fault::NotAnAnswer => "not-an-answer".into(),
            Fault::Stalled => "stalled".into(),
            Fault::Cut => "cut".into(),
            Fault::Malformed => "malformed".into(),
            Fault::BadFinish => "bad-finish".into(),
            Fault::Empty => "empty".into(),
            Fault::TooLarge => "too-large".into(),
        }
    }

    /// What a developer is told.
    pub fn advice(self) -> &'static str {
        match self {
            Fault::Network => {
                "no response: check the address, the server's CORS headers (Ollama: OLLAMA_ORIGINS), mixed content, \
                 and the browser's permission for the local network"
            }
            Fault::Http(401 | 403) => "the server refuses the token: give a fresh one",
            Fault::Http(402) => "the account behind the endpoint has no credit",
            Fault::Http(404) => "the endpoint has no such path or model: check url and model",
            Fault::Http(413) => "the request is too long for the server",
            Fault::Http(429) => "the server limits the rate of requests",
            Fault::Http(400 | 422) => "the server rejects the request: check model and options",
            Fault::Http(_) => "the server failed",
            Fault::Html => "a web page came instead of an answer: a captive portal, or a wrong url",
            Fault::NotAnAnswer => "the response is neither an event stream nor JSON: check url",
            Fault::Stalled => "the server sent no text for too long",
            Fault::Cut => "the connection ended in the middle of an answer",
            Fault::Malformed | Fault::BadFinish => "the server does not speak OpenAI's chat completions",
            Fault::Empty => "the answer was empty",
            Fault::TooLarge => "the answer was too large",
        }
    }
}

impl Serialize for Fault {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name())
    }
}

/// Milliseconds from `now_ms` (since 1970) that a `Retry-After` asks for: seconds, or a date. None where it is neither.
pub fn retry_after(header: &str, now_ms: u64) -> Option<u64> {
    let header = header.trim();
    if !header.is_empty() && header.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are still a very long time.
        return Some(text::number(header).map_or(u64::MAX, |seconds| seconds.saturating_mul(1000)));
    }
    http_date(header).map(|at| at.saturating_sub(now_ms))
}

/// Milliseconds since 1970 of `Sun, 06 Nov 1994 08:49:37 GMT` or RFC 850's `Sunday, 06-Nov-94 08:49:37 GMT`.
fn http_date(date: &str) -> Option<u64> {
    let (_, date) = text::split(date, ",")?;
    let mut parts = date.split([' ', '-']).filter(|part| !part.is_empty());
    let day = text::number(parts.next()?)?;
    let month = parts.next()?;
    let month = text::find("JanFebMarAprMayJunJulAugSepOctNovDec", month, 0).filter(|_| month.len() == 3)? / 3;
    let year = match text::number(parts.next()?)? {
        year @ 0..70 => year + 2000,
        year @ 70..100 => year + 1900,
        year => year,
    };
    let (hour, rest) = text::split(parts.next()?, ":")?;
    let (minute, second) = text::split(rest, ":")?;
    let (hour, minute, second) = (text::number(hour)?, text::number(minute)?, text::number(second)?);
    if !(1970..=9999).contains(&year) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days of the civil calendar since 0000-03-01, and from there to 1970.
    let (y, m) = if month < 2 { (year - 1, month as u64 + 10) } else { (year, month as u64 - 2) };
    let days = y * 365 + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = 784_111_777_000; // Sun, 06 Nov 1994 08:49:37 GMT
        assert_eq!(retry_after("7", now), Some(7000));
        assert_eq!(retry_after(" 0 ", now), Some(0));
        assert_eq!(retry_after("99999999999999999999999", now), Some(u64::MAX));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:40 GMT", now), Some(3000));
        assert_eq!(retry_after("Sunday, 06-Nov-94 08:49:40 GMT", now), Some(3000));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:30 GMT", now), Some(0));
        assert_eq!(http_date("Thu, 29 Feb 2024 00:00:00 GMT"), Some(1_709_164_800_000));
        assert_eq!(http_date("Wed, 31 Dec 2025 23:59:59 GMT"), Some(1_767_225_599_000));
        for wrong in
            ["", "soon", "-5", "1.5", "Sun, 06 Nov", "Sun, 06 Nob 1994 08:49:40 GMT", "Sun, 06 Nov 1994 8h GMT"]
        {
            assert_eq!(retry_after(wrong, now), None, "{wrong}");
        }
    }
}
