//! Drafts: guesses at the tokens to come, from what the request predicts, from the text so far, and from a draft model
//! (`trust.rs`), that a backend checks in one batch. What is sampled stays the same tokens; whether a batch pays is reckoned
//! from measured costs, and from how often guesses of the kind were right, which is counted whether or not they are checked.

use serde::Deserialize;

/// Tokens of a batch that checks a draft: the newest one and those guessed.
pub const LARGEST_BATCH: usize = 8;

/// Equal tokens before a guess that count; more say no more.
pub(super) const DEEPEST: usize = 8;

/// What must be gained for a batch to be worth its trouble.
const LEAST_GAIN: f64 = 1.05;

/// Whether drafts are checked. The answer is the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Drafting {
    /// Where it pays.
    #[default]
    Auto,
    /// Whenever there is a guess.
    Always,
    Never,
}

/// A draft's length, and what is gained by it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// Guessed ones.
    pub tokens: usize,
    /// Tokens that are expected in the time of a single one.
    pub gain: f64,
}

impl Drafting {
    /// How many of up to `most` guesses make the most of a batch's time, if any do. `share(i)`: how likely the guess `i` is right
    /// where those before it are. `cost(n)`: of n of them, in single tokens.
    pub fn plan(self, most: usize, share: impl Fn(usize) -> f64, cost: impl Fn(usize) -> f64) -> Option<Plan> {
        let mut best: Option<Plan> = None;
        let (mut reached, mut expected) = (1.0, 1.0);
        for tokens in 1..=most.min(LARGEST_BATCH - 1) {
            reached *= share(tokens - 1);
            expected += reached;
            let gain = expected / cost(tokens);
            let better = match self {
                Drafting::Never => false,
                Drafting::Always => true,
                Drafting::Auto => gain > best.map_or(LEAST_GAIN, |best| best.gain),
            };
            if better {
                best = Some(Plan { tokens, gain });
            }
        }
        best
    }
}

/// Where a guess comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Prompt and answer so far.
    Text,
    /// What the request predicts.
    Prediction,
    /// Another model.
    Model,
}

/// A place in a source that goes on as the answer may.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Guess {
    source: Source,
    /// Of the token that follows.
    next: usize,
    /// Tokens before it that are the answer's last ones, up to [`DEEPEST`]; as many where both begin there.
    matched: usize,
}

/// The guesses of one answer.
pub struct Drafts {
    drafting: Drafting,
    prediction: Vec<u32>,
    /// Where the answer has left the prediction.
    left_at: usize,
    /// For text and prediction.
    chances: [Chances; 2],
    /// At the place where the answer is now.
    guess: Option<Guess>,
}

/// How often guesses of a kind were right. The old count less.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chance {
    right: f64,
    of: f64,
}

/// Guesses that are remembered of a kind, and of them what one answer tells the next.
const MEMORY: f64 = 64.0;
const HERITAGE: f64 = 8.0;

/// For each number of matched tokens, or whatever else makes a guess a good one.
#[derive(Clone, Copy, Debug)]
pub struct Chances(pub(super) [Chance; DEEPEST + 1]);

impl Chances {
    /// As if two guesses had been made: long matches are right more often. Short ones have to be seen to be.
    pub(super) fn first(least: f64) -> Self {
        let share = |matched: usize| least + (0.85 - least) * matched as f64 / DEEPEST as f64;
        Self(std::array::from_fn(|matched| Chance::first(share(matched))))
    }

    /// For another answer, which is another text.
    pub(super) fn inherited(self) -> Self {
        Self(self.0.map(Chance::inherited))
    }
}

/// Of a text that repeats itself as texts do.
impl Default for Chances {
    fn default() -> Self {
        Self::first(0.1)
    }
}

impl Chance {
    pub(super) fn first(share: f64) -> Self {
        Self { right: 2.0 * share, of: 2.0 }
    }

    fn times(self, factor: f64) -> Self {
        Self { right: self.right * factor, of: self.of * factor }
    }

    pub(super) fn inherited(self) -> Self {
        self.times((HERITAGE / self.of).min(1.0))
    }

    pub(super) fn share(self) -> f64 {
        self.right / self.of
    }

    pub(super) fn learn(&mut self, right: bool) {
        self.of += 1.0;
        self.right += f64::from(u8::from(right));
        if self.of > MEMORY {
            *self = self.times(0.5);
        }
    }
}

impl Drafts {
    /// `text`: what earlier answers of the model were found to be like.
    pub fn new(drafting: Drafting, prediction: Vec<u32>, text: Chances) -> Self {
        let chances = [text.inherited(), Chances::first(0.2)];
        Self { drafting, prediction, left_at: 0, chances, guess: None }
    }

    /// For the next answer.
    pub fn text(&self) -> Chances {
        self.chances[Source::Text as usize]
    }

