//! A draft model guesses: the answer is the same, token by token and bit by bit, whatever it says; and it rests where it does
//! not pay.

#[path = "common/golden.rs"]
mod golden;
#[path = "common/told.rs"]
mod told;

use golden::{GOLDEN, goldens};
use kinglet::ErrorCode;
use kinglet::backend::cpu::CpuBackend;
use kinglet::backend::cpu::pool::Pool;
use kinglet::formats::Checkpoint;
use kinglet::generate::drafts::{Costs, LARGEST_BATCH};
use kinglet::generate::trust::{Guess, Trust};
use kinglet::generate::{Drafting, GenerateOptions};
use kinglet::grammar::{Form, Spec};
use kinglet::session::{LoadOptions, Session};
use kinglet::source::{FileSource, MemorySource};
use kinglet::{Error, Result};
use pollster::block_on;
use serde_json::{Value, json};
use told::{TINY, abort_after, ask, drafting, from_ids, load};

fn golden_file(name: &str) -> String {
    format!("{GOLDEN}/{name}.gguf")
}

fn with_draft(model: &str, draft: &str) -> Session {
    let mut session = load(model);
    take(&mut session, draft).unwrap();
    session
}

fn take(session: &mut Session, draft: &str) -> Result<()> {
    block_on(session.load_draft(&mut [FileSource::open(draft)?], |_, _| {}))
}

fn story(more: Value) -> Value {
    let mut request = json!({
        "messages": [{ "role": "user", "content": "Tell me a story about a bird." }], "temperature": 0, "max_tokens": 100,
    });
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    request
}

#[test]
fn every_golden_model_says_the_same() {
    let base = GenerateOptions { max_tokens: Some(32), cache_prompt: false, ..Default::default() };
    let greedy = GenerateOptions { temperature: 0.0, ignore_eos: true, ..base.clone() };
    let sampled = GenerateOptions { temperature: 0.8, seed: Some(3), ..base };
    let cases = [
        greedy.clone(),
        GenerateOptions { top_logprobs: 5, logprobs: true, repeat_penalty: 1.3, frequency_penalty: 0.2, ..greedy },
        GenerateOptions { seed: Some(4), top_k: 0, top_p: 0.8, min_p: 0.02, ..sampled.clone() },
        GenerateOptions { logit_bias: [(7, 4.0), (9, -3.0)].into(), ..sampled },
    ];
    let goldens = goldens();
    let (mut own, mut others) = ([0, 0], [0, 0]);
    for (i, (name, golden, _)) in goldens.iter().enumerate() {
        let mut session = load(&golden_file(name));
        // All of them have one vocabulary. The third is of another family.
        let other = &goldens[(i + goldens.len() / 2) % goldens.len()].0;
        let mut prompts = vec![golden.prompts[0].clone()];
        prompts.extend(golden.conversation.as_ref().map(|conversation| conversation.prompt.clone()));
        for (draft, counts) in [(name, &mut own), (other, &mut others)] {
            take(&mut session, &golden_file(draft)).unwrap();
            for prompt in &prompts {
                for (case, options) in cases.iter().enumerate() {
                    let (plain, none) = from_ids(&mut session, prompt, drafting(Drafting::Never, options));
                    assert_eq!((none.drafted_tokens, none.draft_ms), (0, 0.0));
                    for how in [Drafting::Always, Drafting::Auto] {
                        let (told, stats) = from_ids(&mut session, prompt, drafting(how, options));
                        assert!(told == plain, "{name} with {draft} {how:?} {options:?}");
                        assert!(stats.model_accepted_tokens <= stats.model_drafted_tokens);
                        if how == Drafting::Always && case == 0 {
                            counts[0] += stats.model_drafted_tokens;
                            counts[1] += stats.model_accepted_tokens;
                        }
                    }
                }
            }
        }
    }
    // Its own guesses are rounded otherwise where it read them in another cut.
    assert!(own[0] > 500 && own[1] as f64 > 0.95 * own[0] as f64, "{own:?}");
    assert!(others[0] > 500 && (others[1] as f64) < 0.3 * others[0] as f64, "{others:?}");
}

