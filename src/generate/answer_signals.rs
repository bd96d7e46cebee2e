//! How sure the model was of a whole answer: the signals of its tokens in thirteen figures.

use super::Signals;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Counts up whenever a figure below is computed otherwise: what was calibrated on the old ones must not read the new.
pub const SIGNAL_VERSION: u32 = 1;

/// Natural logarithms and nats throughout, from the raw logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    MeanLogprob,
    MinLogprob,
    /// Quantiles of the tokens' log-probabilities.
    Q05,
    Q10,
    Q20,
    Q50,
    /// Share of the tokens less likely than 1/2.
    LowShare,
    MeanEntropy,
    MaxEntropy,
    /// Mean distance between the two best logits.
    Margin,
    /// At the first token with text, over the [`FIRST_TOKEN_TOP`] best of it, renormalised.
    FirstTokenEntropy,
    /// Lowest mean log-probability over 32 tokens in a row (over all of a shorter answer).
    LowestWindow,
    /// ln(number of tokens).
    LogLength,
}

/// How many signals there are.
pub const SIGNALS: usize = 13;

/// As JSON and `api.md` spell them, by [`Signal`].
pub const SIGNAL_NAMES: [&str; SIGNALS] = [
    "meanLogprob",
    "minLogprob",
    "q05",
    "q10",
    "q20",
    "q50",
    "lowShare",
    "meanEntropy",
    "maxEntropy",
    "margin",
    "firstTokenEntropy",
    "lowestWindow",
    "logLength",
];

/// The best tokens that `firstTokenEntropy` looks at.
pub const FIRST_TOKEN_TOP: usize = 20;

/// Any of the signals. In JSON an object of those that are known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AnswerSignals([Option<f64>; SIGNALS]);

impl AnswerSignals {
    pub const NONE: Self = Self([None; SIGNALS]);

    /// `value`: of a name in [`SIGNAL_NAMES`]. What is not finite is not known.
    pub fn by_name(value: impl Fn(&str) -> Option<f64>) -> Self {
        Self(SIGNAL_NAMES.map(|name| value(name).filter(|value| value.is_finite())))
    }

    pub fn get(&self, signal: Signal) -> Option<f64> {
        self.0[signal as usize]
    }

    /// By its place in [`SIGNAL_NAMES`].
    pub fn at(&self, index: usize) -> Option<f64> {
        self.0[index]
    }

    /// What is not finite is not known.
    pub fn set(&mut self, signal: Signal, value: f64) {
        self.0[signal as usize] = value.is_finite().then_some(value);
    }
}

impl Serialize for AnswerSignals {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in SIGNAL_NAMES.iter().zip(self.0) {
            if let Some(value) = value {
                map.serialize_entry(name, &value)?;
            }
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for AnswerSignals {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ByName)
    }
}

struct ByName;

impl<'de> Visitor<'de> for ByName {
    type Value = AnswerSignals;

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("an object of signals")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<AnswerSignals, M::Error> {
        let mut signals = AnswerSignals::NONE;
        while let Some(name) = map.next_key::<String>()? {
            let Some(index) = SIGNAL_NAMES.iter().position(|known| *known == name) else {
                let known = SIGNAL_NAMES.join(", ");
                return Err(M::Error::custom(format!("there is no signal \"{name}\"; the signals are {known}")));
            };
            // JSON has no NaN: JavaScript writes null.
            signals.0[index] = map.next_value::<Option<f64>>()?.filter(|value| value.is_finite());
        }
        Ok(signals)
    }
}

const BINS: usize = 64;
/// e^-16 is as unlikely as what the histogram tells apart.
const DEEPEST: f64 = 16.0;
const WINDOW: usize = 32;
const LN_HALF: f64 = -std::f64::consts::LN_2;
/// Stands for -inf, the log-probability of what cannot be.
const IMPOSSIBLE: f64 = -1000.0;

/// The signals of an answer's tokens as they come; a few hundred bytes however long the answer.
#[derive(Clone, Debug)]
pub struct SignalSum {
    /// Those that the model chose.
    tokens: usize,
    /// Those that had to be.
    forced: usize,
    logprob: f64,
    min_logprob: f64,
    max_logprob: f64,
    low: usize,
    entropy: f64,
    max_entropy: f64,
    margin: f64,
    first_token_entropy: Option<f64>,
    /// Of sqrt(-log-probability): where most tokens are, near 0, the bins are narrow.
    histogram: [u32; BINS],
    /// The last log-probabilities, a ring.
    recent: [f64; WINDOW],
    lowest_window: f64,
}