    /// Before a token is chosen to follow `tokens`, whose first `prompt` are the prompt: notes the guess at it, for
    /// [`Drafts::draft`], and for [`Drafts::chosen`], which judges it.
    pub fn look(&mut self, tokens: &[u32], prompt: usize) {
        self.guess = None;
        if self.drafting == Drafting::Never {
            return;
        }
        let guesses = [in_text(tokens), self.in_prediction(&tokens[prompt..])];
        let chance = |guess: &Guess| self.chances[guess.source as usize].0[guess.matched].share();
        self.guess = guesses.into_iter().flatten().max_by(|a, b| chance(a).total_cmp(&chance(b)));
    }

    /// The guessed tokens that are worth checking in one batch with the newest, at most `most`, where they come from, and the
    /// gain (see [`Plan`]).
    pub fn draft<'a>(&'a self, tokens: &'a [u32], most: usize, costs: &Costs) -> Option<(Source, &'a [u32], f64)> {
        let guess = self.guess?;
        let rest = &self.tokens_of(guess.source, tokens)[guess.next..];
        let chances = &self.chances[guess.source as usize].0;
        let share = |i: usize| chances[(guess.matched + i).min(DEEPEST)].share();
        let plan = self.drafting.plan(most.min(rest.len()), share, |tokens| costs.of_batch(tokens + 1))?;
        Some((guess.source, &rest[..plan.tokens], plan.gain))
    }

    /// `token` follows what [`Drafts::look`] was shown, which `tokens` begins with.
    pub fn chosen(&mut self, tokens: &[u32], token: u32) {
        let Some(guess) = self.guess.take() else { return };
        let right = self.tokens_of(guess.source, tokens)[guess.next] == token;
        self.chances[guess.source as usize].0[guess.matched].learn(right);
        if guess.source == Source::Prediction && right {
            self.left_at = guess.next + 1;
        }
    }

    fn tokens_of<'a>(&'a self, source: Source, tokens: &'a [u32]) -> &'a [u32] {
        match source {
            Source::Prediction => &self.prediction,
            _ => tokens,
        }
    }

    /// The place with the most matched tokens; of several the first from where the answer left the prediction on, or else
    /// the last before.
    fn in_prediction(&self, answer: &[u32]) -> Option<Guess> {
        let mut best: Option<Guess> = None;
        let after = self.left_at..self.prediction.len();
        for next in after.chain((0..self.left_at.min(self.prediction.len())).rev()) {
            let same = matched(&self.prediction[..next], answer);
            let matched = if same == next && same == answer.len() { DEEPEST } else { same };
            if matched > best.map_or(0, |best| best.matched) {
                best = Some(Guess { source: Source::Prediction, next, matched });
            }
        }
        best
    }
}

/// The latest place with the most matched tokens.
fn in_text(tokens: &[u32]) -> Option<Guess> {
    let mut best: Option<Guess> = None;
    for next in (1..tokens.len()).rev() {
        let matched = matched(&tokens[..next], tokens);
        if matched > best.map_or(0, |best| best.matched) {
            best = Some(Guess { source: Source::Text, next, matched });
            if matched == DEEPEST {
                break;
            }
        }
    }
    best
}

/// Equal tokens at the ends, up to [`DEEPEST`].
fn matched(a: &[u32], b: &[u32]) -> usize {
    a.iter().rev().zip(b.iter().rev()).take(DEEPEST).take_while(|(a, b)| a == b).count()
}

/// What batches cost, in single tokens: measured where there is a clock.
#[derive(Clone, Debug)]
pub struct Costs {
    /// Milliseconds of a single token.
    single: f64,
    /// Of a batch of n tokens.
    ratios: [f64; LARGEST_BATCH + 1],
}

/// Of one thread in Chromium, SmolLM2-135M's shape in Q4_0: `benches/kernels/run.mjs --drafts`. With two threads, and for Q8_0,
/// they are lower.
const USUAL: [f64; LARGEST_BATCH + 1] = [0.0, 1.0, 1.5, 2.6, 2.6, 3.8, 4.2, 5.3, 5.3];

impl Default for Costs {
    fn default() -> Self {
        Self { single: 0.0, ratios: USUAL }
    }
}

impl Costs {
    pub fn of_batch(&self, tokens: usize) -> f64 {
        self.ratios[tokens]
    }

    /// What else took so long, in single tokens; `None` where none has been measured yet.
    pub fn in_singles(&self, milliseconds: f64) -> Option<f64> {
        (milliseconds > 0.0 && self.single > 0.0).then(|| milliseconds / self.single)
    }

    /// A batch of so many tokens, with the logits of all, took so long.
    pub fn learn(&mut self, tokens: usize, milliseconds: f64) {
        if milliseconds <= 0.0 || tokens > LARGEST_BATCH {
            return;
        }
        if tokens == 1 {
            self.single += if self.single == 0.0 { milliseconds } else { (milliseconds - self.single) / 8.0 };
            // What was measured once, on a machine that had other things to do, is forgiven in time.
            self.ratios.iter_mut().zip(USUAL).for_each(|(ratio, usual)| *ratio += (usual - *ratio) / 256.0);
        } else if self.single > 0.0 {
            let ratio = (milliseconds / self.single).clamp(1.0, tokens as f64);
            self.ratios[tokens] += (ratio - self.ratios[tokens]) / 4.0;
        }
    }
}