#[test]
fn one_that_is_always_right_takes_an_eighth_of_the_passes() {
    let mut session = with_draft(TINY, TINY);
    assert_eq!(session.info().draft.as_deref(), Some("Kinglet Tiny"));
    let (plain, _) = ask(&mut session, story(json!({ "drafts": "never" })), None);
    let n = plain.completion_tokens;
    assert!(n > 40);
    let (told, stats) = ask(&mut session, story(json!({ "drafts": "always" })), None);
    assert!(told == plain);
    assert!(n - stats.accepted_tokens <= 3 + n.div_ceil(LARGEST_BATCH), "{stats:?}");
    assert!(stats.model_accepted_tokens > n / 2, "{stats:?}");
    // As large as the model itself, it cannot pay.
    let (told, stats) = ask(&mut session, story(json!({})), None);
    assert_eq!((told, stats.model_drafted_tokens), (plain, 0));
}

#[test]
fn stop_strings_limits_and_forms_end_it_at_the_same_place() {
    let mut session = with_draft(TINY, TINY);
    let (whole, _) = ask(&mut session, story(json!({ "drafts": "never" })), None);
    let word = whole.text().split(' ').nth(12).unwrap().to_string();
    let schema = json!({
        "type": "array", "minItems": 3, "maxItems": 5,
        "items": {
            "type": "object", "additionalProperties": false, "required": ["name"],
            "properties": { "name": { "type": "string", "maxLength": 8 } },
        },
    });
    let form = Spec { form: Form::JsonSchema { schema }, close_within_budget: true };
    let cases = [
        (json!({ "stop": [word] }), None),
        (json!({ "max_tokens": 2 }), None),
        (json!({ "max_tokens": 17 }), None),
        (json!({ "ignore_eos": true, "max_tokens": 90 }), None),
        (json!({ "temperature": 0.9, "seed": 7, "max_tokens": 150 }), Some(&form)),
    ];
    for (more, form) in cases {
        let with = |drafts: &str| {
            let mut more = more.clone();
            more["drafts"] = drafts.into();
            story(more)
        };
        let (plain, _) = ask(&mut session, with("never"), form);
        let (told, stats) = ask(&mut session, with("always"), form);
        assert!(told == plain, "{more}");
        assert!(plain.completion_tokens <= 2 || stats.drafted_tokens > 0, "{more} {stats:?}");
        assert_eq!(ask(&mut session, story(json!({ "drafts": "never" })), None).0, whole);
    }
}

#[test]
fn an_end_in_the_middle_leaves_caches_that_are_true() {
    let mut session = with_draft(TINY, TINY);
    let prompt = session.tokenize("Tell me a story about a bird that sat on a branch.");
    let options = GenerateOptions { temperature: 0.0, max_tokens: Some(60), ignore_eos: true, ..Default::default() };
    let (plain, _) = from_ids(&mut session, &prompt, drafting(Drafting::Never, &options));
    for tokens in 1..12 {
        abort_after(tokens, &mut session, &prompt, &drafting(Drafting::Always, &options));
        let (told, stats) = from_ids(&mut session, &prompt, drafting(Drafting::Always, &options));
        assert!(told == plain);
        assert!(stats.model_accepted_tokens >= stats.model_drafted_tokens * 9 / 10, "{stats:?}");
        // Another conversation in between.
        let (_, other) = from_ids(&mut session, &prompt[tokens..], drafting(Drafting::Always, &options));
        assert!(other.model_accepted_tokens >= other.model_drafted_tokens * 9 / 10, "{other:?}");
    }
}

