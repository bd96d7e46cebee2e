//! What escalating the least certain answers buys, replayed through the shipped code.

use super::data::{answers, csv, folder};
use super::goals::{Row, percent, report, soak};
use kinglet::generate::sampler::SplitMix64;
use kinglet::router::artifact::Calibration;
use kinglet::router::calibration::fit;
use kinglet::router::certify::Target;
use kinglet::router::curve::{Curve, Outcome};
use kinglet::router::examples::Example;
use kinglet::router::replay::replay;

/// Learned on `n`, replayed on the others: mean (escalated for 95 % quality, AUROC, APGR).
fn escalated(task: &str, model: &str, n: usize, splits: usize) -> [f64; 3] {
    let answers = answers(task, model);
    let mut random = SplitMix64(7);
    let mut sums = [0.0; 3];
    for split in 0..splits {
        let (learn, rest) = answers.split(n, &mut random);
        // Escalation by rank needs no certificate; a target of cost 90 % is one that always passes.
        let target = Target { risk: None, cost: Some(0.9), delta: 0.1 };
        let calibration = Calibration::new(&learn, &target, split as u64, None).unwrap();
        let rest: Vec<Example> = rest.into_iter().cloned().collect();
        let replay = replay(&calibration, &rest);
        sums[0] += replay.escalated_for["0.95"].unwrap();
        sums[1] += replay.auroc.unwrap();
        sums[2] += replay.apgr.unwrap();
    }
    sums.map(|sum| sum / splits as f64)
}

#[test]
fn the_cascade_keeps_quality() {
    let splits = if soak() { 100 } else { 4 };
    let recorded = folder().is_some();
    // (task, model, examples to learn from, the most to escalate for 95 % of the strong model's quality)
    let goals = [
        ("CosmosQA", "Qwen-7B", 5000, Some(0.24)),
        ("CosmosQA", "Qwen-7B", 1000, None),
        ("MMLU", "Qwen-7B", 5000, Some(0.59)),
        ("MMLU", "Qwen-7B", 1000, None),
        ("CosmosQA", "Qwen-1.8B", 1000, None),
        ("MMLU", "Qwen-1.8B", 1000, None),
        ("CosmosQA", "Mistral-7B", 1000, None),
        ("MMLU", "Mistral-7B", 1000, None),
    ];
    let mut rows = Vec::new();
    for (task, model, n, goal) in goals {
        let [share, auroc, apgr] = escalated(task, model, n, splits);
        let mu = answers(task, model).error_rate();
        // Escalating at random, quality 0.95 takes (0.95 - (1 - mu)) / mu of the answers.
        let random = 1.0 - 0.05 / mu;
        let what = format!("{model} to 72B on {task}: escalated for 95 % quality, n = {n}");
        let found = format!("{} (random {}; AUROC {auroc:.3}, APGR {apgr:.3})", percent(share), percent(random));
        rows.push(match goal.filter(|_| recorded) {
            // A few splits scatter by half a percent.
            Some(goal) => {
                let met = share <= goal + if soak() { 0.0 } else { 0.01 };
                Row::new(what, found, format!("<= {}", percent(goal)), met)
            }
            None => Row::new(what, found, "less than random", share < random),
        });
    }
    report("cascade", &rows);
}

/// RouteLLM's questions without any model's confidence: what the prompt's length and an answer's length are worth.
#[test]
fn lengths_alone_rank_little() {
    let Some(folder) = folder() else { return made_up_lengths_rank_a_little() };
    let mut outcomes = Vec::new();
    let mut files: Vec<_> =
        std::fs::read_dir(folder.join("routellm/mmlu")).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let truth = |text: &str| f64::from(u8::from(text == "True"));
    for file in &files {
        for row in csv(&std::fs::read_to_string(file).unwrap()) {
            let score = -(row[0].chars().count() as f64);
            outcomes.push(Outcome { score, local: truth(&row[1]), strong: truth(&row[2]) });
        }
    }
    let apgr = Curve::new(&outcomes).apgr().unwrap();
    let what = format!("RouteLLM, MMLU ({} questions): APGR of the prompt's length", outcomes.len());
    let mut rows = vec![Row::new(what, format!("{apgr:.3}"), "0.586 is known", (apgr - 0.586).abs() < 0.01)];

    let text = std::fs::read_to_string(folder.join("routellm/gsm8k_responses.csv")).unwrap();
    let lines = csv(&text).into_iter().enumerate().map(|(i, row)| {
        let words = row[3].split_whitespace().count().max(1) as f64;
        format!("{{\"id\":{i},\"signals\":{{\"logLength\":{}}},\"label\":{}}}\n", words.ln(), truth(&row[1]))
    });
    let examples = kinglet::router::examples::parse(&lines.collect::<String>()).unwrap();
    let fitted = fit(&examples, &Target::risk(0.2, 0.1), 0).unwrap().feasibility;
    let found = format!("AUROC {:.3}, error rate {}", fitted.auroc.unwrap(), percent(fitted.error_rate));
    rows.push(Row::note(format!("Mixtral on GSM8K ({} questions), its answer's length alone", examples.len()), found));
    report("lengths", &rows);
}

/// Made up: the longer a question, the less often the weak model is right.
fn made_up_lengths_rank_a_little() {
    let mut random = SplitMix64(5);
    let outcomes: Vec<Outcome> = (0..5000)
        .map(|_| {
            let length = random.unit();
            let right = |share: f64, random: &mut SplitMix64| f64::from(u8::from(random.unit() < share));
            let local = right(0.85 - 0.3 * length, &mut random);
            Outcome { score: -length, local, strong: right(0.9, &mut random) }
        })
        .collect();
    let apgr = Curve::new(&outcomes).apgr().unwrap();
    assert!((0.53..0.75).contains(&apgr), "{apgr}");
}
