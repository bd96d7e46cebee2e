//! Against scipy and scikit-learn: `tests/fixtures/make_router.py` made the figures.

use kinglet::generate::AnswerSignals;
use kinglet::generate::answer_signals::Signal;
use kinglet::generate::sampler::SplitMix64;
use kinglet::router::binomial::{cdf, mean_tail, upper_bound};
use kinglet::router::curve::{Curve, Outcome, auroc};
use kinglet::router::drift::kolmogorov_smirnov;
use kinglet::router::isotonic::Isotonic;
use kinglet::router::logistic::Logistic;
use serde_json::Value;

fn oracle(part: &str) -> Value {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/router.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()[part].clone()
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn labelled(part: &Value) -> Vec<(f64, bool)> {
    floats(&part["score"]).into_iter().zip(floats(&part["label"]).into_iter().map(|label| label == 1.0)).collect()
}

#[track_caller]
fn close(found: f64, expected: f64, tolerance: f64, what: &dyn std::fmt::Display) {
    assert!((found - expected).abs() <= tolerance * (1.0 + expected.abs()), "{what}: {found}, expected {expected}");
}

#[test]
fn bounds_are_scipys() {
    for case in oracle("bounds").as_array().unwrap() {
        let (k, n) = (case["k"].as_u64().unwrap() as usize, case["n"].as_u64().unwrap() as usize);
        let delta = case["delta"].as_f64().unwrap();
        close(upper_bound(k, n, delta), case["upper"].as_f64().unwrap(), 1e-9, case);
    }
    for case in oracle("tails").as_array().unwrap() {
        let (k, n) = (case["k"].as_u64().unwrap() as usize, case["n"].as_u64().unwrap() as usize);
        close(cdf(k, n, case["p"].as_f64().unwrap()), case["cdf"].as_f64().unwrap(), 1e-9, case);
    }
    // Zero of n: delta is (1 - p)^n.
    close(upper_bound(0, 22, 0.1), 1.0 - 0.1f64.powf(1.0 / 22.0), 1e-12, &"closed form");
}

/// Means of numbers that are not only zeros and ones: the tail is at least as heavy as what is seen.
#[test]
fn the_bound_on_a_mean_is_not_too_sure() {
    let mut random = SplitMix64(1);
    let (n, p, runs) = (40, 0.3, 20_000);
    for level in [0.3, 0.1, 0.02] {
        let mut below = 0;
        for _ in 0..runs {
            // Mean 0.3: beyond the halfway, nothing between.
            let sum: f64 = (0..n)
                .map(|_| if random.below(2) == 0 { 0.0 } else { 0.2 + 0.8 * (random.below(1001) as f64 / 1000.0) })
                .sum();
            below += usize::from(mean_tail(sum, n, p, false) <= level);
        }
        assert!(below as f64 <= level * runs as f64 * 1.05, "{below} of {runs} at {level}");
    }
    assert_eq!(mean_tail(4.0, 40, 0.3, true), cdf(4, 40, 0.3));
    assert_eq!(mean_tail(20.0, 40, 0.3, false), 1.0);
}

#[test]
fn isotonic_regression_is_scikit_learns() {
    let oracle = oracle("isotonic");
    let fitted = Isotonic::fit(&labelled(&oracle));
    let blocks = floats(&oracle["blocks"]);
    assert_eq!(fitted.p.len(), blocks.len());
    fitted.p.iter().zip(&blocks).for_each(|(found, expected)| close(*found, *expected, 1e-12, &"block"));
    for (at, p) in floats(&oracle["at"]).into_iter().zip(floats(&oracle["p"])) {
        close(fitted.at(at), p, 1e-9, &at);
    }
    let one = Isotonic::fit(&[(0.5, true), (0.5, false), (0.5, true), (0.5, true)]);
    assert_eq!((one.at(0.0), one.at(0.5), one.at(1.0)), (0.75, 0.75, 0.75));
}

#[test]
fn logistic_regression_is_scikit_learns() {
    const COLUMNS: [Signal; 3] = [Signal::MeanLogprob, Signal::Margin, Signal::MeanEntropy];
    let oracle = oracle("logistic");
    let signals: Vec<AnswerSignals> = oracle["x"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let mut signals = AnswerSignals::NONE;
            COLUMNS.into_iter().zip(floats(row)).for_each(|(signal, x)| signals.set(signal, x));
            // No variance: dropped.
            signals.set(Signal::LogLength, 2.0);
            signals
        })
        .collect();
    let labels = floats(&oracle["label"]);
    let examples: Vec<(&AnswerSignals, bool)> = signals.iter().zip(labels.iter().map(|&label| label == 1.0)).collect();
    let usable = [COLUMNS[0] as usize, COLUMNS[1] as usize, COLUMNS[2] as usize, Signal::LogLength as usize];
    let fitted = Logistic::fit(&examples, &usable);
    assert_eq!(fitted.terms.iter().map(|term| term.signal).collect::<Vec<_>>(), usable[..3]);
    for (term, weight) in fitted.terms.iter().zip(floats(&oracle["weights"])) {
        close(term.weight, weight, 1e-5, &"weight");
    }
    close(fitted.bias, oracle["bias"].as_f64().unwrap(), 1e-5, &"bias");
    for (signals, score) in signals.iter().zip(floats(&oracle["score"])) {
        close(fitted.score(signals).unwrap(), score, 1e-5, &"score");
    }
    assert_eq!(fitted.score(&AnswerSignals::NONE), None);
    // Nothing to tell apart, or told apart completely: finite, and on the right side.
    let same = Logistic::fit(&examples.iter().map(|&(signals, _)| (signals, true)).collect::<Vec<_>>(), &usable);
    assert!((0.98..1.0).contains(&same.score(&signals[0]).unwrap()));
    let apart: Vec<_> = signals.iter().map(|signals| (signals, signals.at(0).unwrap() > -0.6)).collect();
    let apart_fitted = Logistic::fit(&apart, &usable);
    let ranked: Vec<(f64, bool)> = apart.iter().map(|(s, ok)| (apart_fitted.score(s).unwrap(), *ok)).collect();
    assert!(auroc(&ranked).unwrap() > 0.98);
}