#[test]
fn the_next_turn_finds_what_the_draft_has_read() {
    let mut session = with_draft(TINY, TINY);
    let prompt = session.tokenize(&"The bird sat on a branch, and it sang a song. ".repeat(20));
    assert!(prompt.len() > 300 && prompt.len() < 450, "{}", prompt.len());
    // So hot that it repeats nothing: its guesses are wanted, not those of the text.
    let options = GenerateOptions {
        temperature: 2.0,
        top_k: 0,
        top_p: 1.0,
        seed: Some(1),
        max_tokens: Some(4),
        ignore_eos: true,
        drafts: Drafting::Always,
        ..Default::default()
    };
    let mut turns = vec![];
    let mut tokens = prompt;
    for _ in 0..3 {
        let (told, stats) = from_ids(&mut session, &tokens, options.clone());
        tokens.extend(told.tokens.iter().map(|token| token.0));
        tokens.extend(session.tokenize(" Then what?"));
        turns.push(stats.model_drafted_tokens);
    }
    // Three batches had to be read first, and the answer was over.
    assert_eq!(turns[0], 0);
    assert!(turns[1] + turns[2] > 0, "{turns:?}");
}

#[test]
fn where_its_context_ends_drafting_stops() {
    let mut session = with_draft(&golden_file("q4_0"), &golden_file("mistral_k"));
    // The file says 256 of either; the session's 512 are the model's alone.
    let prompt: Vec<u32> = (0..240).map(|i| 3 + i * 7 % 300).collect();
    let options = GenerateOptions {
        temperature: 5.0,
        top_k: 0,
        top_p: 1.0,
        seed: Some(1),
        ignore_eos: true,
        cache_prompt: false,
        max_tokens: Some(60),
        ..Default::default()
    };
    let (plain, _) = from_ids(&mut session, &prompt, drafting(Drafting::Never, &options));
    let (told, stats) = from_ids(&mut session, &prompt, drafting(Drafting::Always, &options));
    assert!(told == plain);
    assert_eq!(plain.completion_tokens, 60);
    assert!(stats.model_drafted_tokens > 0 && stats.model_drafted_tokens < 60, "{stats:?}");
    let beyond: Vec<u32> = prompt.iter().chain(&prompt[..60]).copied().collect();
    let (told, stats) = from_ids(&mut session, &beyond, drafting(Drafting::Always, &options));
    assert_eq!((told.completion_tokens, stats.model_drafted_tokens), (60, 0));
}

#[test]
fn what_says_nothing_sensible_does_no_harm() {
    let mut file = std::fs::read(TINY).unwrap();
    let checkpoint = block_on(Checkpoint::open(&mut [MemorySource(&file[..])])).unwrap();
    let first = checkpoint.tensors.iter().map(|tensor| tensor.offset).min().unwrap() as usize;
    // Scales and norms that are not numbers.
    file[first..].fill(0xff);
    let mut session = load(TINY);
    let (plain, _) = ask(&mut session, story(json!({ "drafts": "never" })), None);
    block_on(session.load_draft(&mut [MemorySource(&file[..])], |_, _| {})).unwrap();
    for drafts in ["always", "auto"] {
        let (told, stats) = ask(&mut session, story(json!({ "drafts": drafts })), None);
        assert!(told == plain);
        assert!(stats.model_accepted_tokens <= 2, "{stats:?}");
    }
}

#[test]
fn threads_are_shared() {
    let load = |threads| {
        let options = LoadOptions { clock: || 0.0, ..LoadOptions::default() };
        let backend = async |spec, _| Ok(CpuBackend::with_pool(spec, Pool::new(threads)?.eager()));
        let mut session =
            block_on(Session::load_on(backend, &mut [FileSource::open(TINY).unwrap()], options, |_, _| {})).unwrap();
        take(&mut session, TINY).unwrap();
        session
    };
    let request = story(json!({ "drafts": "always", "temperature": 0.7, "seed": 1 }));
    let [mut one, mut three] = [1, 3].map(load);
    for _ in 0..3 {
        // What is drafted depends on what was learnt from the answers before.
        let [(alone, stats), (shared, same)] =
            [&mut one, &mut three].map(|session| ask(session, request.clone(), None));
        assert_eq!((shared, same.model_accepted_tokens), (alone, stats.model_accepted_tokens));
    }
}

