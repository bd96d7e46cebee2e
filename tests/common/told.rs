//! All that is told of an answer.
#![allow(dead_code)]

use kinglet::generate::{AnswerSignals, Constraint, Drafting, FinishReason, GenerateOptions, Signals, TokenLogprob};
use kinglet::grammar::{Guide, Spec, Vocabulary};
use kinglet::session::{LoadOptions, Request, Session, Stats, Step};
use kinglet::source::FileSource;
use pollster::block_on;

pub const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/kinglet-tiny.gguf");

/// Costs are the usual ones: what is drafted does not depend on the machine.
pub fn load(path: &str) -> Session {
    let options = LoadOptions { clock: || 0.0, context_length: Some(512), ..LoadOptions::default() };
    block_on(Session::load(&mut [FileSource::open(path).unwrap()], options, |_, _| {})).unwrap()
}

/// All that is told of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    pub tokens: Vec<(u32, String, String, Signals, Vec<TokenLogprob>)>,
    pub so_far: Vec<AnswerSignals>,
    pub rest: String,
    pub reason: FinishReason,
    pub stop: Option<String>,
    pub signals: AnswerSignals,
    pub completion_tokens: usize,
}

impl Told {
    pub fn text(&self) -> String {
        self.tokens.iter().map(|token| token.1.as_str()).chain([self.rest.as_str()]).collect()
    }
}

pub fn finish(session: &mut Session) -> (Told, Stats) {
    let (mut tokens, mut checks) = (vec![], vec![]);
    loop {
        match block_on(session.step()).unwrap() {
            Step::Prefill { .. } => {}
            Step::Token { id, text, reasoning, signals, top_logprobs, so_far, .. } => {
                tokens.push((id, text, reasoning, signals, top_logprobs));
                checks.extend(so_far.map(|signals| *signals));
            }
            Step::Done { text, reason, stop, stats, signals, .. } => {
                let completion_tokens = stats.completion_tokens;
                let told =
                    Told { tokens, so_far: checks, rest: text, reason, stop, signals: *signals, completion_tokens };
                return (told, stats);
            }
        }
    }
}

pub fn from_ids(session: &mut Session, prompt: &[u32], options: GenerateOptions) -> (Told, Stats) {
    session.start_tokens(prompt.to_vec(), &options, false).unwrap();
    finish(session)
}

/// An answer that somebody aborts.
pub fn abort_after(steps: usize, session: &mut Session, prompt: &[u32], options: &GenerateOptions) {
    session.start_tokens(prompt.to_vec(), options, false).unwrap();
    for _ in 0..steps {
        block_on(session.step()).unwrap();
    }
    session.abort();
}

pub fn ask(session: &mut Session, request: serde_json::Value, form: Option<&Spec>) -> (Told, Stats) {
    let vocabulary = Vocabulary::of(session.tokenizer()).unwrap();
    let guide = form.map(|form| Box::new(Guide::new(&vocabulary, form).unwrap()) as Box<dyn Constraint>);
    session.start_constrained(&serde_json::from_value::<Request>(request).unwrap(), guide).unwrap();
    finish(session)
}

pub fn drafting(drafts: Drafting, options: &GenerateOptions) -> GenerateOptions {
    GenerateOptions { drafts, ..options.clone() }
}
