//! Secrets and personal data that have a pattern. Names and addresses have none.

use crate::router::text::{self, contains, places};

use super::address;
use std::ops::Range;

/// What a text may hide; the first ones win where two overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Secret,
    Term,
    Email,
    Iban,
    Card,
    Mac,
    Ip,
    Phone,
}

impl Kind {
    pub const ALL: [Kind; 8] =
        [Kind::Secret, Kind::Term, Kind::Email, Kind::Iban, Kind::Card, Kind::Mac, Kind::Ip, Kind::Phone];

    /// In records, and in capitals in placeholders.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Secret => "secret",
            Kind::Term => "term",
            Kind::Email => "email",
            Kind::Iban => "iban",
            Kind::Card => "card",
            Kind::Mac => "mac",
            Kind::Ip => "ip",
            Kind::Phone => "phone",
        }
    }
}

/// A byte range of the text.
pub type Found = (Range<usize>, Kind);

/// Prefixes of tokens, and how many characters of `[A-Za-z0-9_-]` must follow.
const TOKENS: [(&str, usize); 16] = [
    ("sk-", 16),
    ("sk_live_", 16),
    ("rk_live_", 16),
    ("ghp_", 20),
    ("gho_", 20),
    ("ghu_", 20),
    ("ghs_", 20),
    ("ghr_", 20),
    ("github_pat_", 20),
    ("glpat-", 16),
    ("xoxb-", 16),
    ("xoxp-", 16),
    ("AIza", 30),
    ("hf_", 20),
    ("npm_", 30),
    ("vncy_", 16),
];

/// Keys are shorter; a text of nothing but their prefixes is not searched to its end from each.
const LONGEST_TOKEN: usize = 256;
/// Characters of a telephone number with all that stands between its digits.
const LONGEST_PHONE: usize = 40;

/// Everything found, in order, without overlaps; `terms` are the user's own.
pub fn find(text: &str, terms: &[String]) -> Vec<Found> {
    let mut found = Vec::new();
    secrets(text, &mut found);
    for term in terms.iter().filter(|term| !term.is_empty()) {
        found.extend(places(text, term).into_iter().map(|at| (at..at + term.len(), Kind::Term)));
    }
    emails(text, &mut found);
    hexadecimal(text, &mut found);
    ibans(text, &mut found);
    numbers(text, &mut found);
    merge(found)
}

/// Whether the text is itself a key that a provider hands out, rather than a short-lived token.
pub fn is_provider_key(token: &str) -> bool {
    let mut found = Vec::new();
    prefixed(token.trim(), &mut found);
    !found.is_empty()
}

