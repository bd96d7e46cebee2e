//! Recorded answers, and made-up ones that behave alike for where those are absent.

use kinglet::generate::sampler::SplitMix64;
use kinglet::generate::signals::summarize;
use kinglet::generate::{AnswerSignals, SignalSum};
use kinglet::num::half::f16_to_f32;
use kinglet::router::examples::Example;
use std::path::{Path, PathBuf};

const OPTIONS: usize = 6;
const QUESTIONS: usize = 10_000;
const TASKS: [&str; 5] = ["MMLU", "CosmosQA", "HellaSwag", "dialogue", "summaries"];
const MODELS: [&str; 4] = ["Qwen-1.8B", "Qwen-7B", "Mistral-7B", "Qwen-72B"];
const STRONG: usize = 3;

/// A weak model's answers to one task, labelled with the strong one's agreement.
#[derive(Clone)]
pub struct Answers {
    pub name: String,
    pub examples: Vec<Example>,
}

/// `None`: the checkout has no shared data beside it.
pub fn folder() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/routing");
    folder.is_dir().then_some(folder)
}

/// What the engine says of an answer of one token with these logits.
fn signals(logits: &[f32]) -> (usize, AnswerSignals) {
    let summary = summarize(logits, logits.len());
    let best = summary.top[0].0;
    let signals = summary.signals(logits, best);
    let top: Vec<f32> = summary.top.iter().map(|&(_, logit)| summary.logprob(logit)).collect();
    let mut sum = SignalSum::default();
    sum.first_content(&top, signals.entropy);
    sum.push(signals);
    (best as usize, sum.get())
}

fn example(i: usize, signals: AnswerSignals, label: bool) -> Example {
    Example { id: i.to_string(), group: None, signals, label: Some(label), cost: None }
}

/// The recorded option logits, or made-up ones with about that error rate and ranking.
pub fn answers(task: &str, model: &str) -> Answers {
    let name = format!("{model} on {task}");
    let Some(folder) = folder() else { return made_up(&name, Shape::of(&name)) };
    let bytes = std::fs::read(folder.join("option-logits-f16.bin")).unwrap();
    let task = TASKS.iter().position(|known| *known == task).unwrap();
    let model = MODELS.iter().position(|known| *known == model).unwrap();
    let row = |model: usize, question: usize| -> Vec<f32> {
        let start = 2 * OPTIONS * ((task * MODELS.len() + model) * QUESTIONS + question);
        let halves = bytes[start..start + 2 * OPTIONS].chunks_exact(2);
        halves.map(|half| f16_to_f32(u16::from_le_bytes([half[0], half[1]]))).collect()
    };
    let examples = (0..QUESTIONS).map(|question| {
        let (weak, of_weak) = signals(&row(model, question));
        let (strong, _) = signals(&row(STRONG, question));
        example(question, of_weak, weak == strong)
    });
    Answers { name, examples: examples.collect() }
}

/// Of made-up answers: the spread of the option logits, and how much of their confidence is true.
#[derive(Clone, Copy)]
pub struct Shape {
    pub spread: f64,
    pub truth: f64,
}

impl Shape {
    pub fn of(name: &str) -> Self {
        match name {
            "Qwen-7B on CosmosQA" => Self { spread: 6.5, truth: 1.0 },
            "Mistral-7B on CosmosQA" => Self { spread: 6.0, truth: 1.0 },
            "Qwen-1.8B on MMLU" => Self { spread: 1.3, truth: 0.95 },
            _ => Self { spread: 2.3, truth: 0.95 },
        }
    }
}

pub fn made_up(name: &str, shape: Shape) -> Answers {
    let mut random = SplitMix64(name.bytes().map(u64::from).sum());
    let mut unit = move || random.next_u64() as f64 / u64::MAX as f64;
    let examples = (0..QUESTIONS).map(|question| {
        // Questions differ in how clear they are.
        let spread = shape.spread * (0.3 + 1.4 * unit());
        let logits: Vec<f32> = (0..OPTIONS).map(|_| (spread * (unit() + unit() + unit() - 1.5) * 2.0) as f32).collect();
        let (weak, of_weak) = signals(&logits);
        let weights: Vec<f64> = logits.iter().map(|&logit| (shape.truth * f64::from(logit)).exp()).collect();
        let mut left = unit() * weights.iter().sum::<f64>();
        let strong = weights.iter().position(|weight| {
            left -= weight;
            left <= 0.0
        });
        example(question, of_weak, strong == Some(weak))
    });
    Answers { name: format!("{name} (made up)"), examples: examples.collect() }
}

impl Answers {
    /// `n` random examples to learn from, and the others.
    pub fn split(&self, n: usize, random: &mut SplitMix64) -> (Vec<Example>, Vec<&Example>) {
        let mut order: Vec<usize> = (0..self.examples.len()).collect();
        random.shuffle(&mut order);
        let (learn, rest) = order.split_at(n);
        (learn.iter().map(|&i| self.examples[i].clone()).collect(), rest.iter().map(|&i| &self.examples[i]).collect())
    }

    pub fn error_rate(&self) -> f64 {
        self.examples.iter().filter(|example| example.label == Some(false)).count() as f64 / self.examples.len() as f64
    }
}

/// Rows of a CSV file with quoted fields of several lines, without the header.
pub fn csv(text: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut field, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => field.extend(chars.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut field)),
            '\n' if !quoted => {
                row.push(std::mem::take(&mut field));
                rows.push(std::mem::take(&mut row));
            }
            '\r' if !quoted => {}
            c => field.push(c),
        }
    }
    if !field.is_empty() || !row.is_empty() {
        row.push(field);
        rows.push(row);
    }
    rows.split_off(1.min(rows.len()))
}
