//! Whether what is promised holds: thresholds learned on random examples, their risk measured on all others.

use super::data::{Answers, Shape, answers, folder, made_up};
use super::goals::{Row, percent, report, soak};
use kinglet::generate::sampler::SplitMix64;
use kinglet::router::artifact::Calibration;
use kinglet::router::calibration::Model;
use kinglet::router::certify::Target;
use kinglet::router::examples::{Example, halves};
use std::thread;

const DELTA: f64 = 0.1;

#[derive(Clone, Copy, Default)]
struct Tally {
    splits: f64,
    certified: f64,
    broken: f64,
    coverage: f64,
    /// By thresholds that looked good enough on the same examples, without a bound.
    naively_broken: f64,
}

/// (share kept, share of the kept that is not acceptable, share of the cost that is spent)
fn measure(p_ok: impl Fn(&Example) -> Option<f64>, tau: f64, rest: &[&Example]) -> (f64, f64, f64) {
    let (mut kept, mut wrong, mut spent, mut all) = (0.0, 0.0, 0.0, 0.0);
    for example in rest {
        let keep = p_ok(example).is_some_and(|p_ok| p_ok >= tau);
        let cost = example.cost.unwrap_or(1.0);
        all += cost;
        spent += if keep { 0.0 } else { cost };
        kept += f64::from(u8::from(keep));
        wrong += f64::from(u8::from(keep && example.label == Some(false)));
    }
    (kept / rest.len() as f64, if kept > 0.0 { wrong / kept } else { 0.0 }, spent / all)
}

fn splits(answers: &Answers, n: usize, target: &Target, count: usize, naive: bool) -> Tally {
    let mut random = SplitMix64(11);
    let mut tally = Tally::default();
    for split in 0..count as u64 {
        let (learn, rest) = answers.split(n, &mut random);
        tally.splits += 1.0;
        if let Ok(calibration) = Calibration::new(&learn, target, split, None) {
            let (coverage, risk, spent) =
                measure(|example| calibration.model.p_ok(&example.signals), calibration.tau(false), &rest);
            tally.certified += 1.0;
            tally.coverage += coverage;
            let broken = target.risk.map_or(spent > target.cost.unwrap_or(1.0), |alpha| risk > alpha);
            tally.broken += f64::from(u8::from(broken));
        }
        if let Some(alpha) = target.risk.filter(|_| naive) {
            let learn: Vec<&Example> = learn.iter().collect();
            tally.naively_broken += f64::from(u8::from(naive_risk(alpha, &learn, split, &rest) > alpha));
        }
    }
    tally
}

/// Of the loosest threshold whose risk on the held-out half is within alpha.
fn naive_risk(alpha: f64, learn: &[&Example], seed: u64, rest: &[&Example]) -> f64 {
    let [fitting, held] = halves(learn, seed);
    let model = Model::fit(&fitting, false).unwrap();
    let mut scored: Vec<(f64, bool)> =
        held.iter().map(|example| (model.p_ok(&example.signals).unwrap(), example.label.unwrap())).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut wrong, mut tau) = (0.0, 2.0);
    for (i, &(p_ok, ok)) in scored.iter().enumerate() {
        wrong += f64::from(u8::from(!ok));
        let ends_a_tie = scored.get(i + 1).is_none_or(|next| next.0 < p_ok);
        if ends_a_tie && wrong / (i + 1) as f64 <= alpha {
            tau = p_ok;
        }
    }
    measure(|example| model.p_ok(&example.signals), tau, rest).1
}

/// Two standard errors over delta.
fn most_broken(splits: f64) -> f64 {
    DELTA + 2.0 * (DELTA * (1.0 - DELTA) / splits).sqrt()
}

