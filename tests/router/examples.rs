//! Examples as users write them, splits, and what is refused.

use super::data::{Shape, made_up};
use kinglet::generate::answer_signals::Signal;
use kinglet::generate::sampler::SplitMix64;
use kinglet::router::artifact::Calibration;
use kinglet::router::calibration::{Model, fit};
use kinglet::router::certify::{Target, first_kept};
use kinglet::router::examples::{Example, halves, parse};

#[test]
fn lines_are_read() {
    let text = "\u{feff}{\"id\": \"a\", \"signals\": {\"meanLogprob\": -0.5, \"q05\": null}, \"label\": 1, \"cost\": 0.25, \"x\": []}\n\
                \n{\"id\": 7, \"group\": \"g\", \"signals\": {}, \"label\": false}\n\
                {\"tokens\": [{\"logprob\": -1, \"entropy\": 2, \"margin\": 3}, {\"logprob\": -3, \"entropy\": 0, \"margin\": 1}]}";
    let examples = parse(text).unwrap();
    assert_eq!(examples.iter().map(|e| e.id.as_str()).collect::<Vec<_>>(), ["a", "7", "4"]);
    assert_eq!(examples.iter().map(|e| e.label).collect::<Vec<_>>(), [Some(true), Some(false), None]);
    assert_eq!((examples[0].cost, examples[1].group.as_deref()), (Some(0.25), Some("g")));
    assert_eq!(
        (examples[0].signals.get(Signal::MeanLogprob), examples[0].signals.get(Signal::Q05)),
        (Some(-0.5), None)
    );
    let of_tokens = &examples[2].signals;
    assert_eq!(
        [Signal::MeanLogprob, Signal::MinLogprob, Signal::MaxEntropy, Signal::Margin, Signal::FirstTokenEntropy]
            .map(|signal| of_tokens.get(signal).unwrap()),
        [-2.0, -3.0, 2.0, 2.0, 2.0]
    );
}