impl Default for SignalSum {
    fn default() -> Self {
        Self {
            tokens: 0,
            forced: 0,
            logprob: 0.0,
            min_logprob: f64::INFINITY,
            max_logprob: f64::NEG_INFINITY,
            low: 0,
            entropy: 0.0,
            max_entropy: f64::NEG_INFINITY,
            margin: 0.0,
            first_token_entropy: None,
            histogram: [0; BINS],
            recent: [0.0; WINDOW],
            lowest_window: f64::INFINITY,
        }
    }
}

impl SignalSum {
    pub fn push(&mut self, signals: Signals) {
        let logprob = f64::from(signals.logprob).max(IMPOSSIBLE);
        self.recent[self.tokens % WINDOW] = logprob;
        self.tokens += 1;
        self.logprob += logprob;
        self.min_logprob = self.min_logprob.min(logprob);
        self.max_logprob = self.max_logprob.max(logprob);
        self.low += usize::from(logprob < LN_HALF);
        self.entropy += f64::from(signals.entropy);
        self.max_entropy = self.max_entropy.max(signals.entropy.into());
        self.margin += f64::from(signals.margin);
        self.histogram[((-logprob / DEEPEST).max(0.0).sqrt() * BINS as f64).min(BINS as f64 - 1.0) as usize] += 1;
        if self.tokens >= WINDOW {
            // Summed afresh: a running difference would drift.
            self.lowest_window = self.lowest_window.min(self.recent.iter().sum::<f64>() / WINDOW as f64);
        }
    }

    /// A token that the answer's form left no choice about: it counts, but says nothing about the model.
    pub fn push_forced(&mut self) {
        self.forced += 1;
    }

    /// Of the first token with text; later calls change nothing. `best`: the log-probabilities of its best tokens.
    /// `entropy`: over the whole vocabulary, for when fewer than [`FIRST_TOKEN_TOP`] are known.
    pub fn first_content(&mut self, best: &[f32], entropy: f32) {
        if self.first_token_entropy.is_none() {
            let best = &best[..best.len().min(FIRST_TOKEN_TOP)];
            let known = best.len() == FIRST_TOKEN_TOP;
            self.first_token_entropy = Some(if known { entropy_of(best) } else { entropy.into() });
        }
    }

    /// Whether [`SignalSum::first_content`] was told.
    pub fn has_content(&self) -> bool {
        self.first_token_entropy.is_some()
    }

    /// So far; none of an empty answer.
    pub fn get(&self) -> AnswerSignals {
        let mut signals = AnswerSignals::NONE;
        if self.tokens + self.forced > 0 {
            signals.set(Signal::LogLength, ((self.tokens + self.forced) as f64).ln());
        }
        if self.tokens == 0 {
            return signals;
        }
        let n = self.tokens as f64;
        if let Some(entropy) = self.first_token_entropy {
            signals.set(Signal::FirstTokenEntropy, entropy);
        }
        signals.set(Signal::MeanLogprob, self.logprob / n);
        signals.set(Signal::MinLogprob, self.min_logprob);
        for (signal, q) in [(Signal::Q05, 0.05), (Signal::Q10, 0.1), (Signal::Q20, 0.2), (Signal::Q50, 0.5)] {
            signals.set(signal, self.quantile(q));
        }
        signals.set(Signal::LowShare, self.low as f64 / n);
        signals.set(Signal::MeanEntropy, self.entropy / n);
        signals.set(Signal::MaxEntropy, self.max_entropy);
        signals.set(Signal::Margin, self.margin / n);
        let short = self.tokens < WINDOW;
        signals.set(Signal::LowestWindow, if short { self.logprob / n } else { self.lowest_window });
        signals
    }

    /// Within the width of a bin.
    fn quantile(&self, q: f64) -> f64 {
        let wanted = q * self.tokens as f64;
        let mut seen = 0.0;
        // The last bin holds the least likely.
        for (bin, &count) in self.histogram.iter().enumerate().rev() {
            let count = f64::from(count);
            if count > 0.0 && seen + count >= wanted {
                let at = (bin as f64 + 1.0 - (wanted - seen) / count) / BINS as f64;
                return (-DEEPEST * at * at).clamp(self.min_logprob, self.max_logprob);
            }
            seen += count;
        }
        self.min_logprob
    }
}