/// The same model with weights of four times the bytes.
fn in_floats(file: &[u8]) -> Vec<u8> {
    let checkpoint = block_on(Checkpoint::open(&mut [MemorySource(file)])).unwrap();
    let name = b"\x11\0\0\0\0\0\0\0token_embd.weight";
    let mut out = file[..file.windows(name.len()).position(|bytes| bytes == name).unwrap()].to_vec();
    let mut data: Vec<u8> = vec![];
    for tensor in &checkpoint.tensors {
        out.extend((tensor.name.len() as u64).to_le_bytes());
        out.extend(tensor.name.as_bytes());
        out.extend((tensor.shape.len() as u32).to_le_bytes());
        tensor.shape.iter().rev().for_each(|&n| out.extend((n as u64).to_le_bytes()));
        // F32.
        out.extend(0u32.to_le_bytes());
        out.extend((data.len() as u64).to_le_bytes());
        let mut values = vec![0.0; tensor.elements() as usize];
        let bytes = &file[tensor.offset as usize..][..tensor.bytes as usize];
        tensor.format().unwrap().dequantize(bytes, &mut values);
        data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        data.resize(data.len().next_multiple_of(32), 0);
    }
    out.resize(out.len().next_multiple_of(32), 0);
    out.extend(data);
    out
}

#[test]
fn it_is_used_where_it_pays_and_rests_where_not() {
    let file = std::fs::read(TINY).unwrap();
    let large = in_floats(&file);
    let mut wrong = file.clone();
    // Scales are halves: the first of each block's 34 bytes.
    let checkpoint = block_on(Checkpoint::open(&mut [MemorySource(&file[..])])).unwrap();
    for tensor in checkpoint.tensors.iter().filter(|tensor| tensor.name.contains("ffn_down")) {
        for block in wrong[tensor.offset as usize..][..tensor.bytes as usize].chunks_mut(34) {
            block[2..].rotate_left(7);
        }
    }
    let options = LoadOptions { clock: || 0.0, ..LoadOptions::default() };
    let mut session = block_on(Session::load(&mut [MemorySource(&large[..])], options, |_, _| {})).unwrap();
    let mut answers = |draft: &[u8]| {
        block_on(session.load_draft(&mut [MemorySource(draft)], |_, _| {})).unwrap();
        let mut of_model = vec![];
        for bird in ["bird", "cat", "tree", "river", "fox", "stone"] {
            let request = |drafts| {
                let content = format!("Tell me a story about a {bird}.");
                story(
                    json!({ "messages": [{ "role": "user", "content": content }], "drafts": drafts, "ignore_eos": true, "cache_prompt": false }),
                )
            };
            let (plain, _) = ask(&mut session, request("never"), None);
            let (told, stats) = ask(&mut session, request("auto"), None);
            assert!(told == plain);
            of_model.push((stats.model_drafted_tokens, stats.model_accepted_tokens));
        }
        of_model
    };
    // It is not trusted so far at first, and has to be read along with.
    let right = answers(&file);
    let (drafted, accepted) = right[3..].iter().fold((0, 0), |sum, more| (sum.0 + more.0, sum.1 + more.1));
    assert!(right[0] == (0, 0) && accepted > 100 && accepted * 10 > drafted * 8, "{right:?}");
    let wrong = answers(&wrong);
    let drafted: usize = wrong.iter().map(|&(drafted, _)| drafted).sum();
    assert!(drafted <= 12, "it is given up soon: {wrong:?}");
}

#[test]
fn what_the_request_predicts_goes_before_it() {
    let mut session = with_draft(TINY, TINY);
    let (plain, _) = ask(&mut session, story(json!({ "drafts": "never" })), None);
    let text = plain.text();
    let (told, stats) = ask(&mut session, story(json!({ "drafts": "always", "prediction": text })), None);
    assert!(told == plain);
    assert!(stats.predicted_accepted_tokens > plain.completion_tokens / 2, "{stats:?}");
    // It is free, and the draft model is not.
    assert!(stats.model_drafted_tokens < plain.completion_tokens / 8, "{stats:?}");
}