#[test]
fn what_is_wrong_with_a_line_is_said() {
    for (line, words) in [
        ("", &["no examples"][..]),
        ("{\"signals\": {}}\nnot json", &["line 2", "not an example"]),
        (r#"{"label": 1}"#, &["line 1", "signals", "tokens"]),
        (r#"{"signals": {"meanLogProb": -1}, "label": 1}"#, &["meanLogProb", "meanLogprob, minLogprob"]),
        (r#"{"signals": {"q05": "low"}, "label": 1}"#, &["line 1", "string \"low\", expected f64"]),
        (r#"{"signals": {}, "label": 0.5}"#, &["label is 0.5", "0 or 1"]),
        (r#"{"signals": {}, "label": "yes"}"#, &["label is \"yes\""]),
        (r#"{"signals": {}, "cost": -1}"#, &["cost is -1"]),
        (r#"{"signals": {"q05": 1e999}}"#, &["line 1", "number out of range"]),
        (r#"{"id": [], "signals": {}}"#, &["the id must be"]),
    ] {
        let error = parse(line).unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{line}: {error}");
    }
}

#[test]
fn targets_are_read() {
    assert_eq!(Target::parse("risk=0.1,delta=0.05").unwrap(), Target::risk(0.1, 0.05));
    assert_eq!(Target::parse(" cost = 0.3 ").unwrap(), Target { risk: None, cost: Some(0.3), delta: 0.1 });
    for wrong in
        ["", "risk", "risk=x", "risk=0,delta=0.1", "risk=nan", "delta=0.1", "risk=0.1,cost=0.1", "risk=.1,beta=1"]
    {
        let error = Target::parse(wrong).unwrap_err().to_string();
        assert!(error.contains("target"), "{wrong}: {error}");
    }
    assert_eq!(Target::risk(0.1, 0.1).to_string(), "risk=0.1,delta=0.1");
    assert_eq!(first_kept(0, 0.1, 0.1), 55);
}

fn some(n: usize) -> Vec<Example> {
    made_up("some", Shape { spread: 6.5, truth: 1.0 }).examples.into_iter().take(n).collect()
}

#[test]
fn groups_stay_whole_and_halves_are_even() {
    let mut examples = some(1000);
    let mut random = SplitMix64(9);
    for example in &mut examples[..900] {
        example.group = Some(format!("group {}", random.below(30)));
    }
    let all: Vec<&Example> = examples.iter().collect();
    for seed in 0..20 {
        let [a, b] = halves(&all, seed);
        assert_eq!(a.len() + b.len(), 1000);
        assert!(a.len().abs_diff(b.len()) <= 2, "{} and {}", a.len(), b.len());
        let groups =
            |half: &[&Example]| half.iter().filter_map(|e| e.group.clone()).collect::<std::collections::BTreeSet<_>>();
        assert!(groups(&a).is_disjoint(&groups(&b)));
        assert_eq!(halves(&all, seed), [a.clone(), b]);
        assert_ne!(halves(&all, seed + 1)[0], a);
    }
    examples.iter_mut().for_each(|example| example.group = Some("one".into()));
    let error = fit(&examples, &Target::risk(0.1, 0.1), 0).unwrap_err().to_string();
    assert!(error.contains("one group"), "{error}");
}

#[test]
fn few_examples_use_the_mean_alone_and_missing_signals_nothing() {
    let mut examples = some(1000);
    let few: Vec<&Example> = examples[..199].iter().collect();
    assert_eq!(Model::fit(&few, true).unwrap().signals(), ["meanLogprob"]);
    let fitted = fit(&examples[..199], &Target::risk(0.2, 0.1), 0).unwrap();
    assert_eq!(fitted.model.signals(), ["meanLogprob"]);
    let fitted = fit(&examples[..200], &Target::risk(0.2, 0.1), 0).unwrap();
    let names = fitted.model.signals();
    assert!(names.contains(&"margin") && !names.contains(&"logLength"), "what never varies is dropped: {names:?}");
    // A signal that one example lacks.
    examples[500].signals.set(Signal::Margin, f64::NAN);
    let all: Vec<&Example> = examples.iter().collect();
    assert!(!Model::fit(&all, false).unwrap().signals().contains(&"margin"));
    let none: Vec<Example> = examples
        .iter()
        .map(|e| Example { signals: parse("{\"signals\":{}}").unwrap()[0].signals, ..e.clone() })
        .collect();
    for (n, word) in [(1000, "no signal in common"), (100, "meanLogprob")] {
        let error = fit(&none[..n], &Target::risk(0.1, 0.1), 0).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    let error = fit(&examples[..19], &Target::risk(0.1, 0.1), 0).unwrap_err().to_string();
    assert!(error.contains("19 labelled examples are too few"), "{error}");
}

#[test]
fn what_would_help_is_said() {
    let examples = some(1000);
    // Too few for what many can show.
    let few = fit(&examples[..60], &Target::risk(0.1, 0.1), 0).unwrap();
    let needed = few.feasibility.examples_needed.unwrap();
    let error = few.check_certifiable().unwrap_err().to_string();
    assert!(needed > 60 && error.contains(&format!("about {needed} labelled examples")), "{error}");
    let many = Calibration::new(&examples, &Target::risk(0.1, 0.1), 0, None).unwrap().feasibility;
    assert!(many.certifiable && many.certified_local > 0.3 && many.examples_needed.unwrap() <= 1000, "{many:?}");
    let mu = many.error_rate;
    assert!((many.least_escalated.unwrap() - ((mu - 0.1) / 0.9).max(0.0)).abs() < 1e-12);
    // All are good, none is.
    for (label, certified) in [(true, true), (false, false)] {
        let alike: Vec<Example> = examples.iter().map(|e| Example { label: Some(label), ..e.clone() }).collect();
        let fitted = fit(&alike, &Target::risk(0.1, 0.1), 0).unwrap();
        assert_eq!((fitted.feasibility.certifiable, fitted.feasibility.auroc), (certified, None));
        assert_eq!(fitted.feasibility.certified_local, f64::from(u8::from(certified)));
    }
    // Costs of some only, or of none that counts.
    let mut priced = examples.clone();
    priced[3].cost = Some(1.0);
    let target = Target { risk: None, cost: Some(0.5), delta: 0.1 };
    assert!(fit(&priced, &target, 0).unwrap_err().to_string().contains("has no cost"));
    priced.iter_mut().for_each(|example| example.cost = Some(0.0));
    assert!(fit(&priced, &target, 0).unwrap_err().to_string().contains("cost 0"));
    let unpriced = fit(&examples, &target, 0).unwrap();
    let last = unpriced.certified.last().unwrap();
    assert!((0.4..0.5).contains(&(1.0 - last.local)), "{last:?}");
}
