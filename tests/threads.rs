//! The CPU backend's pool of threads: the results of one thread to the last bit, with any number of them, whatever they are
//! in the middle of; and the pool itself.

#[path = "common/golden.rs"]
mod golden;
#[path = "common/random_model.rs"]
mod random_model;

use golden::*;
use kinglet::backend::cpu::CpuBackend;
use kinglet::backend::cpu::pool::{MOST_THREADS, Parts, Pool};
use kinglet::backend::{Backend, DecoderSpec, HeadRows};
use kinglet::formats::Format;
use kinglet::generate::GenerateOptions;
use kinglet::generate::sampler::SplitMix64;
use kinglet::model::decoder::forward;
use kinglet::session::{LoadOptions, Session, Step};
use kinglet::source::FileSource;
use pollster::block_on;
use random_model::{Formats, Model};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Work of any size is divided.
fn on(threads: usize) -> impl Fn(DecoderSpec) -> CpuBackend {
    move |spec| CpuBackend::with_pool(spec, Pool::new(threads).unwrap().eager())
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn golden_models_agree_with_transformers() {
    for threads in [2, 3] {
        assert_eq!(check(on(threads), tolerance, usize::MAX), all_cells());
        check(on(threads), tolerance, 1);
    }
    check_conversations(async |spec, _| Ok(on(3)(spec)));
    check_story(async |spec, _| Ok(on(2)(spec)), 1e-4);
}

#[test]
fn golden_models_give_the_same_bits() {
    for (name, golden, _) in goldens() {
        let path = format!("{GOLDEN}/{name}.gguf");
        let [mut one, mut two, mut three] = [1, 2, 3].map(|threads| load(&path, on(threads)));
        for prompt in &golden.prompts {
            for chunk in [usize::MAX, 5, 1] {
                let alone = bits(&run(&mut one, prompt, chunk));
                assert_eq!(bits(&run(&mut two, prompt, chunk)), alone, "{name} in batches of {chunk}");
                assert_eq!(bits(&run(&mut three, prompt, chunk)), alone, "{name} in batches of {chunk}");
            }
        }
    }
}

/// Of every format and of several at once, with adapters, over a cache that grows.
#[test]
fn random_models_give_the_same_bits() {
    let specs = [random_model::llama(), random_model::gemma(), random_model::others()];
    for (i, format) in Format::ALL.into_iter().enumerate() {
        let mut spec = specs[i % 3].clone();
        // Whole blocks for any of the formats.
        (spec.hidden, spec.ffn) = (256, 256);
        (spec.heads, spec.kv_heads) = (8, [2, 8][i % 2]);
        let mix =
            Formats { gate: Format::F16, value: Format::Q8_0, attention_out: Format::F32, ..Formats::all(format) };
        let model = Model::new(spec, mix, i as u64);
        let pairs = model.adapter(7, 4, 100);
        let tokens: Vec<u32> = (0..300).map(|t| (t * 11 + 3) % 75).collect();
        let logits = [1, 2, 5].map(|threads| {
            let mut backend = model.load(on(threads)(model.spec.clone()));
            backend.load_adapter(1, &pairs).unwrap();
            backend.use_adapters(&[(1, 0.5)]).unwrap();
            let (mut all, mut start) = (Vec::new(), 0);
            for size in [128, 1, 2, 127, 3, 39] {
                forward(&mut backend, &tokens[start..start + size], start, HeadRows::Last).unwrap();
                all.extend(bits(block_on(backend.logits()).unwrap()));
                start += size;
            }
            all
        });
        assert_eq!(logits[1], logits[0], "{format:?} on 2 threads");
        assert_eq!(logits[2], logits[0], "{format:?} on 5 threads");
    }
}

/// Answers of a tiny model, ended at random points, each compared with one thread's.
#[test]
fn long_series_with_random_aborts() {
    let tokens = if std::env::var_os("KINGLET_SOAK").is_some() { 100_000 } else { 3_000 };
    let session = |threads| -> Session<CpuBackend> {
        let mut shards = [FileSource::open(format!("{GOLDEN}/q4_0.gguf")).unwrap()];
        let backend = async |spec, _| Ok(on(threads)(spec));
        block_on(Session::load_on(backend, &mut shards, LoadOptions::default(), |_, _| {})).unwrap()
    };
    let [mut alone, mut several] = [1, 3].map(session);
    let (vocabulary, context) = (alone.info().vocabulary as u64, alone.info().context_length as u64);
    let mut random = SplitMix64(5);
    let mut below = |n: u64| random.next_u64() % n;
    let mut seen = 0;
    while seen < tokens {
        let prompt: Vec<u32> = (0..1 + below(context / 2)).map(|_| below(vocabulary) as u32).collect();
        let options = GenerateOptions {
            temperature: 1.0,
            seed: Some(below(1 << 32)),
            max_tokens: Some(1 + below(context / 2) as usize),
            ignore_eos: true,
            cache_prompt: below(2) == 0,
            ..GenerateOptions::default()
        };
        let steps = below(context);
        let mut answers = [&mut alone, &mut several].map(|session| {
            session.start_tokens(prompt.clone(), &options, false).unwrap();
            let mut said = Vec::new();
            for _ in 0..steps {
                match block_on(session.step()).unwrap() {
                    Step::Prefill { .. } => {}
                    Step::Token { id, signals, .. } => said.push((id, signals.logprob.to_bits())),
                    Step::Done { .. } => break,
                }
            }
            session.abort();
            said
        });
        let [ref alone, ref several] = answers;
        assert_eq!(alone, several, "after {seen} tokens");
        seen += std::mem::take(&mut answers[1]).len();
    }
}

#[test]
fn every_piece_is_done_once() {
    for threads in 1..=4 {
        let mut pool = Pool::new(threads).unwrap().eager();
        for units in (0..70).chain([1000, 4097]) {
            let mut counts = vec![0u32; units];
            let parts = Parts::of(&mut counts);
            pool.divide(units, 1, |given, thread| {
                assert!(thread < threads);
                // SAFETY: units are given out once, which is what is tested.
                unsafe { parts.part(given) }.iter_mut().for_each(|count| *count += 1);
            });
            assert!(counts.iter().all(|&count| count == 1), "{units} units on {threads} threads: {counts:?}");
        }
    }
}

/// Others come late or never: the caller waits only for what somebody has begun.
#[test]
fn jobs_follow_each_other_closely() {
    let mut pool = Pool::new(3).unwrap().eager();
    for round in 0..20_000 {
        let sum = AtomicUsize::new(0);
        pool.divide(round % 23, 1, |given, _| {
            sum.fetch_add(given.map(|unit| unit + 1).sum(), Relaxed);
        });
        let units = round % 23;
        assert_eq!(sum.into_inner(), units * (units + 1) / 2);
        if round % 1000 == 0 {
            // Long enough for the others to lie down.
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
}

#[test]
fn a_panic_reaches_the_caller_and_the_pool_goes_on() {
    let mut pool = Pool::new(3).unwrap().eager();
    for round in 0..20 {
        let caught = catch_unwind(AssertUnwindSafe(|| {
            pool.divide(24, 1, |given, _| assert!(!given.contains(&(round % 24)), "unit {round}"));
        }));
        let message = *caught.unwrap_err().downcast::<String>().unwrap();
        assert_eq!(message, format!("unit {round}"));
        let sum = AtomicUsize::new(0);
        pool.divide(24, 1, |given, _| {
            sum.fetch_add(given.len(), Relaxed);
        });
        assert_eq!(sum.into_inner(), 24);
    }
}

#[test]
fn impossible_numbers_are_refused() {
    for threads in [0, MOST_THREADS + 1] {
        let error = Pool::new(threads).err().unwrap();
        assert_eq!(error.code(), kinglet::ErrorCode::BadRequest);
        assert!(error.to_string().contains(&threads.to_string()), "{error}");
    }
}
