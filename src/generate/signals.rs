//! What the raw logits say about a token: log-probability, entropy, margin and the best alternatives, in one pass.

use super::Signals;
use crate::num::exp::Exp;
use crate::num::v128::*;

/// The logits of one position in figures.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// ln(sum(exp(logit))): a token's log-probability is its logit minus this.
    pub log_sum_exp: f32,
    /// Nats.
    pub entropy: f32,
    /// The best tokens and their logits, best first; equal logits by id.
    pub top: Vec<(u32, f32)>,
}

impl Summary {
    pub fn logprob(&self, logit: f32) -> f32 {
        // Not finite where the logit is not: -inf stays -inf, NaN counts as -inf.
        if logit.is_nan() { f32::NEG_INFINITY } else { (logit - self.log_sum_exp).min(0.0) }
    }

    /// Of the token `id`, one of `logits`. `margin` is of the position: best logit minus the second.
    pub fn signals(&self, logits: &[f32], id: u32) -> Signals {
        let margin = match self.top[..] {
            [(_, best), (_, second), ..] if best.is_finite() && second.is_finite() => (best - second).min(f32::MAX),
            _ => 0.0,
        };
        Signals { logprob: self.logprob(logits[id as usize]), entropy: self.entropy, margin }
    }
}

/// A block fits in the first-level cache: its maximum is known before its exponentials are summed.
const BLOCK: usize = 512;
/// Two vectors: the operations on one leave the processor waiting, and natively four do not fit into its registers.
type Pair = [[f32; 4]; 2];

/// One pass over `logits`: the running sums are rescaled whenever a block raises the maximum. `top` is how many of the
/// best to keep. Logits that are not finite are taken as the nearest that is (NaN as the least).
pub fn summarize(logits: &[f32], top: usize) -> Summary {
    let mut best = Best::new(top.min(logits.len()));
    let mut max = f32::MIN;
    // Of x - max: sum(exp(x)) and sum(x * exp(x)).
    let (mut sum, mut weighted) = (0f64, 0f64);
    // For the last block, if it does not end with a pair: -inf adds nothing.
    let mut padded = [[[f32::NEG_INFINITY; 4]; 2]; BLOCK / 8];
    for (i, block) in logits.chunks(BLOCK).enumerate() {
        let mut pairs = block.as_chunks().0.as_chunks().0;
        if block.len() % 8 != 0 {
            padded.as_flattened_mut().as_flattened_mut()[..block.len()].copy_from_slice(block);
            pairs = &padded[..block.len().div_ceil(8)];
        }
        let block_max = maximum(pairs).clamp(f32::MIN, f32::MAX);
        best.offer_block(block, block_max, i * BLOCK);
        if block_max > max {
            let down = f64::from(max) - f64::from(block_max);
            let scale = down.exp();
            // x - new max = (x - max) + down; 0 * inf must not become NaN.
            weighted = if scale > 0.0 { (weighted + down * sum) * scale } else { 0.0 };
            sum *= scale;
            max = block_max;
        }
        let (block_sum, block_weighted) = exp_sums(pairs, max);
        sum += f64::from(block_sum);
        weighted += f64::from(block_weighted);
    }
    let log_sum = sum.max(f64::MIN_POSITIVE).ln();
    Summary {
        log_sum_exp: (f64::from(max) + log_sum) as f32,
        entropy: if sum > 0.0 { (log_sum - weighted / sum).max(0.0) as f32 } else { 0.0 },
        top: best.into_sorted(),
    }
}

/// NaN is passed over.
fn maximum(logits: &[Pair]) -> f32 {
    let mut max = [f32x4_splat(f32::NEG_INFINITY); 2];
    for pair in logits {
        for (max, four) in max.iter_mut().zip(pair) {
            *max = f32x4_max(*max, f32x4_load(four));
        }
    }
    f32x4_greatest(f32x4_max(max[0], max[1]))
}

