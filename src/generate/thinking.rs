//! What a model thinks apart from what it answers: `<think>...</think>` at the beginning of an answer.

pub const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// Whether a token stands for one of the two tags.
pub fn is_tag(token: &[u8]) -> bool {
    [OPEN.as_bytes(), CLOSE.as_bytes()].contains(&token)
}

/// A piece of an answer, sorted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Said {
    pub reasoning: String,
    pub text: String,
}

/// Text goes in piece by piece and comes out sorted, wherever the pieces are cut. White space around the thoughts and
/// before the answer is the tags' and is dropped; an answer without thoughts is left as it is.
#[derive(Clone, Debug)]
pub struct Thoughts {
    state: State,
    /// What cannot be sorted yet.
    held: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// Nothing but white space and what may become the opening tag.
    Undecided,
    /// Behind the opening tag, no thought yet.
    Opened,
    Thinking,
    /// Behind the closing tag, no answer yet.
    Closed,
    Answering,
}

impl Thoughts {
    /// `opened`: the prompt ends with the opening tag.
    pub fn new(opened: bool) -> Self {
        Self { state: if opened { State::Opened } else { State::Undecided }, held: String::new() }
    }

    /// The answer proper has begun, or begins with the next token.
    pub fn are_over(&self) -> bool {
        matches!(self.state, State::Closed | State::Answering)
    }

    /// It is not known yet whether there are any.
    pub fn may_begin(&self) -> bool {
        self.state == State::Undecided
    }

    pub fn push(&mut self, piece: &str) -> Said {
        let mut said = Said::default();
        self.held.push_str(piece);
        while let Some(next) = self.sort(&mut said) {
            self.state = next;
        }
        said
    }

    /// What was held back, when nothing follows any more.
    pub fn finish(&mut self) -> Said {
        let held = std::mem::take(&mut self.held);
        match self.state {
            State::Undecided | State::Answering => Said { text: held, ..Said::default() },
            State::Opened | State::Thinking => Said { reasoning: held.trim_end().to_string(), ..Said::default() },
            State::Closed => Said::default(),
        }
    }

    /// Sorts as much of the held text as the state allows; None: no more without another piece.
    fn sort(&mut self, said: &mut Said) -> Option<State> {
        match self.state {
            State::Undecided => {
                let begun = self.held.trim_start();
                if let Some(rest) = begun.strip_prefix(OPEN) {
                    self.held = rest.to_string();
                    return Some(State::Opened);
                }
                (!OPEN.starts_with(begun)).then_some(State::Answering)
            }
            State::Opened | State::Closed => {
                self.held = self.held.trim_start().to_string();
                let next = if self.state == State::Opened { State::Thinking } else { State::Answering };
                (!self.held.is_empty()).then_some(next)
            }
            State::Thinking => {
                if let Some(at) = self.held.find(CLOSE) {
                    said.reasoning.push_str(self.held[..at].trim_end());
                    self.held.drain(..at + CLOSE.len());
                    return Some(State::Closed);
                }
                let begun = (1..CLOSE.len()).rev().find(|&n| self.held.ends_with(&CLOSE[..n])).unwrap_or(0);
                let sure = self.held[..self.held.len() - begun].trim_end().len();
                said.reasoning.extend(self.held.drain(..sure));
                None
            }
            State::Answering => {
                said.text.push_str(&std::mem::take(&mut self.held));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sort(opened: bool, pieces: &[&str]) -> (String, String) {
        let mut thoughts = Thoughts::new(opened);
        let mut all = Said::default();
        let mut add = |said: Said| {
            all.reasoning += &said.reasoning;
            all.text += &said.text;
        };
        pieces.iter().for_each(|piece| add(thoughts.push(piece)));
        add(thoughts.finish());
        (all.reasoning, all.text)
    }

    #[test]
    fn the_same_at_every_split() {
        let cases = [
            (false, "<think>\nОн думает – 2 < 3\n\n</think>\n\nYes, 日本.\n", "Он думает – 2 < 3", "Yes, 日本.\n"),
            (false, " \n<think></think>ok", "", "ok"),
            (false, "<think>\n\n</think>\n\n", "", ""),
            (true, "\nhm </thin k> </think\n</think> <think>x</think>", "hm </thin k> </think", "<think>x</think>"),
            (true, "cut off in </thin", "cut off in </thin", ""),
            (true, "cut off in space \n", "cut off in space", ""),
            (false, "  <thinking> is a word\n", "", "  <thinking> is a word\n"),
            (false, " \n", "", " \n"),
            (false, "<thi", "", "<thi"),
            (false, "A <think>b</think>", "", "A <think>b</think>"),
            (false, "", "", ""),
        ];
        for (opened, text, reasoning, answer) in cases {
            let expected = (reasoning.to_string(), answer.to_string());
            let borders: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
            for &a in &borders {
                for &b in borders.iter().filter(|&&b| b >= a) {
                    assert_eq!(sort(opened, &[&text[..a], &text[a..b], &text[b..]]), expected, "{text:?} at {a}, {b}");
                }
            }
            let single: Vec<&str> = borders.windows(2).map(|w| &text[w[0]..w[1]]).collect();
            assert_eq!(sort(opened, &single), expected, "{text:?}");
        }
    }

    /// Nothing is held longer than it is in doubt.
    #[test]
    fn streams() {
        let mut thoughts = Thoughts::new(false);
        let said = |reasoning: &str, text: &str| Said { reasoning: reasoning.into(), text: text.into() };
        assert_eq!(thoughts.push("<think>"), said("", ""));
        assert_eq!(thoughts.push("\nLet me see"), said("Let me see", ""));
        assert_eq!(thoughts.push(" <"), said("", ""));
        assert_eq!(thoughts.push("3"), said(" <3", ""));
        assert_eq!(thoughts.push("\n</think>\n\n4"), said("", "4"));
        assert_eq!(thoughts.push(" </think>"), said("", " </think>"));
    }
}