/// Nats; of what has these log-probabilities, as if there were nothing else.
fn entropy_of(logprobs: &[f32]) -> f64 {
    let sum: f64 = logprobs.iter().map(|&l| f64::from(l).exp()).sum();
    let plogp = |&l: &f32| {
        let p = f64::from(l).exp() / sum;
        if p > 0.0 { -p * p.ln() } else { 0.0 }
    };
    if sum > 0.0 { logprobs.iter().map(plogp).sum() } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(logprob: f32) -> Signals {
        Signals { logprob, entropy: -2.0 * logprob, margin: 1.0 + logprob }
    }

    fn sum(logprobs: &[f32]) -> AnswerSignals {
        let mut sum = SignalSum::default();
        logprobs.iter().for_each(|&l| sum.push(token(l)));
        sum.get()
    }

    #[test]
    fn figures_are_those_of_the_sorted_tokens() {
        let logprobs: Vec<f32> = (0..1000u32).map(|i| -((i * 7919 % 1000) as f32 / 200.0).powi(2) / 4.0).collect();
        let mut sorted: Vec<f64> = logprobs.iter().map(|&l| l.into()).collect();
        sorted.sort_by(f64::total_cmp);
        let signals = sum(&logprobs);
        for (signal, q) in [(Signal::Q05, 0.05), (Signal::Q10, 0.1), (Signal::Q20, 0.2), (Signal::Q50, 0.5)] {
            let (found, exact) = (signals.get(signal).unwrap(), sorted[(q * 1000.0) as usize]);
            // A bin at l is as wide as the difference of squares says.
            let width = 2.0 * (DEEPEST * -exact).sqrt() / BINS as f64 + DEEPEST / (BINS * BINS) as f64;
            assert!((found - exact).abs() <= width, "{q}: {found} for {exact}");
        }
        let close = |signal, expected: f64| assert!((signals.get(signal).unwrap() - expected).abs() < 1e-6);
        let mean = sorted.iter().sum::<f64>() / 1000.0;
        close(Signal::MeanLogprob, mean);
        close(Signal::MinLogprob, sorted[0]);
        close(Signal::LowShare, sorted.iter().filter(|&&l| l < LN_HALF).count() as f64 / 1000.0);
        close(Signal::MeanEntropy, -2.0 * mean);
        close(Signal::MaxEntropy, -2.0 * sorted[0]);
        close(Signal::Margin, 1.0 + mean);
        close(Signal::LogLength, 1000f64.ln());
        let windows = logprobs.windows(32).map(|w| w.iter().map(|&l| f64::from(l)).sum::<f64>() / 32.0);
        close(Signal::LowestWindow, windows.fold(f64::INFINITY, f64::min));
        assert_eq!(signals.get(Signal::FirstTokenEntropy), None);
    }

    #[test]
    fn one_token_is_all_its_quantiles() {
        let signals = sum(&[-0.7]);
        for signal in [Signal::MeanLogprob, Signal::MinLogprob, Signal::Q05, Signal::Q50, Signal::LowestWindow] {
            assert_eq!(signals.get(signal), Some(f64::from(-0.7f32)));
        }
        assert_eq!(signals.get(Signal::LogLength), Some(0.0));
    }

    #[test]
    fn forced_tokens_count_and_do_not_score() {
        let mut mixed = SignalSum::default();
        for logprob in [-0.5, -2.0] {
            mixed.push_forced();
            mixed.push(token(logprob));
        }
        let (mixed, free) = (mixed.get(), sum(&[-0.5, -2.0]));
        for (i, name) in SIGNAL_NAMES.iter().enumerate().filter(|(i, _)| *i != Signal::LogLength as usize) {
            assert_eq!(mixed.at(i), free.at(i), "{name}");
        }
        assert_eq!(mixed.get(Signal::LogLength), Some(4f64.ln()));
    }

    #[test]
    fn the_first_content_token_is_looked_at_once() {
        let mut sum = SignalSum::default();
        sum.first_content(&[-20f32.ln() - 1.0; 25], 9.0);
        sum.first_content(&[0.0; 20], 9.0);
        sum.push(token(-1.0));
        let entropy = sum.get().get(Signal::FirstTokenEntropy).unwrap();
        assert!((entropy - 20f64.ln()).abs() < 1e-6, "twenty alike, renormalised: {entropy}");
        let mut few = SignalSum::default();
        few.first_content(&[-0.1, -3.0], 0.5);
        few.push(token(-1.0));
        assert_eq!(few.get().get(Signal::FirstTokenEntropy), Some(0.5));
    }

    #[test]
    fn hostile_tokens_stay_finite_and_json_goes_both_ways() {
        let signals = sum(&[f32::NEG_INFINITY, f32::NAN, -1e30, 0.0]);
        let json = serde_json::to_string(&signals).unwrap();
        assert!(signals.0.iter().flatten().all(|x| x.is_finite()), "{json}");
        assert_eq!(serde_json::from_str::<AnswerSignals>(r#"{"q05":-0.25,"margin":null}"#).unwrap().at(2), Some(-0.25));
        let error = serde_json::from_str::<AnswerSignals>(r#"{"meanLogProb":1}"#).unwrap_err().to_string();
        assert!(error.contains("meanLogProb") && error.contains("lowestWindow"), "{error}");
        assert_eq!(serde_json::to_string(&SignalSum::default().get()).unwrap(), "{}");
    }
}
