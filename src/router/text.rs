//! Searching texts. What `str` has for it is made for long texts and all of Unicode, and takes 2 kB of gzip.

/// Where `word`, which is not empty, stands first at or behind `from`.
pub fn find(text: &str, word: &str, from: usize) -> Option<usize> {
    let (text, word) = (text.as_bytes(), word.as_bytes());
    (from..(text.len() + 1).saturating_sub(word.len())).find(|at| text[*at..].starts_with(word))
}

pub fn contains(text: &str, word: &str) -> bool {
    find(text, word, 0).is_some()
}

/// Where `word` stands, one behind the other.
pub fn places(text: &str, word: &str) -> Vec<usize> {
    let (mut places, mut from) = (Vec::new(), 0);
    while let Some(at) = find(text, word, from) {
        places.push(at);
        from = at + word.len();
    }
    places
}

/// What stands before and behind the first `word`.
pub fn split<'a>(text: &'a str, word: &str) -> Option<(&'a str, &'a str)> {
    let at = find(text, word, 0)?;
    Some((text.get(..at)?, text.get(at + word.len()..)?))
}

/// What stands before and behind the last `byte`, which is ASCII.
pub fn split_last(text: &str, byte: u8) -> Option<(&str, &str)> {
    let at = text.bytes().rposition(|known| known == byte)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

/// Of digits and nothing else; None as well where 64 bits do not hold it.
pub fn number(text: &str) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.bytes().try_fold(0u64, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        // 64 bits hold nineteen digits.
        (digit <= 9 && number < 10u64.pow(18)).then(|| number * 10 + u64::from(digit))
    })
}
