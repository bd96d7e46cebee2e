//! Isotonic regression: the probability as a non-decreasing function of a score.

use serde::Serialize;

/// Blocks of pooled neighbours, joined by straight lines between their centres: within a block the score still ranks,
/// which a staircase would give away.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Isotonic {
    /// The blocks' mean scores, rising.
    pub score: Vec<f64>,
    /// The share of ones in each block, never falling.
    pub p: Vec<f64>,
}

impl Isotonic {
    /// Pools adjacent violators. `examples`: (score, label), at least one, scores finite.
    pub fn fit(examples: &[(f64, bool)]) -> Self {
        let mut sorted = examples.to_vec();
        sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
        // (examples, ones, sum of scores), and the highest score of each.
        let mut blocks: Vec<(f64, f64, f64)> = Vec::new();
        let mut highest = f64::NAN;
        for (score, label) in sorted {
            let ones = f64::from(u8::from(label));
            match blocks.last_mut() {
                // Equal scores are one block.
                Some(last) if score == highest => {
                    *last = (last.0 + 1.0, last.1 + ones, last.2 + score);
                    continue;
                }
                _ => pool(&mut blocks),
            }
            blocks.push((1.0, ones, score));
            highest = score;
        }
        pool(&mut blocks);
        Self {
            score: blocks.iter().map(|&(n, _, sum)| sum / n).collect(),
            p: blocks.iter().map(|&(n, ones, _)| ones / n).collect(),
        }
    }

    /// Drops points whose score is not above the one before.
    pub fn make_distinct(&mut self) {
        let (mut scores, mut ps): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
        for (&score, &p) in self.score.iter().zip(&self.p) {
            if scores.last().is_none_or(|last| *last < score) {
                scores.push(score);
                ps.push(p);
            }
        }
        (self.score, self.p) = (scores, ps);
    }

    /// Constant beyond the first and the last block.
    pub fn at(&self, score: f64) -> f64 {
        let next = self.score.partition_point(|&centre| centre <= score);
        if next == 0 || next == self.score.len() {
            return self.p[next.saturating_sub(1)];
        }
        let (x, y) = (&self.score[next - 1..=next], &self.p[next - 1..=next]);
        y[0] + (y[1] - y[0]) * ((score - x[0]) / (x[1] - x[0]))
    }
}

/// Until the last block is above the one before.
fn pool(blocks: &mut Vec<(f64, f64, f64)>) {
    while let [.., before, last] = blocks[..] {
        if before.1 * last.0 < last.1 * before.0 {
            break;
        }
        blocks.pop();
        *blocks.last_mut().expect("two") = (before.0 + last.0, before.1 + last.1, before.2 + last.2);
    }
}