#[test]
fn risks_stay_within_what_is_promised() {
    let count = if soak() { 400 } else { 40 };
    let configurations = [
        ("CosmosQA", "Qwen-7B", 0.1, 1000),
        ("CosmosQA", "Mistral-7B", 0.1, 1000),
        ("MMLU", "Mistral-7B", 0.1, 2000),
        ("MMLU", "Qwen-7B", 0.2, 2000),
        ("HellaSwag", "Qwen-7B", 0.2, 2000),
    ];
    let handles = configurations.map(|(task, model, alpha, n)| {
        thread::spawn(move || splits(&answers(task, model), n, &Target::risk(alpha, DELTA), count, true))
    });
    let mut rows = Vec::new();
    for ((task, model, alpha, n), handle) in configurations.into_iter().zip(handles) {
        let tally = handle.join().unwrap();
        let (broken, coverage) = (tally.broken / tally.splits, tally.coverage / tally.splits);
        let what = format!("{model} on {task}, n = {n}, alpha {alpha:.2}, {count} splits");
        let found = format!(
            "{} (certified {}; without a bound {})",
            percent(broken),
            percent(tally.certified / tally.splits),
            percent(tally.naively_broken / tally.splits)
        );
        let most = most_broken(tally.splits);
        rows.push(Row::new(format!("broken: {what}"), found, format!("<= {}", percent(most)), broken <= most));
        let first = rows.len() == 1 && folder().is_some();
        let what = format!("local: {what}");
        // Few splits scatter.
        let least = if soak() { 0.8 } else { 0.78 };
        rows.push(match first {
            true => Row::new(what, percent(coverage), ">= 80.0 %", coverage >= least),
            false => Row::note(what, percent(coverage)),
        });
    }
    report("guarantee", &rows);
}

#[test]
fn made_up_data_keeps_the_promise_too() {
    let count = if soak() { 400 } else { 60 };
    let answers = made_up("Qwen-7B on CosmosQA", Shape::of("Qwen-7B on CosmosQA"));
    let tally = splits(&answers, 1000, &Target::risk(0.1, DELTA), count, true);
    assert!(tally.broken <= most_broken(tally.splits) * tally.splits, "{} of {count} broken", tally.broken);
    assert!(
        tally.naively_broken > 0.3 * tally.splits,
        "{} of {count}: too easy to show anything",
        tally.naively_broken
    );
    assert!(tally.certified > 0.9 * tally.splits);
    let weak = made_up("Qwen-1.8B on MMLU", Shape::of("Qwen-1.8B on MMLU"));
    let tally = splits(&weak, 1000, &Target::risk(0.1, DELTA), count, false);
    assert_eq!(tally.certified, 0.0, "of {count}");
}

#[test]
fn what_cannot_be_certified_is_refused() {
    let count = if soak() { 200 } else { 40 };
    let target = Target::risk(0.1, DELTA);
    let answers = answers("MMLU", "Qwen-1.8B");
    let mut rows = Vec::new();
    for n in [1000, 2000] {
        let tally = splits(&answers, n, &target, count, false);
        let refused = tally.splits - tally.certified;
        let what = format!("refused: {}, alpha 0.10, n = {n}", answers.name);
        rows.push(Row::new(
            what,
            format!("{refused} of {count}"),
            format!("{count} of {count}"),
            refused == tally.splits,
        ));
    }
    let (learn, _) = answers.split(1000, &mut SplitMix64(3));
    let error = Calibration::new(&learn, &target, 0, None).unwrap_err().to_string();
    assert!(
        error.contains("risk=0.1,delta=0.1 cannot be certified") && error.contains("allow a higher risk"),
        "{error}"
    );
    report("refusal", &rows);
}

#[test]
fn what_is_spent_stays_within_the_share() {
    let count = if soak() { 400 } else { 40 };
    let mut answers = answers("CosmosQA", "Qwen-7B");
    let target = Target { risk: None, cost: Some(0.3), delta: DELTA };
    let mut rows = Vec::new();
    for equal in [true, false] {
        let mut random = SplitMix64(5);
        for example in &mut answers.examples {
            // Unequal: from 1 to 10, most of them low.
            let u = random.below(1000) as f64 / 1000.0;
            example.cost = Some(if equal { 1.0 } else { 1.0 + 9.0 * u * u * u });
        }
        let tally = splits(&answers, 1000, &target, count, false);
        let broken = tally.broken / tally.splits;
        let costs = if equal { "equal" } else { "unequal" };
        let what = format!("broken: at most 30 % of the cost spent, {costs} costs, {}, {count} splits", answers.name);
        let found = format!("{} (local {})", percent(broken), percent(tally.coverage / tally.splits));
        let most = most_broken(tally.splits);
        rows.push(Row::new(
            what,
            found,
            format!("<= {}", percent(most)),
            broken <= most && tally.certified == tally.splits,
        ));
    }
    report("cost", &rows);
}