/// (sum(exp(x - max)), sum((x - max) * exp(x - max))); NaN counts as the least.
fn exp_sums(logits: &[Pair], max: f32) -> (f32, f32) {
    let (least, zero, max) = (kept(f32x4_splat(-87.0)), f32x4_splat(0.0), f32x4_splat(max));
    let exp = Exp::kept();
    let (mut sums, mut weighted) = ([zero; 2], [zero; 2]);
    for pair in logits {
        for (i, four) in pair.iter().enumerate() {
            // In this order of arguments NaN loses.
            let d = f32x4_min(zero, f32x4_max(least, f32x4_sub(f32x4_load(four), max)));
            let e = exp.within_87(d);
            sums[i] = f32x4_add(sums[i], e);
            weighted[i] = f32x4_madd(d, e, weighted[i]);
        }
    }
    (f32x4_sum(f32x4_add(sums[0], sums[1])), f32x4_sum(f32x4_add(weighted[0], weighted[1])))
}

/// The best `n` seen so far.
struct Best {
    n: usize,
    /// Best first.
    entries: Vec<(u32, f32)>,
}

impl Best {
    fn new(n: usize) -> Self {
        Self { n, entries: Vec::with_capacity(n + 1) }
    }

    /// Ids come in order; only blocks that hold something better than the worst kept are looked at closely.
    fn offer_block(&mut self, block: &[f32], block_max: f32, first_id: usize) {
        if self.entries.len() == self.n && self.entries.last().is_none_or(|&(_, worst)| block_max <= worst) {
            return;
        }
        for (i, &logit) in block.iter().enumerate() {
            // NaN is worse than anything, and still a token: there may be nothing else.
            let logit = if logit.is_nan() { f32::NEG_INFINITY } else { logit };
            if self.entries.len() == self.n && self.entries.last().is_none_or(|&(_, worst)| logit <= worst) {
                continue;
            }
            let at = self.entries.partition_point(|&(_, kept)| kept >= logit);
            self.entries.insert(at, ((first_id + i) as u32, logit));
            self.entries.truncate(self.n);
        }
    }

    fn into_sorted(self) -> Vec<(u32, f32)> {
        self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(n: usize, scale: f32) -> Vec<f32> {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        (0..n).map(|_| scale * (next() + next() + next())).collect()
    }

    /// Plain double-precision formulas.
    fn reference(logits: &[f32]) -> (f64, f64) {
        let max = logits.iter().copied().fold(f32::MIN, f32::max) as f64;
        let log_sum = logits.iter().map(|&x| (x as f64 - max).exp()).sum::<f64>().ln() + max;
        let entropy = logits.iter().map(|&x| x as f64 - log_sum).map(|lp| -lp * lp.exp()).sum();
        (log_sum, entropy)
    }

    #[test]
    fn agrees_with_double_precision() {
        for (n, scale) in [(1, 1.0), (2, 1.0), (511, 3.0), (513, 30.0), (49_152, 12.0), (262_144, 200.0), (1000, 0.0)] {
            let logits = noise(n, scale);
            let (log_sum, entropy) = reference(&logits);
            let summary = summarize(&logits, 5);
            assert!((summary.log_sum_exp as f64 - log_sum).abs() < 1e-5 * (1.0 + log_sum.abs()), "{n} {scale}");
            assert!((summary.entropy as f64 - entropy).abs() < 2e-5 * (1.0 + entropy), "{n} {scale}");
            let mut sorted: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
            sorted.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap());
            assert_eq!(summary.top, sorted[..n.min(5)], "{n} {scale}");
        }
    }

    #[test]
    fn what_is_not_finite_neither_panics_nor_wins() {
        let nan = f32::NAN;
        let summary = summarize(&[nan, 1.0, f32::NEG_INFINITY, 3.0, nan], 3);
        assert_eq!(summary.top[..2], [(3, 3.0), (1, 1.0)]);
        assert!((summary.log_sum_exp - 3.126_928).abs() < 1e-5, "{summary:?}");
        assert!(summary.entropy.is_finite());
        for logits in [[nan; 3], [f32::NEG_INFINITY; 3], [f32::INFINITY; 3], [f32::MAX, f32::MIN, nan]] {
            let summary = summarize(&logits, 2);
            let signals = summary.signals(&logits, summary.top[0].0);
            assert!(signals.entropy.is_finite() && signals.margin.is_finite() && !signals.logprob.is_nan());
        }
    }
}
