//! What an IP address looks like. The parsers of `std` do as much for three times the code.

use crate::router::text::{number, split};

/// Characters of an IPv6 address with an IPv4 one in it.
pub const LONGEST: usize = 45;

/// Four numbers up to 255, without leading zeros.
pub fn is_v4(word: &str) -> bool {
    let part = |part: &str| {
        let canonical = part == "0" || !part.starts_with('0');
        part.len() <= 3 && canonical && number(part).is_some_and(|n| n <= 255)
    };
    let (mut rest, mut dots) = (word, 0);
    while let Some((first, others)) = split(rest, ".") {
        if !part(first) {
            return false;
        }
        (rest, dots) = (others, dots + 1);
    }
    dots == 3 && part(rest)
}

/// Eight groups of up to four hexadecimal digits; `::` stands for one zero or more, an IPv4 address at the end for two groups.
pub fn is_v6(word: &str) -> bool {
    match split(word, "::") {
        None => groups(word, true) == Some(8),
        Some((head, tail)) => match (groups(head, false), groups(tail, true)) {
            (Some(head), Some(tail)) => head + tail < 8,
            _ => false,
        },
    }
}

fn groups(text: &str, last: bool) -> Option<usize> {
    if text.is_empty() {
        return Some(0);
    }
    let (mut rest, mut n) = (text, 1);
    let group = |group: &str| (1..=4).contains(&group.len()) && group.bytes().all(|byte| byte.is_ascii_hexdigit());
    while let Some((first, others)) = split(rest, ":") {
        if !group(first) {
            return None;
        }
        (rest, n) = (others, n + 1);
    }
    match group(rest) {
        true => Some(n),
        false => (last && is_v4(rest)).then_some(n + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::sampler::SplitMix64;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn addresses_are_those_of_std() {
        let pieces = ["0", "1", "00", "9f", "255", "256", "12345", "a", "1.2.3.4", ".", ":", ":", "::", "x", "fe80"];
        let mut random = SplitMix64(1);
        let mut found = (0, 0);
        for _ in 0..1_000_000 {
            let n = 1 + random.next_u64() % 16;
            let word: String = (0..n).map(|_| pieces[random.next_u64() as usize % pieces.len()]).collect();
            assert_eq!(is_v4(&word), word.parse::<Ipv4Addr>().is_ok(), "{word}");
            assert_eq!(is_v6(&word), word.parse::<Ipv6Addr>().is_ok(), "{word}");
            found.0 += u32::from(is_v4(&word));
            found.1 += u32::from(is_v6(&word));
        }
        assert!(found.0 > 1000 && found.1 > 1000, "{found:?}");
    }
}
