//! How far a draft model is trusted: how often it was right, what it costs, and what may be spent to find out. Its guesses are
//! not free, unlike those that are read in a text: where it does not pay it rests, and what it reads now and then, to be
//! judged by what was written meanwhile, is a small share of the time.

use super::drafts::{Chance, Chances, Costs, DEEPEST, Drafting, Plan};
use super::signals::summarize;

/// Of the time without drafts, what may be spent to find out whether they would pay.
const TRIAL_SHARE: f64 = 0.02;

/// What is saved up for that, or owed, at most; single tokens of the large model.
const MOST_CREDIT: f64 = 64.0;

/// What a token among many costs of what one alone does, until it is measured.
const USUAL_READ: f64 = 0.3;

/// Nobody knows how long an answer will be; what is read for it has to pay within so many tokens.
const HORIZON: usize = 128;

/// Of this one no better can be had.
const HARDLY_BETTER: f64 = 0.95;

/// What a draft model would say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guess {
    pub token: u32,
    /// Its probability, in eighths.
    sure: usize,
}

impl Guess {
    /// The likeliest of `logits`, `[vocab]`.
    pub fn of(logits: &[f32]) -> Option<Guess> {
        let summary = summarize(logits, 1);
        let &(token, logit) = summary.top.first()?;
        let probability = f64::from(summary.logprob(logit)).exp();
        Some(Guess { token, sure: ((probability * DEEPEST as f64) as usize).min(DEEPEST) })
    }
}

/// Costs are in single tokens of the large model.
#[derive(Clone, Debug)]
pub struct Trust {
    /// By how sure it was.
    chances: Chances,
    overall: Chance,
    /// Of a token that it adds, as its size lets expect, and as measured.
    usual: f64,
    token: f64,
    /// Of one among many that it reads.
    read: f64,
    credit: f64,
}

impl Trust {
    /// `size`: of its weights, the large model's being 1.
    pub fn new(size: f64) -> Self {
        let overall = Chance::first(0.7);
        Self { chances: Chances::first(0.1), overall, usual: size, token: size, read: USUAL_READ * size, credit: 0.0 }
    }

    /// Another answer, which is another text.
    pub fn begin(&mut self) {
        self.chances = self.chances.inherited();
        self.overall = self.overall.inherited();
    }

    /// How many tokens to guess, of which `guesses` are there already; see [`Drafting::plan`].
    pub fn plan(&self, drafting: Drafting, guesses: &[Guess], most: usize, costs: &Costs) -> Option<Plan> {
        let share = |i: usize| guesses.get(i).map_or(self.overall, |guess| self.chances.0[guess.sure]).share();
        drafting.plan(most, share, |tokens| self.cost(tokens, guesses.len(), costs))
    }

    /// Of checking `tokens` guesses, and of making those that are not there yet.
    fn cost(&self, tokens: usize, there: usize, costs: &Costs) -> f64 {
        costs.of_batch(tokens + 1) + self.token * tokens.saturating_sub(there) as f64
    }

    /// Whether what `plan` gains pays for `unread` tokens that have to be read before. `left`: of the answer, at most.
    pub fn pays_for(&self, unread: usize, plan: Plan, left: usize) -> bool {
        let saved = 1.0 - 1.0 / plan.gain;
        self.read * unread as f64 <= saved * left.min(HORIZON) as f64
    }

    /// Whether it may read `unread` tokens only to be judged: they can be afforded, and something might come of it.
    pub fn may_be_tried(&self, unread: usize, most: usize, costs: &Costs) -> bool {
        let at_best = || Drafting::Auto.plan(most, |_| HARDLY_BETTER, |tokens| self.cost(tokens, 0, costs));
        self.read * unread as f64 <= self.credit && at_best().is_some()
    }

    /// A token came without a draft.
    pub fn rest(&mut self) {
        self.earn(TRIAL_SHARE);
        // What was measured once, on a machine that had other things to do, is forgiven in time.
        self.token += (self.usual - self.token) / 256.0;
    }

    /// It read `tokens` in one batch. `singles`: what that took, where there is a clock.
    pub fn has_read(&mut self, tokens: usize, singles: Option<f64>) {
        if let Some(singles) = singles.filter(|_| tokens >= 16) {
            self.read += (singles / tokens as f64 - self.read) / 4.0;
        }
        self.earn(-self.read * tokens as f64);
    }

    /// It added a token.
    pub fn has_guessed(&mut self, singles: Option<f64>) {
        if let Some(singles) = singles {
            self.token += (singles - self.token) / 4.0;
        }
        self.earn(-self.token);
    }

    /// Of its guesses `tokens` are being checked.
    pub fn is_checked(&mut self, tokens: usize, costs: &Costs) {
        self.earn(1.0 - costs.of_batch(tokens + 1));
    }

    /// A guess was checked and right.
    pub fn was_accepted(&mut self) {
        self.earn(1.0);
    }

    /// Whether or not it was checked.
    pub fn learn(&mut self, guess: Guess, right: bool) {
        self.chances.0[guess.sure].learn(right);
        self.overall.learn(right);
    }

    fn earn(&mut self, singles: f64) {
        self.credit = (self.credit + singles).clamp(-MOST_CREDIT, MOST_CREDIT);
    }
}
