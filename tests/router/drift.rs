//! The alarm: soon after the task changes, seldom without.

use super::data::{Answers, answers, csv, folder};
use super::goals::{Row, percent, report, soak};
use kinglet::generate::AnswerSignals;
use kinglet::generate::answer_signals::Signal;
use kinglet::generate::sampler::SplitMix64;
use kinglet::router::artifact::Calibration;
use kinglet::router::certify::Target;
use kinglet::router::drift::{DriftMonitor, Reference, WINDOW, kolmogorov_smirnov};
use kinglet::router::examples::Example;
use kinglet::router::replay::replay;

/// Answers after the first of `shifted` until the alarm, which comes on top of `before` answers that are as calibrated.
fn delay(calibration: &Calibration, before: &[&Example], shifted: &[&Example]) -> Option<usize> {
    let mut monitor = DriftMonitor::new(calibration.reference.clone());
    let mut feed = |examples: &[&Example]| {
        let mut at = None;
        for (i, example) in examples.iter().enumerate() {
            let p_ok = calibration.model.p_ok(&example.signals).unwrap();
            if monitor.push(p_ok, &example.signals).is_some_and(|finding| finding.is_drift()) {
                at = at.or(Some(i + 1));
            }
        }
        at
    };
    feed(before);
    feed(shifted)
}

fn calibrate(answers: &Answers, random: &mut SplitMix64, seed: u64) -> (Calibration, Vec<Example>) {
    loop {
        let (learn, rest) = answers.split(1000, random);
        // One in ten thousand is not certified.
        if let Ok(calibration) = Calibration::new(&learn, &Target::risk(0.1, 0.1), seed, None) {
            return (calibration, rest.into_iter().cloned().collect());
        }
    }
}

#[test]
fn a_shift_of_task_is_noticed_and_its_absence_too() {
    let runs = if soak() { 1000 } else { 60 };
    let known = answers("CosmosQA", "Qwen-7B");
    let mut rows = Vec::new();
    let mut random = SplitMix64(21);
    let mut false_alarms = 0;
    // Several thousands of answers behind each calibration.
    for run in 0..runs {
        let (calibration, rest) = calibrate(&known, &mut random, run);
        for thousand in rest.chunks_exact(1000) {
            let quiet: Vec<&Example> = thousand.iter().collect();
            false_alarms += usize::from(delay(&calibration, &[], &quiet).is_some());
        }
    }
    let thousands = 9 * runs as usize;
    let share = false_alarms as f64 / thousands as f64;
    let what = format!("false alarms in 1,000 answers, {}, {thousands} runs", known.name);
    rows.push(Row::new(what, percent(share), "<= 2.0 %", share <= 0.02));

    for task in ["MMLU", "HellaSwag", "dialogue", "summaries"] {
        let shifted = answers(task, "Qwen-7B");
        let mut noticed = 0;
        let (mut before_risk, mut loose, mut strict) = (0.0, 0.0, 0.0);
        for run in 0..runs {
            let (calibration, rest) = calibrate(&known, &mut random, run);
            let before: Vec<&Example> = rest.iter().take(random.below(WINDOW)).collect();
            let (after, _) = shifted.split(2000, &mut random);
            let after: Vec<&Example> = after.iter().collect();
            noticed += usize::from(delay(&calibration, &before, &after).is_some_and(|at| at <= 400));
            let risk = |examples: &[&Example], alarm| {
                let verdict = |example: &&&Example| calibration.verdict(&example.signals, alarm).keep;
                let kept: Vec<_> = examples.iter().filter(verdict).collect();
                kept.iter().filter(|example| example.label == Some(false)).count() as f64 / kept.len().max(1) as f64
            };
            before_risk += risk(&rest.iter().collect::<Vec<_>>(), false) / runs as f64;
            loose += risk(&after, false) / runs as f64;
            strict += risk(&after, true) / runs as f64;
        }
        let share = noticed as f64 / runs as f64;
        let what = format!("alarm within 400 answers, CosmosQA to {}, {runs} runs", shifted.name);
        rows.push(Row::new(what, percent(share), ">= 95.0 %", share >= 0.95));
        let found = format!(
            "{} before, {} without the alarm's threshold, {} with",
            percent(before_risk),
            percent(loose),
            percent(strict)
        );
        rows.push(Row::note(format!("risk of what is kept, CosmosQA to {task}"), found));
    }
    report("drift", &rows);
}

