use super::{ModelOptions, print};
use kinglet::generate::FinishReason;
use kinglet::router::json::Value as RequestValue;
use kinglet::router::record::Reason;
use kinglet::router::veto::veto;
use kinglet::session::{Request, Step};
use kinglet::text::Message;
use kinglet::{Error, Result};
use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// Answer questions, each by itself; with a label added to each line the output is what `calibrate` reads
#[derive(clap::Args)]
pub struct Options {
    #[command(flatten)]
    model: ModelOptions,
    /// JSON lines with a "question"; what else a line has is kept
    #[arg(long, value_name = "FILE")]
    questions: PathBuf,
    /// The sampling options as JSON, e.g. {"temperature": 0}
    #[arg(long)]
    sampler: Option<String>,
}

/// Adds "answer", "signals" and "veto" to each line: why a router would not keep the answer whatever its confidence, or null.
pub fn main(options: &Options) -> Result<()> {
    let sampler = super::route::sampler(options.sampler.as_deref())?;
    let text = super::route::read_text(&options.questions)?;
    let mut session = options.model.load()?;
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let wrong =
            |problem: String| Error::BadRequest(format!("{}: line {}: {problem}", options.questions.display(), i + 1));
        let mut row: Map<String, Value> =
            serde_json::from_str(line).map_err(|error| wrong(format!("no JSON object: {error}")))?;
        let question =
            row.get("question").and_then(Value::as_str).ok_or_else(|| wrong("it has no \"question\"".into()))?;
        let message = Message { role: "user".into(), content: question.to_string().into(), rest: Default::default() };
        let request = Request { messages: Some(vec![message]), options: sampler.clone(), ..Request::default() };
        session.start(&request)?;
        let mut answer = String::new();
        let (reason, signals) = loop {
            match pollster::block_on(session.step())? {
                Step::Prefill { .. } => {}
                Step::Token { text, .. } => answer += &text,
                Step::Done { text, reason, signals, .. } => {
                    answer += &text;
                    break (reason, signals);
                }
            }
        };
        // As a router does: whoever sets a limit expects a cut.
        let cut = reason == FinishReason::Length && sampler.max_tokens.is_none();
        let veto = veto(&answer, cut, &RequestValue::Null);
        row.insert("answer".into(), answer.into());
        row.insert("veto".into(), veto.map(|veto| Reason::Veto(veto).name()).into());
        row.insert("signals".into(), json!(signals));
        print(&format!("{}\n", Value::Object(row)))?;
    }
    Ok(())
}