/// Overlapping finds become one: nothing of either stays in the text.
fn merge(mut found: Vec<Found>) -> Vec<Found> {
    found.sort_unstable_by_key(|(range, kind)| (range.start, *kind));
    let mut merged: Vec<Found> = Vec::new();
    for (range, kind) in found {
        match merged.last_mut() {
            Some((last, first)) if range.start < last.end => {
                last.end = last.end.max(range.end);
                *first = kind.min(*first);
            }
            _ => merged.push((range, kind)),
        }
    }
    merged
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// Bytes from `at` on that satisfy `is`.
fn run(bytes: &[u8], at: usize, is: impl Fn(u8) -> bool) -> usize {
    bytes[at..].iter().take_while(|byte| is(**byte)).count()
}

/// Whether no word goes on before `at`.
fn starts_word(bytes: &[u8], at: usize) -> bool {
    at == 0 || !(bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_')
}

/// Where words begin with `prefix`.
fn words(text: &str, prefix: &str) -> Vec<usize> {
    let mut places = places(text, prefix);
    places.retain(|at| starts_word(text.as_bytes(), *at));
    places
}

fn secrets(text: &str, found: &mut Vec<Found>) {
    let bytes = text.as_bytes();
    let key = |at: &usize| {
        let line = run(bytes, *at, |byte| byte != b'\n');
        text.get(*at..at + line).is_some_and(|line| contains(line, "PRIVATE KEY"))
    };
    // One is enough to block, and the search for its end is long.
    if let Some(at) = places(text, "-----BEGIN ").into_iter().find(key) {
        let end = text::find(text, "-----END ", at).unwrap_or(text.len());
        found.push((at..end, Kind::Secret));
    }
    for at in words(text, "eyJ") {
        let head = run(bytes, at, is_token);
        let dot = |at: usize| bytes.get(at) == Some(&b'.');
        if head >= 10 && dot(at + head) {
            let payload = run(bytes, at + head + 1, is_token);
            let second = at + head + 1 + payload;
            if payload >= 8 && dot(second) {
                found.push((at..second + 1 + run(bytes, second + 1, is_token), Kind::Secret));
            }
        }
    }
    for at in places(text, "://") {
        // user:password@host
        let rest = at + 3;
        let authority = run(bytes, rest, |byte| {
            !matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0xc | b'/' | b'?' | b'#' | b'"' | b'\'' | b'<' | b'>')
        });
        if let Some((user, _)) =
            text.get(rest..rest + authority).and_then(|authority| text::split_last(authority, b'@'))
            && contains(user, ":")
        {
            found.push((at..rest + user.len(), Kind::Secret));
        }
    }
    prefixed(text, found);
}

fn prefixed(text: &str, found: &mut Vec<Found>) {
    let bytes = text.as_bytes();
    for prefix in ["AKIA", "ASIA"] {
        for at in words(text, prefix) {
            if run(bytes, at + 4, |byte| byte.is_ascii_uppercase() || byte.is_ascii_digit()) >= 16 {
                found.push((at..at + 20, Kind::Secret));
            }
        }
    }
    for (prefix, least) in TOKENS {
        for at in words(text, prefix) {
            let rest = at + prefix.len();
            let length = run(&bytes[..bytes.len().min(rest + LONGEST_TOKEN)], rest, is_token);
            // Words with hyphens have no digits; keys do.
            if length >= least && bytes[rest..rest + length].iter().any(u8::is_ascii_digit) {
                found.push((at..rest + length, Kind::Secret));
            }
        }
    }
}

/// Near enough without Unicode's tables, which would be a good part of the router: no ASCII but letters, no general
/// punctuation, no symbols.
fn is_letter(c: char) -> bool {
    c.is_ascii_alphabetic() || matches!(c, '\u{c0}'..='\u{1fff}' | '\u{2c00}'..='\u{2dff}' | '\u{3040}'..='\u{ffdc}')
}

fn emails(text: &str, found: &mut Vec<Found>) {
    for at in places(text, "@") {
        let local = |c: char| is_letter(c) || c.is_ascii_digit() || matches!(c, '.' | '_' | '%' | '+' | '-' | '\'');
        let before = at - text[..at].trim_end_matches(local).len();
        let domain = |c: char| is_letter(c) || c.is_ascii_digit() || c == '.' || c == '-';
        let rest = &text[at + 1..];
        let mut host = &rest[..rest.len() - rest.trim_start_matches(domain).len()];
        host = host.trim_end_matches(['.', '-']);
        let letters = |label: &str| label.chars().filter(|c| is_letter(*c)).take(2).count();
        // Digits that follow without a blank are not its end.
        while let Some((rest, _)) = text::split_last(host, b'.').filter(|(_, top)| letters(top) < 2) {
            host = rest;
        }
        if before > 0 && contains(host, ".") {
            found.push((at - before..at + 1 + host.len(), Kind::Email));
        }
    }
}

/// MAC addresses and IPv6, both runs of hexadecimal digits and separators.
fn hexadecimal(text: &str, found: &mut Vec<Found>) {
    let bytes = text.as_bytes();
    let is_part = |byte: u8| byte.is_ascii_hexdigit() || byte == b':' || byte == b'-' || byte == b'.';
    let mut at = 0;
    while at < bytes.len() {
        let length = run(bytes, at, is_part);
        if length == 0 || !starts_word(bytes, at) {
            at += length.max(1);
            continue;
        }
        let mut end = at + length;
        // The end of a sentence is not part of an address.
        while end > at && matches!(bytes[end - 1], b'.' | b'-')
            || end > at + 1 && bytes[at..end].ends_with(b":") && !bytes[at..end].ends_with(b"::")
        {
            end -= 1;
        }
        let word = &text[at..end];
        if is_mac(word) {
            found.push((at..end, Kind::Mac));
        } else if word.bytes().filter(|byte| *byte == b':').count() >= 2
            && word.bytes().any(|byte| byte.is_ascii_digit())
            && word.len() > 3
        {
            // Groups of a port or a prefix length that follow do not parse: the address is what does.
            if let Some(v6) =
                (at + 4..=end.min(at + address::LONGEST)).rev().find(|&end| address::is_v6(&text[at..end]))
            {
                found.push((at..v6, Kind::Ip));
            }
        }
        at += length;
    }
}

fn is_mac(word: &str) -> bool {
    word.len() == 17
        && [b':', b'-'].iter().any(|separator| {
            word.bytes().enumerate().all(|(i, b)| if i % 3 == 2 { b == *separator } else { b.is_ascii_hexdigit() })
        })
}

fn ibans(text: &str, found: &mut Vec<Found>) {
    let bytes = text.as_bytes();
    for at in 0..bytes.len().saturating_sub(14) {
        let [a, b, c, d] = bytes[at..at + 4] else { continue };
        let begins = a.is_ascii_alphabetic() && b.is_ascii_alphabetic() && c.is_ascii_digit() && d.is_ascii_digit();
        if !begins || !starts_word(bytes, at) {
            continue;
        }
        let (mut plain, mut end, mut best) = (Vec::new(), at, None);
        while end < bytes.len() && plain.len() < 34 {
            match bytes[end] {
                byte if byte.is_ascii_alphanumeric() => plain.push(byte.to_ascii_uppercase()),
                b' ' | b'-' if bytes[end - 1].is_ascii_alphanumeric() => {}
                _ => break,
            }
            end += 1;
            let ends = bytes.get(end).is_none_or(|byte| !byte.is_ascii_alphanumeric());
            if plain.len() >= 15 && ends && bytes[end - 1].is_ascii_alphanumeric() && mod97(&plain) == 1 {
                best = Some(end);
            }
        }
        found.extend(best.map(|end| (at..end, Kind::Iban)));
    }
}

fn mod97(iban: &[u8]) -> u32 {
    iban[4..].iter().chain(&iban[..4]).fold(0, |rest, &byte| match byte {
        b'0'..=b'9' => (rest * 10 + u32::from(byte - b'0')) % 97,
        _ => (rest * 100 + u32::from(byte - b'A') + 10) % 97,
    })
}

fn luhn(digits: &[u8]) -> bool {
    let double = |digit: u32| if digit > 4 { 2 * digit - 9 } else { 2 * digit };
    let digits = digits.iter().rev().map(|digit| u32::from(digit - b'0')).enumerate();
    digits.map(|(i, digit)| if i % 2 == 1 { double(digit) } else { digit }).sum::<u32>().is_multiple_of(10)
}

/// Cards, IPv4 addresses and telephone numbers: digits and what stands between them.
fn numbers(text: &str, found: &mut Vec<Found>) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let starts = bytes[at].is_ascii_digit() || matches!(bytes[at], b'+' | b'(');
        if !starts || at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || matches!(bytes[at - 1], b'_' | b'+')) {
            at += 1;
            continue;
        }
        if let Some(end) = ipv4(text, at).or_else(|| card(bytes, at)) {
            let kind = if bytes[at..end].contains(&b'.') && ipv4(text, at).is_some() { Kind::Ip } else { Kind::Card };
            found.push((at..end, kind));
            at = end;
        } else if let Some(end) = phone(bytes, at) {
            found.push((at..end, Kind::Phone));
            at = end;
        } else {
            at += 1;
        }
    }
}

