//! Ridge logistic regression on standardized signals, by Newton's method.

use crate::generate::answer_signals::{AnswerSignals, SIGNALS};

/// Of the squared weights of standardized signals; scikit-learn's C = 1.
const RIDGE: f64 = 1.0;
/// Standard deviations: a figure beyond is taken as one at the edge.
const FAR: f64 = 20.0;

/// One signal's part of the score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Term {
    /// Its place in [`crate::generate::answer_signals::SIGNAL_NAMES`].
    pub signal: usize,
    pub mean: f64,
    pub deviation: f64,
    pub weight: f64,
}

impl Term {
    fn standardized(&self, value: f64) -> f64 {
        ((value - self.mean) / self.deviation).clamp(-FAR, FAR)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Logistic {
    pub terms: Vec<Term>,
    pub bias: f64,
}

impl Logistic {
    /// The probability before isotonic correction; `None` where a signal it needs is missing.
    pub fn score(&self, signals: &AnswerSignals) -> Option<f64> {
        let mut z = self.bias;
        for term in &self.terms {
            z += term.weight * term.standardized(signals.at(term.signal)?);
        }
        Some(sigmoid(z))
    }

    /// `usable`: places of signals that every example has. Those without variance are dropped.
    pub fn fit(examples: &[(&AnswerSignals, bool)], usable: &[usize]) -> Self {
        let n = examples.len() as f64;
        let mut terms = Vec::with_capacity(SIGNALS);
        for &signal in usable {
            let values = || examples.iter().filter_map(|(signals, _)| signals.at(signal));
            let mean = values().sum::<f64>() / n;
            let deviation = (values().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n).sqrt();
            if deviation.is_finite() && deviation > 1e-9 * (1.0 + mean.abs()) {
                terms.push(Term { signal, mean, deviation, weight: 0.0 });
            }
        }
        let ones = examples.iter().filter(|(_, label)| *label).count() as f64;
        // Where all labels agree the best bias is infinite: half an example more of each.
        let bias = ((ones + 0.5) / (n - ones + 0.5)).ln();
        let mut fitted = Self { terms, bias };
        if ones > 0.0 && ones < n {
            let rows: Vec<([f64; SIGNALS], f64)> = examples
                .iter()
                .map(|(signals, label)| {
                    let mut row = [0.0; SIGNALS];
                    for (x, term) in row.iter_mut().zip(&fitted.terms) {
                        *x = signals.at(term.signal).map_or(0.0, |value| term.standardized(value));
                    }
                    (row, f64::from(u8::from(*label)))
                })
                .collect();
            let weights = newton(&rows, fitted.terms.len(), bias);
            fitted.terms.iter_mut().zip(weights).for_each(|(term, weight)| term.weight = weight);
            fitted.bias = weights[fitted.terms.len()];
        }
        fitted
    }
}

pub fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

/// Signals and the bias, which is the last and not penalized.
const SIZE: usize = SIGNALS + 1;

fn newton(rows: &[([f64; SIGNALS], f64)], signals: usize, bias: f64) -> [f64; SIZE] {
    let size = signals + 1;
    let mut weights = [0.0; SIZE];
    weights[signals] = bias;
    let logit = |weights: &[f64; SIZE], row: &[f64; SIGNALS]| {
        weights[signals] + (0..signals).map(|i| weights[i] * row[i]).sum::<f64>()
    };
    let loss = |weights: &[f64; SIZE]| {
        let penalty = 0.5 * RIDGE * weights[..signals].iter().map(|w| w * w).sum::<f64>();
        let misfit = |(row, label): &([f64; SIGNALS], f64)| {
            let z = logit(weights, row);
            // ln(1 + e^z) without overflow.
            z.max(0.0) + (-z.abs()).exp().ln_1p() - label * z
        };
        penalty + rows.iter().map(misfit).sum::<f64>()
    };
    let mut current = loss(&weights);
    for _ in 0..100 {
        let mut gradient = [0.0; SIZE];
        let mut hessian = [[0.0; SIZE]; SIZE];
        for (row, label) in rows {
            let p = sigmoid(logit(&weights, row));
            let mut x = [1.0; SIZE];
            x[..signals].copy_from_slice(&row[..signals]);
            for i in 0..size {
                gradient[i] += (p - label) * x[i];
                for j in 0..=i {
                    hessian[i][j] += p * (1.0 - p) * x[i] * x[j];
                }
            }
        }
        for i in 0..signals {
            gradient[i] += RIDGE * weights[i];
            hessian[i][i] += RIDGE;
        }
        // The bias has no penalty, and no curvature left once every p is 0 or 1.
        hessian[signals][signals] += 1e-9;
        let step = solve(&mut hessian, &gradient, size);
        let mut scale = 1.0;
        let next = loop {
            let mut next = weights;
            (0..size).for_each(|i| next[i] -= scale * step[i]);
            let found = loss(&next);
            if found <= current || scale < 1e-6 {
                break (next, found);
            }
            scale *= 0.5;
        };
        let moved = (0..size).map(|i| (next.0[i] - weights[i]).abs()).fold(0.0, f64::max);
        if next.1 > current {
            break;
        }
        (weights, current) = next;
        if moved < 1e-10 {
            break;
        }
    }
    weights
}

/// `matrix` x = `right` by Cholesky's factors; `matrix` is positive definite, its lower half is read.
fn solve(matrix: &mut [[f64; SIZE]; SIZE], right: &[f64; SIZE], size: usize) -> [f64; SIZE] {
    for i in 0..size {
        for j in 0..=i {
            let known: f64 = (0..j).map(|k| matrix[i][k] * matrix[j][k]).sum();
            let rest = matrix[i][j] - known;
            matrix[i][j] = if i == j { rest.max(1e-300).sqrt() } else { rest / matrix[j][j] };
        }
    }
    let mut x = *right;
    for i in 0..size {
        let known: f64 = (0..i).map(|k| matrix[i][k] * x[k]).sum();
        x[i] = (x[i] - known) / matrix[i][i];
    }
    for i in (0..size).rev() {
        let known: f64 = (i + 1..size).map(|k| matrix[k][i] * x[k]).sum();
        x[i] = (x[i] - known) / matrix[i][i];
    }
    x
}