/// Answers of another length while p(ok) looks as ever: real lengths, Mixtral's and GPT-4's on GSM8K.
#[test]
fn a_shift_of_length_is_noticed() {
    let runs = if soak() { 1000 } else { 100 };
    let mut random = SplitMix64(33);
    let log_length = |text: &str| (text.split_whitespace().count().max(1) as f64).ln();
    let [usual, other] = match folder() {
        Some(folder) => {
            let text = std::fs::read_to_string(folder.join("routellm/gsm8k_responses.csv")).unwrap();
            [3, 4].map(|column| csv(&text).iter().map(|row| log_length(&row[column])).collect::<Vec<f64>>())
        }
        // Made up: answers half as long again.
        None => [4.5, 4.9].map(|middle| (0..1319).map(|_| middle + 2.0 * (random.unit() - 0.5)).collect()),
    };
    let (mut noticed, mut false_alarms) = (0, 0);
    for _ in 0..runs {
        let p_ok = |random: &mut SplitMix64| random.below(1000) as f64 / 1000.0;
        let mut shuffled = usual.clone();
        random.shuffle(&mut shuffled);
        let (calibration, rest) = shuffled.split_at(700);
        let seen: Vec<f64> = calibration.iter().map(|_| p_ok(&mut random)).collect();
        let reference = Reference::new(&seen, calibration);
        let mut alarm = |lengths: &mut dyn Iterator<Item = f64>| {
            let mut monitor = DriftMonitor::new(reference.clone());
            for length in lengths {
                let mut signals = AnswerSignals::NONE;
                signals.set(Signal::LogLength, length);
                monitor.push(p_ok(&mut random), &signals);
            }
            monitor.alarm().is_some()
        };
        false_alarms += usize::from(alarm(&mut rest.iter().copied().take(600)));
        noticed += usize::from(alarm(&mut other.iter().copied().take(400)));
    }
    let [noticed, false_alarms] = [noticed, false_alarms].map(|count| count as f64 / runs as f64);
    let goal = ">= 95.0 %, false <= 2.0 %";
    let found = format!("{}, false in 600 answers {}", percent(noticed), percent(false_alarms));
    let what = format!("alarm within 400 answers of another's lengths, GSM8K, {runs} runs");
    report("length-drift", &[Row::new(what, found, goal, noticed >= 0.95 && false_alarms <= 0.02)]);
}

#[test]
fn an_alarm_tightens_the_threshold_and_ends_when_all_is_quiet() {
    let known = answers("CosmosQA", "Qwen-7B");
    let shifted = answers("MMLU", "Qwen-7B");
    let (calibration, rest) = calibrate(&known, &mut SplitMix64(2), 0);
    assert!(calibration.tau(true) > calibration.tau(false));
    let log: Vec<Example> =
        rest[..400].iter().chain(&shifted.examples[..600]).chain(&rest[400..3000]).cloned().collect();
    let report = replay(&calibration, &log);
    assert!(report.drift.alarm);
    let first = report.drift.first_at.unwrap();
    assert!((600..=800).contains(&first), "{first}");
    // Five quiet windows after the last answer of the other task end it.
    assert!(
        (1000 + 5 * WINDOW - first..=1000 + 7 * WINDOW - first).contains(&report.drift.marked),
        "{:?}",
        report.drift
    );
    let marked = &log[first..1000];
    let kept = marked.iter().filter(|example| calibration.verdict(&example.signals, true).keep).count();
    assert!(kept < marked.len() / 2, "{kept} of {}", marked.len());
    assert_eq!(kolmogorov_smirnov(&[1.0, 2.0], &[1.0, 2.0]), 0.0);
}