fn ipv4(text: &str, at: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    // The longest has 15 characters, and a dot may follow.
    let near = &bytes[..bytes.len().min(at + 17)];
    let length = run(near, at, |byte| byte.is_ascii_digit() || byte == b'.');
    let word = text[at..at + length].trim_end_matches('.');
    address::is_v4(word).then_some(at + word.len())
}

/// 13 to 19 digits with single blanks or hyphens between them; the longest that Luhn's rule admits.
fn card(bytes: &[u8], at: usize) -> Option<usize> {
    let (mut digits, mut end, mut best) = (Vec::new(), at, None);
    while end < bytes.len() && digits.len() < 19 {
        match bytes[end] {
            byte if byte.is_ascii_digit() => digits.push(byte),
            b' ' | b'-' if end > at && bytes[end - 1].is_ascii_digit() => {}
            _ => break,
        }
        end += 1;
        let ends = bytes.get(end).is_none_or(|byte| !byte.is_ascii_digit());
        if ends && digits.len() >= 13 && bytes[end - 1].is_ascii_digit() && luhn(&digits) {
            best = Some(end);
        }
    }
    best
}

/// +countries, (area) codes, leading zeros, and groups of 3, 3 and 4. Plain numbers are left alone.
fn phone(bytes: &[u8], at: usize) -> Option<usize> {
    let (mut digits, mut end, mut groups, mut last) = (0, at, vec![0usize], at);
    while end < bytes.len().min(at + LONGEST_PHONE) {
        let byte = bytes[end];
        match byte {
            _ if byte.is_ascii_digit() => {
                digits += 1;
                *groups.last_mut()? += 1;
                last = end + 1;
            }
            b'+' if end == at => {}
            b' ' | b'-' | b'.' | b'/' | b'(' | b')' => {
                // Two of them stand around brackets only.
                if end > at && matches!(bytes[end - 1], b' ' | b'-' | b'.' | b'/') && !matches!(byte, b'(' | b')') {
                    break;
                }
                if *groups.last()? > 0 {
                    groups.push(0);
                }
            }
            _ => break,
        }
        if digits > 15 {
            return None;
        }
        end += 1;
    }
    if bytes.get(last).is_some_and(u8::is_ascii_alphanumeric) {
        return None;
    }
    groups.retain(|group| *group > 0);
    let american = groups[..] == [3, 3, 4] || groups[..] == [1, 3, 3, 4];
    let ok = match bytes[at] {
        b'+' => digits >= 8,
        b'0' => digits >= 9 && !bytes[at..last].contains(&b'.') || american,
        _ => american,
    };
    ok.then_some(last)
}
