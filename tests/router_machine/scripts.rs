//! The 33 faults, as what one server does with one request, and what the table in the design makes of each.

use super::world::{Net, Random, Script};
use serde_json::{Value, json};

/// What has to come of a fault that heals after the first attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heals {
    /// It is no fault: the first attempt answers.
    Answers,
    /// The second attempt answers.
    Again,
    /// The draft is taken at once.
    Local,
}

pub const FAULTS: [(&str, Heals); 33] = [
    ("refused", Heals::Again),
    ("reset before headers", Heals::Again),
    ("slow headers", Heals::Again),
    ("400", Heals::Local),
    ("401 then ok", Heals::Again),
    ("402", Heals::Local),
    ("404", Heals::Local),
    ("408", Heals::Again),
    ("413", Heals::Local),
    ("429 with seconds", Heals::Again),
    ("429 with a date", Heals::Again),
    ("429 absurd", Heals::Local),
    ("500", Heals::Again),
    ("503 storm", Heals::Again),
    ("529", Heals::Again),
    ("HTML 200", Heals::Local),
    ("JSON 200", Heals::Answers),
    ("no content type", Heals::Answers),
    ("first event stalls", Heals::Again),
    ("comments only", Heals::Again),
    ("cut inside a token", Heals::Again),
    ("cut inside a character", Heals::Again),
    ("end without [DONE]", Heals::Answers),
    ("error event mid-stream", Heals::Local),
    ("one malformed JSON", Heals::Answers),
    ("three malformed JSON", Heals::Local),
    ("bytes one by one", Heals::Answers),
    ("a 2 MB event", Heals::Answers),
    ("duplicated events", Heals::Answers),
    ("wrong finish", Heals::Again),
    ("usage missing", Heals::Answers),
    ("trickle after [DONE]", Heals::Answers),
    ("CORS refusal", Heals::Again),
];

pub fn event(value: &Value) -> String {
    format!("data: {value}\n\n")
}

pub fn delta(text: &str) -> String {
    event(&json!({ "id": "c", "object": "chat.completion.chunk",
        "choices": [{ "index": 0, "delta": { "content": text }, "finish_reason": null }] }))
}

