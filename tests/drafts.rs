//! Drafts that are checked several tokens at a time: the answer is the same, token by token and bit by bit, whatever is guessed.

#[path = "common/golden.rs"]
mod golden;
#[path = "common/told.rs"]
mod told;

use golden::{GOLDEN, goldens};
use kinglet::generate::drafts::{Costs, LARGEST_BATCH};
use kinglet::generate::{Drafting, GenerateOptions};
use kinglet::grammar::{Form, Spec};
use kinglet::session::Session;
use serde_json::json;
use told::{TINY, abort_after, ask, drafting, from_ids, load};

#[test]
fn every_golden_model_says_the_same() {
    // A prompt that is read in another cut is rounded otherwise where weights are floats.
    let base = GenerateOptions { max_tokens: Some(40), cache_prompt: false, ..Default::default() };
    let greedy = GenerateOptions { temperature: 0.0, ignore_eos: true, ..base.clone() };
    let sampled = GenerateOptions { temperature: 0.9, seed: Some(3), ..base.clone() };
    let cases = [
        greedy.clone(),
        GenerateOptions { top_logprobs: 5, logprobs: true, ..greedy.clone() },
        GenerateOptions { repeat_penalty: 1.3, presence_penalty: 0.4, frequency_penalty: 0.2, ..greedy },
        sampled.clone(),
        GenerateOptions { seed: Some(4), top_k: 0, top_p: 0.8, min_p: 0.02, temperature: 0.5, ..sampled.clone() },
        GenerateOptions { logit_bias: [(7, 4.0), (9, -3.0)].into(), frequency_penalty: 0.5, ..sampled },
    ];
    let (mut drafted, mut accepted) = (0, 0);
    for (name, golden, _) in goldens() {
        let mut session = load(&format!("{GOLDEN}/{name}.gguf"));
        let mut prompts = golden.prompts.clone();
        prompts.truncate(1);
        // Twice the same, so that there is something to find; and the one that crosses an original context.
        prompts[0] = [&prompts[0][..], &prompts[0]].concat();
        prompts[0].truncate(200);
        prompts.extend(golden.conversation.map(|conversation| conversation.prompt));
        for prompt in prompts {
            for options in &cases {
                let (plain, none) = from_ids(&mut session, &prompt, drafting(Drafting::Never, options));
                assert_eq!(none.drafted_tokens, 0);
                for how in [Drafting::Always, Drafting::Auto] {
                    let (told, stats) = from_ids(&mut session, &prompt, drafting(how, options));
                    assert!(told == plain, "{name} {how:?} {options:?}");
                    assert!(stats.accepted_tokens <= stats.drafted_tokens && stats.accepted_tokens < 40);
                    (drafted, accepted) = (drafted + stats.drafted_tokens, accepted + stats.accepted_tokens);
                }
            }
        }
    }
    assert!(accepted > 500 && drafted > accepted, "{accepted} of {drafted} drafted tokens were right");
}

#[test]
fn stop_strings_and_limits_end_it_at_the_same_place() {
    let mut session = load(TINY);
    let ask = |session: &mut Session, more: serde_json::Value| {
        let mut request = json!({ "messages": [{ "role": "user", "content": "Tell me a story about a bird." }], "temperature": 0, "max_tokens": 120 });
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        ask(session, request, None)
    };
    let (whole, _) = ask(&mut session, json!({ "drafts": "never" }));
    let text = whole.text();
    let word = text.split(' ').nth(12).unwrap();
    for more in [
        json!({ "stop": [word] }),
        json!({ "max_tokens": 1 }),
        json!({ "max_tokens": 17 }),
        json!({ "ignore_eos": true, "max_tokens": 90 }),
    ] {
        let with = |drafts: &str| {
            let mut more = more.clone();
            more["drafts"] = drafts.into();
            more["prediction"] = text.clone().into();
            more
        };
        let (plain, _) = ask(&mut session, with("never"));
        let (told, stats) = ask(&mut session, with("always"));
        assert_eq!(told, plain, "{more}");
        assert!(plain.completion_tokens == 1 || stats.predicted_accepted_tokens > 0, "{more} {stats:?}");
        // The next one finds the cache as it should be.
        assert_eq!(ask(&mut session, json!({ "drafts": "never" })).0, whole);
    }
}

