//! Logits to one token. The steps and their order are llama.cpp's: logit bias, penalties, top-k, top-p, min-p, temperature.

use super::signals::{Summary, summarize};
use super::{GenerateOptions, Mask};
use crate::backend::sampling::PENALTY_WINDOW;
use crate::num::exp::exp_f32_within_87;
use std::cmp::Ordering;

/// A token and its logit.
type Candidate = (u32, f32);

pub struct Sampler {
    random: SplitMix64,
    /// Logits after bias and penalties, where there are any.
    adjusted: Vec<f32>,
    candidates: Vec<Candidate>,
    weights: Vec<f32>,
}

impl Sampler {
    pub fn new(seed: u64) -> Self {
        Self { random: SplitMix64(seed), adjusted: Vec::new(), candidates: Vec::new(), weights: Vec::new() }
    }

    /// The random numbers in [0, 1) of the next `n` tokens, for a device that draws them itself.
    pub fn draws(&self, n: usize) -> Vec<f32> {
        let mut ahead = self.random.clone();
        // Rounded down: never 1.
        (0..n).map(|_| (ahead.next_u64() >> 40) as f32 / (1 << 24) as f32).collect()
    }

    /// One of them was used.
    pub fn skip_draw(&mut self) {
        self.random.next_u64();
    }

    /// `summary` is of `logits` and has at least the best token; `tokens` is all text so far; `mask` allows at least one
    /// token. The same seed, options, masks and logits choose the same tokens.
    pub fn choose(
        &mut self,
        logits: &[f32],
        summary: &Summary,
        tokens: &[u32],
        options: &GenerateOptions,
        mask: Option<&Mask>,
    ) -> u32 {
        let mut adjusts = self.adjust(logits, tokens, options);
        // A best token that is allowed is the best of those allowed.
        if let Some(mask) = mask.filter(|mask| adjusts || !options.is_greedy() || !mask.allows(summary.top[0].0)) {
            if !adjusts {
                self.adjusted.clear();
                self.adjusted.extend_from_slice(logits);
            }
            mask.apply(&mut self.adjusted);
            adjusts = true;
        }
        let chosen = if options.is_greedy() {
            if adjusts { summarize(&self.adjusted, 1).top[0].0 } else { summary.top[0].0 }
        } else {
            let logits = if adjusts { &self.adjusted } else { logits };
            select(logits, options, &mut self.candidates);
            self.draw(options.temperature)
        };
        match mask {
            // Where nothing allowed is finite, what is not may win.
            Some(mask) if !mask.allows(chosen) => mask.first().unwrap_or(chosen),
            _ => chosen,
        }
    }

    /// Fills `adjusted` where bias or penalties change anything.
    fn adjust(&mut self, logits: &[f32], tokens: &[u32], options: &GenerateOptions) -> bool {
        let penalized =
            options.repeat_penalty != 1.0 || options.frequency_penalty != 0.0 || options.presence_penalty != 0.0;
        if !penalized && options.logit_bias.is_empty() {
            return false;
        }
        self.adjusted.clear();
        self.adjusted.extend_from_slice(logits);
        for (&id, &bias) in &options.logit_bias {
            if let Some(logit) = self.adjusted.get_mut(id as usize) {
                *logit += bias;
            }
        }
        if penalized {
            let mut recent = tokens[tokens.len().saturating_sub(PENALTY_WINDOW)..].to_vec();
            recent.sort_unstable();
            for same in recent.chunk_by(|a, b| a == b) {
                let Some(logit) = self.adjusted.get_mut(same[0] as usize) else { continue };
                *logit = if *logit > 0.0 { *logit / options.repeat_penalty } else { *logit * options.repeat_penalty };
                *logit -= same.len() as f32 * options.frequency_penalty + options.presence_penalty;
            }
        }
        true
    }

    /// One of the candidates, in proportion to exp(logit / temperature).
    fn draw(&mut self, temperature: f32) -> u32 {
        let max = self.candidates.iter().fold(f32::MIN, |max, &(_, logit)| max.max(logit)).min(f32::MAX);
        self.weights.clear();
        self.weights.extend(self.candidates.iter().map(|&(_, logit)| weight((logit - max) / temperature)));
        let total: f64 = self.weights.iter().map(|&w| f64::from(w)).sum();
        let mut left = self.random.unit() * total;
        for (&(id, _), &weight) in self.candidates.iter().zip(&self.weights) {
            left -= f64::from(weight);
            if left < 0.0 {
                return id;
            }
        }
        // Rounding, or nothing but NaN.
        self.candidates[0].0
    }
}

/// exp(d) of a d <= 0; nothing for what is too unlikely to be drawn, -inf and NaN.
#[inline(always)]
fn weight(d: f32) -> f32 {
    // An infinite logit is above the greatest there is.
    if d > -87.0 { exp_f32_within_87(if d < 0.0 { d } else { 0.0 }) } else { 0.0 }
}

/// The tokens that top-k, top-p and min-p leave, never none. Partial selection: a sort of 262,144 logits costs more
/// than a small model's whole step.
fn select(logits: &[f32], options: &GenerateOptions, out: &mut Vec<Candidate>) {
    out.clear();
    let top_k = if options.top_k == 0 { logits.len() } else { options.top_k.min(logits.len()) };
    // Inserting into a short list is cheap as long as it is short.
    const SHORT: usize = 128;
    if top_k <= SHORT {
        out.extend(summarize(logits, top_k).top);
    } else {
        out.extend((0..).zip(logits.iter().copied()));
        if top_k < out.len() {
            out.select_nth_unstable_by(top_k, best_first);
            out.truncate(top_k);
        }
    }
    if options.top_p < 1.0 {
        keep_top_p(out, options.top_p);
    }
    if options.min_p > 0.0 {
        let max = out.iter().copied().min_by(best_first).expect("never empty");
        let least = max.1 + options.min_p.ln();
        out.retain(|&(id, logit)| logit >= least || id == max.0);
    }
}

/// The fewest of the best whose probabilities (among the candidates) reach `top_p`; sorts no more than it needs.
fn keep_top_p(candidates: &mut Vec<Candidate>, top_p: f32) {
    let max = candidates.iter().fold(f32::MIN, |max, &(_, logit)| max.max(logit)).min(f32::MAX);
    let total: f64 = candidates.iter().map(|&(_, logit)| f64::from(weight(logit - max))).sum();
    let goal = f64::from(top_p) * total;
    let (mut sorted, mut reached) = (0, 0.0);
    let mut piece = 128;
    while sorted < candidates.len() {
        let rest = &mut candidates[sorted..];
        let n = piece.min(rest.len());
        if n < rest.len() {
            rest.select_nth_unstable_by(n, best_first);
        }
        rest[..n].sort_unstable_by(best_first);
        for i in sorted..sorted + n {
            reached += f64::from(weight(candidates[i].1 - max));
            if reached >= goal {
                candidates.truncate(i + 1);
                return;
            }
        }
        sorted += n;
        piece *= 8;
    }
}

/// Higher logits first, then lower ids; NaN last.
fn best_first(a: &Candidate, b: &Candidate) -> Ordering {
    let by_logit = b.1.partial_cmp(&a.1).unwrap_or_else(|| a.1.is_nan().cmp(&b.1.is_nan()));
    by_logit.then(a.0.cmp(&b.0))
}

/// A small generator with one word of state; good far beyond what sampling needs.
#[derive(Clone, Debug)]
pub struct SplitMix64(pub u64);

impl SplitMix64 {
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to n - 1.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next_u64()) * n as u128) >> 64) as usize
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }

    /// In [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}