fn finish(reason: &str) -> String {
    event(&json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": reason }] }))
}

fn usage(input: u64, output: u64) -> String {
    event(
        &json!({ "choices": [], "usage": { "prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output } }),
    )
}

pub const TOKENS: (u64, u64) = (14, 9);

/// Pieces of a healthy stream: role, texts, finish, usage, end.
pub fn healthy(text: &str) -> Vec<String> {
    let role = event(&json!({ "choices": [{ "index": 0, "delta": { "role": "assistant", "content": "" } }] }));
    let mut pieces = vec![role];
    pieces.extend(text.split_inclusive(' ').map(delta));
    pieces.extend([finish("stop"), usage(TOKENS.0, TOKENS.1), "data: [DONE]\n\n".into()]);
    pieces
}

/// The bytes in random pieces, at random moments.
fn stream(random: &mut Random, bytes: &[u8], largest: u64, end: Net) -> Vec<(u64, Net)> {
    let mut steps = Vec::new();
    let (mut at, mut time) = (0, 40 + random.below(400));
    while at < bytes.len() {
        let size = (1 + random.below(largest) as usize).min(bytes.len() - at);
        steps.push((time, Net::Bytes(bytes[at..at + size].to_vec())));
        at += size;
        time += random.below(60);
    }
    steps.push((time + random.below(20), end));
    steps
}

fn head(status: u16, content_type: Option<&'static str>, retry_after: Option<String>) -> (u64, Net) {
    (20, Net::Head { status, content_type, retry_after })
}

/// A request that `text` answers without any fault.
pub fn answers(random: &mut Random, text: &str) -> Script {
    let mut steps = vec![head(200, Some("text/event-stream"), None)];
    steps.extend(stream(random, healthy(text).concat().as_bytes(), 90, Net::End));
    Script { steps, billed: Some(TOKENS) }
}

/// A status with a page that nobody reads.
fn status(code: u16, retry_after: Option<String>) -> Script {
    let steps = vec![
        head(code, Some("application/json"), retry_after),
        (30, Net::Bytes(b"{\"error\":{}}".to_vec())),
        (31, Net::End),
    ];
    Script { steps, billed: None }
}

/// `now`: when the request is sent; `text`: the answer, of which some faults let a part through.
pub fn faulty(name: &str, random: &mut Random, now: u64, text: &str) -> Script {
    let streamed = |random: &mut Random, bytes: &[u8], end: Net| {
        let mut steps = vec![head(200, Some("text/event-stream; charset=utf-8"), None)];
        steps.extend(stream(random, bytes, 90, end));
        Script { steps, billed: Some(TOKENS) }
    };
    let pieces = healthy(text);
    let all = pieces.concat();
    // Within the texts: after the role, before the finish.
    let middle = pieces[..1 + (pieces.len() - 4) / 2].concat().len();
    match name {
        "refused" => Script { steps: vec![(1, Net::Error)], billed: None },
        "reset before headers" => Script { steps: vec![(300, Net::Error)], billed: Some(TOKENS) },
        "CORS refusal" => Script { steps: vec![(90, Net::Error)], billed: None },
        "slow headers" => {
            let mut script = answers(random, text);
            script.steps.iter_mut().for_each(|(at, _)| *at += 25_000);
            script
        }
        "400" | "402" | "404" | "408" | "413" | "500" | "529" => status(name.parse().unwrap(), None),
        "401 then ok" => status(401, None),
        "429 with seconds" => status(429, Some((1 + random.below(19)).to_string())),
        "429 with a date" => status(429, Some(http_date(now + 5_000))),
        "429 absurd" => status(
            429,
            Some(["86400", "Fri, 31 Dec 2027 23:59:59 GMT", "99999999999999999999"][random.below(3) as usize].into()),
        ),
        "503 storm" => status(503, Some("1".into()).filter(|_| random.below(2) == 0)),
        "HTML 200" => {
            let kind = [Some("text/html; charset=utf-8"), None, Some("text/event-stream")][random.below(3) as usize];
            let page = b"\n<!DOCTYPE html><html><body>Please sign in to the network: data: {}</body></html>";
            let mut steps = vec![head(200, kind, None)];
            steps.extend(stream(random, page, 9, Net::End));
            Script { steps, billed: None }
        }
        "JSON 200" => {
            let body = json!({ "choices": [{ "index": 0, "message": { "role": "assistant", "content": text }, "finish_reason": "stop" }],
                "usage": { "prompt_tokens": TOKENS.0, "completion_tokens": TOKENS.1 } });
            let kind = [Some("application/json"), Some("text/event-stream"), None][random.below(3) as usize];
            let mut steps = vec![head(200, kind, None)];
            steps.extend(stream(random, body.to_string().as_bytes(), 50, Net::End));
            Script { steps, billed: Some(TOKENS) }
        }
        "no content type" => {
            let mut script = answers(random, text);
            script.steps[0] = head(200, None, None);
            script
        }
        "first event stalls" => {
            let mut script = answers(random, text);
            script.steps.iter_mut().skip(1).for_each(|(at, _)| *at += 21_000);
            script
        }
        "comments only" => {
            let ping = |i: u64| (100 + 1_000 * i, Net::Bytes(b": keep-alive\n\n".to_vec()));
            let mut steps = vec![head(200, Some("text/event-stream"), None)];
            steps.extend((0..60).map(ping));
            Script { steps, billed: Some(TOKENS) }
        }
        "cut inside a token" => {
            let at = middle - 8;
            let end = if random.below(2) == 0 { Net::Error } else { Net::End };
            streamed(random, &all.as_bytes()[..at], end)
        }
        "cut inside a character" => {
            let start = all.bytes().position(|byte| byte >= 0x80).expect("a text that is not ASCII");
            let end = if random.below(2) == 0 { Net::Error } else { Net::End };
            streamed(random, &all.as_bytes()[..start + 1], end)
        }
        "end without [DONE]" => streamed(random, pieces[..pieces.len() - 1].concat().as_bytes(), Net::End),
        "error event mid-stream" => {
            let errors = [
                "data: {\"error\":{\"message\":\"The server had an error\",\"type\":\"server_error\",\"code\":null}}\n\n",
                "event: error\ndata: {\"code\":502,\"message\":\"upstream\"}\n\n",
                "event: error\ndata: upstream is gone\n\n",
                "data: {\"error\":{\"message\":\"slow down\",\"code\":\"rate_limit_exceeded\"},\"choices\":[]}\n\n",
            ];
            let error = errors[random.below(4) as usize];
            streamed(random, (all[..middle].to_string() + error + &all[middle..]).as_bytes(), Net::End)
        }
        "one malformed JSON" => streamed(
            random,
            (all[..middle].to_string() + "data: {\"choices\":[{\"delta\n\n" + &all[middle..]).as_bytes(),
            Net::End,
        ),
        "three malformed JSON" => {
            let bad = "data: {\"choices\"\n\ndata: oops\n\ndata: [1,\n\n";
            streamed(random, (all[..middle].to_string() + bad + &all[middle..]).as_bytes(), Net::End)
        }
        "bytes one by one" => {
            let mut steps = vec![head(200, Some("text/event-stream"), None)];
            steps.extend(stream(random, all.as_bytes(), 1, Net::End));
            Script { steps, billed: Some(TOKENS) }
        }
        "a 2 MB event" => {
            let mut all = pieces;
            all.insert(1, delta(&"large ".repeat(350_000)));
            let mut steps = vec![head(200, Some("text/event-stream"), None)];
            steps.extend(stream(random, all.concat().as_bytes(), 1 << 18, Net::End));
            Script { steps, billed: Some(TOKENS) }
        }
        "duplicated events" => {
            // Numbered, as streams are where something can repeat them; the end repeats without numbers too.
            let mut twice = String::new();
            for (i, piece) in pieces.iter().enumerate() {
                let numbered = format!("id: {i}\n{piece}");
                twice += &numbered;
                if random.below(2) == 0 {
                    twice += &numbered;
                }
            }
            twice += &pieces[pieces.len() - 3..].concat();
            streamed(random, twice.as_bytes(), Net::End)
        }
        "wrong finish" => {
            let mut pieces = pieces;
            let at = pieces.len() - 3;
            pieces[at] = finish("banana");
            streamed(random, pieces.concat().as_bytes(), Net::End)
        }
        "usage missing" => {
            let mut pieces = pieces;
            pieces.remove(pieces.len() - 2);
            streamed(random, pieces.concat().as_bytes(), Net::End)
        }
        "trickle after [DONE]" => {
            let mut script = answers(random, text);
            let last = script.steps.pop().unwrap().0;
            script.steps.extend((1..200).map(|i| (last + i * 500, Net::Bytes(delta("more ").into_bytes()))));
            script
        }
        name => panic!("no script {name}"),
    }
}

/// The text that a fault lets through where it is none.
pub fn expected(name: &str, text: &str) -> String {
    if name == "a 2 MB event" { "large ".repeat(350_000) + text } else { text.to_string() }
}

/// Within January 2026.
fn http_date(ms: u64) -> String {
    let seconds = (ms - super::world::START) / 1000;
    let (day, rest) = (1 + seconds / 86_400, seconds % 86_400);
    format!("Thu, {day:02} Jan 2026 {:02}:{:02}:{:02} GMT", rest / 3600, rest / 60 % 60, rest % 60)
}