#[test]
fn a_prediction_that_is_right_takes_an_eighth_of_the_passes() {
    let mut session = load(TINY);
    let request = |drafts: &str, prediction: &str| {
        json!({
            "messages": [{ "role": "user", "content": "Tell me a story about a bird." }],
            "temperature": 0.8, "seed": 5, "max_tokens": 100, "drafts": drafts, "prediction": prediction,
        })
    };
    let (plain, _) = ask(&mut session, request("never", ""), None);
    let n = plain.completion_tokens;
    assert!(n > 40);
    let text = plain.text();
    let (told, stats) = ask(&mut session, request("always", &text), None);
    assert_eq!(told, plain);
    // A pass for the prompt, which chooses the first token; each other one chooses eight.
    assert!(n - stats.accepted_tokens <= 3 + n.div_ceil(LARGEST_BATCH), "{stats:?}");
    let (told, stats) = ask(&mut session, request("auto", &text), None);
    assert_eq!(told, plain);
    assert!(stats.predicted_accepted_tokens > n / 2, "{stats:?}");

    // A word is another one: the rest is found again.
    let changed = text.replacen(text.split(' ').nth(8).unwrap(), "hippopotamus", 1);
    let (told, stats) = ask(&mut session, request("auto", &changed), None);
    assert_eq!(told, plain);
    assert!(stats.predicted_accepted_tokens > n / 3, "{stats:?}");

    let garbage = "0123456789 ".repeat(20);
    for drafts in ["auto", "always"] {
        let (told, stats) = ask(&mut session, request(drafts, &garbage), None);
        assert_eq!(told, plain);
        assert!(stats.predicted_accepted_tokens <= 1, "{stats:?}");
        if drafts == "auto" {
            assert!(stats.predicted_drafted_tokens <= 14, "it is given up soon: {stats:?}");
        }
    }
}

#[test]
fn forms_are_kept() {
    let mut session = load(TINY);
    let schema = json!({
        "type": "array", "minItems": 4, "maxItems": 6,
        "items": {
            "type": "object", "additionalProperties": false, "required": ["name", "colour"],
            "properties": { "name": { "type": "string", "maxLength": 8 }, "colour": { "enum": ["red", "green"] } },
        },
    });
    let form = Spec { form: Form::JsonSchema { schema }, close_within_budget: true };
    let mut accepted = 0;
    for (temperature, max_tokens) in [(0.0, 200), (0.9, 200), (0.9, 100)] {
        let request = |drafts: &str| {
            json!({
                "messages": [{ "role": "user", "content": "Who are you?" }],
                "temperature": temperature, "seed": 1, "max_tokens": max_tokens, "drafts": drafts,
            })
        };
        let (plain, _) = ask(&mut session, request("never"), Some(&form));
        for drafts in ["always", "auto"] {
            let (told, stats) = ask(&mut session, request(drafts), Some(&form));
            assert_eq!(told, plain);
            accepted += stats.accepted_tokens;
        }
        serde_json::from_str::<serde_json::Value>(&plain.text()).unwrap();
    }
    assert!(accepted > 60, "{accepted}");
}

#[test]
fn an_end_in_the_middle_of_a_draft_leaves_a_cache_that_is_true() {
    let mut session = load(TINY);
    let prompt = session.tokenize("The bird sat on a branch. The bird sat on a branch. The bird sat");
    let options = GenerateOptions { temperature: 0.0, max_tokens: Some(60), ..Default::default() };
    let (plain, _) = from_ids(&mut session, &prompt, drafting(Drafting::Never, &options));
    for tokens in 1..12 {
        abort_after(tokens, &mut session, &prompt, &drafting(Drafting::Always, &options));
        let (told, stats) = from_ids(&mut session, &prompt, drafting(Drafting::Always, &options));
        assert_eq!(told, plain);
        assert_eq!(stats.cached_tokens, prompt.len() - 1);
    }
}

#[test]
fn what_costs_too_much_is_not_drafted() {
    let mut costs = Costs::default();
    assert!((2..=LARGEST_BATCH).all(|n| costs.of_batch(n) >= costs.of_batch(n - 1) && costs.of_batch(n) < n as f64));
    for _ in 0..20 {
        costs.learn(1, 5.0);
        costs.learn(4, 8.0);
        costs.learn(8, 100.0);
        costs.learn(2, 0.0);
    }
    assert!((costs.of_batch(4) - 1.6).abs() < 0.05, "{costs:?}");
    assert!(costs.of_batch(8) > 7.0 && costs.of_batch(8) <= 8.0, "not more than single tokens: {costs:?}");
    assert!((costs.of_batch(2) - Costs::default().of_batch(2)).abs() < 1e-9, "no clock, no news");
    for _ in 0..1000 {
        costs.learn(1, 5.0);
    }
    assert!((costs.of_batch(8) - Costs::default().of_batch(8)).abs() < 0.1, "a bad moment is forgiven: {costs:?}");
}
