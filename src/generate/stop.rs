//! Stop strings: found across the borders of tokens, and never shown, not even in part.

/// Text goes in piece by piece; what cannot be the beginning of a stop string comes out at once.
#[derive(Clone, Debug, Default)]
pub struct StopStrings {
    stops: Vec<String>,
    held: String,
}

impl StopStrings {
    /// Empty strings are passed over.
    pub fn new(stops: &[String]) -> Self {
        Self { stops: stops.iter().filter(|stop| !stop.is_empty()).cloned().collect(), held: String::new() }
    }

    /// Text that is safe to show, and the stop string that ends the answer: the one that is complete first, whatever
    /// the borders of the pieces; of two that end at one place, the longer.
    pub fn push(&mut self, text: &str) -> (String, Option<String>) {
        self.held.push_str(text);
        let found = self.stops.iter().filter_map(|stop| Some((self.held.find(stop.as_str())?, stop)));
        if let Some((at, stop)) = found.min_by_key(|&(at, stop)| (at + stop.len(), at)) {
            let stop = stop.clone();
            let mut shown = std::mem::take(&mut self.held);
            shown.truncate(at);
            return (shown, Some(stop));
        }
        let keep = self.held.len() - self.longest_beginning();
        let rest = self.held.split_off(keep);
        (std::mem::replace(&mut self.held, rest), None)
    }

    /// What was held back, when nothing follows any more.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Bytes at the end of the held text that begin some stop string.
    fn longest_beginning(&self) -> usize {
        let held = self.held.as_bytes();
        let begins = |stop: &String| {
            let longest = held.len().min(stop.len() - 1);
            (1..=longest).rev().find(|&n| stop.as_bytes().starts_with(&held[held.len() - n..])).unwrap_or(0)
        };
        self.stops.iter().map(begins).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (String, Option<String>) {
        let stops: Vec<String> = stops.iter().map(|s| s.to_string()).collect();
        let mut matcher = StopStrings::new(&stops);
        let mut shown = String::new();
        for piece in pieces {
            let (text, stop) = matcher.push(piece);
            shown += &text;
            if stop.is_some() {
                return (shown, stop);
            }
        }
        shown += &matcher.finish();
        (shown, None)
    }

    #[test]
    fn found_at_every_split() {
        let text = "One, two.\nUser: three – vier: пять";
        let borders: Vec<usize> = (0..=text.len()).filter(|&i| text.is_char_boundary(i)).collect();
        for stops in [
            &["\nUser:"][..],
            &["two.", "\nUser:"],
            &["User", "\nUs"],
            &["– v"],
            &["пять"],
            &["wo. \nUser", "two"],
            &["hree – v", "ee –"],
            &["\n\n"],
            &[""],
        ] {
            let expected = stops
                .iter()
                .filter(|s| !s.is_empty())
                .filter_map(|s| Some((text.find(s)? + s.len(), text.find(s)?, s)))
                .min();
            let expected = match expected {
                Some((_, at, stop)) => (text[..at].to_string(), Some(stop.to_string())),
                None => (text.to_string(), None),
            };
            for &a in &borders {
                for &b in borders.iter().filter(|&&b| b >= a) {
                    assert_eq!(run(stops, &[&text[..a], &text[a..b], &text[b..]]), expected, "{stops:?} {a} {b}");
                }
            }
            let single: Vec<String> = text.chars().map(String::from).collect();
            let single: Vec<&str> = single.iter().map(String::as_str).collect();
            assert_eq!(run(stops, &single), expected);
        }
    }

    #[test]
    fn nothing_is_held_longer_than_needed() {
        let mut matcher = StopStrings::new(&["aab".into()]);
        assert_eq!(matcher.push("xa"), ("x".into(), None));
        assert_eq!(matcher.push("a"), (String::new(), None));
        assert_eq!(matcher.push("a"), ("a".into(), None), "one a more than the stop string has");
        assert_eq!(matcher.push("b!"), (String::new(), Some("aab".into())));
    }
}