#[test]
fn ranking_and_distances_are_theirs() {
    let oracle_of_ranks = oracle("ranking");
    let scored = labelled(&oracle_of_ranks);
    let area = auroc(&scored).unwrap();
    close(area, oracle_of_ranks["auroc"].as_f64().unwrap(), 1e-12, &"auroc");
    assert_eq!(auroc(&[(0.1, true), (0.7, true)]), None);
    // With a strong model that is always right: APGR is 1/2 plus share of good answers times (AUROC - 1/2).
    let good = scored.iter().filter(|(_, ok)| *ok).count() as f64 / scored.len() as f64;
    let curve = Curve::of_labels(&scored);
    close(curve.apgr().unwrap(), 0.5 + good * (area - 0.5), 1e-9, &"apgr");
    assert_eq!((curve.quality_at(0.0), curve.quality_at(1.0)), (good, 1.0));
    assert_eq!(curve.escalated_for(good), 0.0);
    let distances = oracle("distances");
    let ks = kolmogorov_smirnov(&floats(&distances["a"]), &floats(&distances["b"]));
    close(ks, distances["ks"].as_f64().unwrap(), 1e-12, &"ks");
}

#[test]
fn a_curve_by_hand() {
    let outcome = |score, local, strong| Outcome { score, local, strong };
    let curve =
        Curve::new(&[outcome(0.1, 0.0, 1.0), outcome(0.9, 1.0, 1.0), outcome(0.5, 1.0, 0.0), outcome(0.2, 0.0, 1.0)]);
    assert_eq!([0.0, 0.25, 0.5, 0.75, 1.0].map(|share| curve.quality_at(share)), [0.5, 0.75, 1.0, 0.75, 0.75]);
    assert_eq!(curve.escalated_for(1.0), 0.25);
    close(curve.apgr().unwrap(), (0.5 * 0.5 + 0.75 + 1.0 + 0.75 + 0.5 * 0.75 - 4.0 * 0.5) / 4.0 / 0.25, 1e-12, &"apgr");
}