#[test]
fn finding_out_costs_a_fiftieth() {
    let costs = Costs::default();
    let guess = Guess::of(&[0.0, 30.0, 0.0]).unwrap();
    assert_eq!(guess.token, 1);
    let mut trust = Trust::new(0.1);
    let pays = |trust: &Trust| trust.plan(Drafting::Auto, &[], 7, &costs).is_some();
    assert!(pays(&trust) && !pays(&Trust::new(1.0)));
    assert!(Trust::new(1.0).plan(Drafting::Always, &[], 7, &costs).is_some_and(|plan| plan.tokens == 7));
    for _ in 0..10 {
        trust.learn(guess, false);
    }
    assert!(!pays(&trust) && !trust.may_be_tried(50, 7, &costs), "nothing is saved up yet");
    // 50 tokens that are read cost 1.5 of the model's own.
    let mut rested = 0;
    while !trust.may_be_tried(50, 7, &costs) {
        trust.rest();
        rested += 1;
    }
    assert!((74..=76).contains(&rested), "{rested}");
    trust.has_read(50, None);
    assert!(!trust.may_be_tried(10, 7, &costs));
    for _ in 0..60 {
        trust.learn(guess, true);
    }
    assert!(pays(&trust), "what is right again is used again");
    // One that could not pay if it were always right is not tried.
    let mut large = Trust::new(1.0);
    for _ in 0..10_000 {
        large.rest();
    }
    assert!(!large.may_be_tried(1, 7, &costs));
    // A short answer is not worth a long prompt.
    let plan = trust.plan(Drafting::Auto, &[], 7, &costs).unwrap();
    assert!(trust.pays_for(100, plan, 100) && !trust.pays_for(100, plan, 5) && !trust.pays_for(5000, plan, 5000));
}

#[test]
fn others_are_refused() {
    let mut session = load(TINY);
    let error = take(&mut session, &golden_file("q4_0")).unwrap_err();
    assert_eq!(error.code(), ErrorCode::BadRequest);
    let said = error.to_string();
    assert!(["Kinglet Tiny", "320 tokens, not 2560", "same family"].iter().all(|word| said.contains(word)), "{said}");
    assert_eq!(session.info().draft, None);

    // One token has another name.
    let mut file = std::fs::read(TINY).unwrap();
    let name = b"<|im_start|>";
    let at = file.windows(name.len()).position(|bytes| bytes == name).unwrap();
    file[at + 2] = b'x';
    let error = block_on(session.load_draft(&mut [MemorySource(&file[..])], |_, _| {})).unwrap_err();
    let said = error.to_string();
    assert!(said.contains("its token 1 is \"<|xm_start|>\", not \"<|im_start|>\""), "{said}");

    let broken = block_on(session.load_draft(&mut [MemorySource(&file[..100_000])], |_, _| {}));
    assert!(matches!(broken, Err(Error::Truncated { .. })), "{broken:?}");
    take(&mut session, TINY).unwrap();
}

#[test]
fn both_have_to_fit() {
    let limited = |limit| {
        let options = LoadOptions { memory_limit: limit, context_length: Some(512), ..LoadOptions::default() };
        block_on(Session::load(&mut [FileSource::open(TINY).unwrap()], options, |_, _| {}))
    };
    let mut session = limited(None).unwrap();
    let alone = session.memory().total();
    take(&mut session, TINY).unwrap();
    assert_eq!(session.memory().weights, 2 * limited(None).unwrap().memory().weights);
    assert!(session.memory().total() >= 2 * alone);
    // The cache of a full context is not there yet.
    let Error::OutOfMemory { need_bytes, .. } = limited(Some(1000)).err().unwrap() else { panic!() };
    assert!(need_bytes > alone);
    let mut session = limited(Some(2 * need_bytes - 1)).unwrap();
    match take(&mut session, TINY).unwrap_err() {
        Error::OutOfMemory { need_bytes: needed, available_bytes, advice, .. } => {
            assert_eq!((needed, available_bytes), (need_bytes, need_bytes - 1));
            assert!(advice.contains("leave it out"), "{advice}");
        }
        other => panic!("{other}"),
    }
    take(&mut limited(Some(2 * need_bytes)).unwrap(), TINY).unwrap();
}
