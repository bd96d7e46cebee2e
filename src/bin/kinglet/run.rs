use super::{ModelOptions, open_model, print};
use kinglet::backend::any::AnyBackend;
use kinglet::formats::Checkpoint;
use kinglet::generate::{Constraint, GenerateOptions};
use kinglet::grammar::{Form, Guide, Spec, Vocabulary};
use kinglet::model::arch;
use kinglet::model::memory::default_context;
use kinglet::session::{Request, Session, Stats, Step};
use kinglet::text::tokenizer::Special;
use kinglet::text::{Message, Tokenizer};
use kinglet::{Error, Result};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Continue a text, or answer a message; the text streams to stdout
#[derive(clap::Args)]
pub struct Options {
    #[command(flatten)]
    model: ModelOptions,
    #[arg(long)]
    prompt: String,
    /// Fill in what stands between the prompt and this text (models of code)
    #[arg(long, conflicts_with = "chat")]
    suffix: Option<String>,
    /// Take the prompt as a user's message and render the model's chat template
    #[arg(long)]
    chat: bool,
    /// Tell a thinking model to answer at once
    #[arg(long, requires = "chat")]
    no_think: bool,
    #[arg(long)]
    max_tokens: Option<usize>,
    /// 0: always the likeliest token
    #[arg(long)]
    temperature: Option<f32>,
    #[arg(long)]
    top_k: Option<usize>,
    #[arg(long)]
    top_p: Option<f32>,
    #[arg(long)]
    min_p: Option<f32>,
    #[arg(long)]
    repeat_penalty: Option<f32>,
    #[arg(long)]
    seed: Option<u64>,
    /// End the answer before this text; may be given more than once
    #[arg(long)]
    stop: Vec<String>,
    #[arg(long)]
    ignore_eos: bool,
    /// What most of the answer will be, such as a text that is to be changed a little: it is written faster where that is right
    #[arg(long, value_name = "FILE")]
    prediction: Option<PathBuf>,
    /// A smaller model of the same vocabulary that guesses tokens (on the CPU): the same answer, written faster where it is right
    #[arg(long, value_name = "FILE")]
    draft: Option<PathBuf>,
    /// A JSON schema that the answer keeps to
    #[arg(long, value_name = "FILE", conflicts_with_all = ["stop", "ignore_eos"])]
    json_schema: Option<PathBuf>,
    /// Print one JSON object at the end instead of the text
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    text: String,
    /// What a thinking model thought before.
    #[serde(skip_serializing_if = "String::is_empty")]
    reasoning: String,
    /// The new ones only; an end token is among them.
    ids: Vec<u32>,
    #[serde(flatten)]
    stats: Stats,
}

impl Options {
    /// A prompt has to fit into the default context, but the file's figure is no limit to an answer whose length was asked
    /// for: stories260K states 128 positions and was trained on 512.
    fn context_length(&self) -> Result<Option<usize>> {
        let given = self.model.context_length;
        let (None, Some(max_tokens), false) = (given, self.max_tokens, self.chat) else { return Ok(given) };
        let mut checkpoint = pollster::block_on(Checkpoint::open(&mut open_model(&self.model.model)?))?;
        let default = default_context(&arch::describe(&checkpoint)?.spec);
        // No token is shorter than a byte; BOS and three that part the prompt from its suffix are more.
        let suffix = self.suffix.as_deref().unwrap_or_default();
        if (self.prompt.len() + suffix.len() + 4).saturating_add(max_tokens) <= default {
            return Ok(None);
        }
        let tokenizer = Tokenizer::from_gguf(&mut checkpoint.metadata)?;
        let filled = self.suffix.as_ref().and_then(|suffix| tokenizer.fill_in_middle(&self.prompt, suffix));
        let prompt = 1 + filled.unwrap_or_else(|| tokenizer.encode(&self.prompt, Special::Parse)).len();
        Ok((prompt < default).then(|| default.max(prompt.saturating_add(max_tokens))))
    }

    fn constraint(&self, tokenizer: &Tokenizer) -> Result<Option<Box<dyn Constraint>>> {
        let Some(file) = &self.json_schema else { return Ok(None) };
        let wrong = |error: &dyn std::fmt::Display| Error::BadRequest(format!("{}: {error}", file.display()));
        let text = std::fs::read_to_string(file).map_err(|error| wrong(&error))?;
        let schema = serde_json::from_str(&text).map_err(|error| wrong(&error))?;
        let spec = Spec { form: Form::JsonSchema { schema }, close_within_budget: self.max_tokens.is_some() };
        Ok(Some(Box::new(Guide::new(&Vocabulary::of(tokenizer)?, &spec)?)))
    }

    fn request(&self) -> Result<Request> {
        let unreadable = |file: &PathBuf, error| Error::BadRequest(format!("{}: {error}", file.display()));
        let read = |file: &PathBuf| std::fs::read_to_string(file).map_err(|error| unreadable(file, error));
        let default = GenerateOptions::default();
        let options = GenerateOptions {
            max_tokens: self.max_tokens,
            temperature: self.temperature.unwrap_or(default.temperature),
            top_k: self.top_k.unwrap_or(default.top_k),
            top_p: self.top_p.unwrap_or(default.top_p),
            min_p: self.min_p.unwrap_or(default.min_p),
            repeat_penalty: self.repeat_penalty.unwrap_or(default.repeat_penalty),
            seed: self.seed,
            stop: self.stop.clone(),
            ignore_eos: self.ignore_eos,
            adapters: self.model.adapters.uses(),
            ..default
        };
        let message = Message { role: "user".into(), content: self.prompt.clone().into(), rest: Default::default() };
        Ok(Request {
            messages: self.chat.then(|| vec![message]),
            prompt: (!self.chat).then(|| self.prompt.clone()),
            suffix: self.suffix.clone(),
            reasoning_effort: self.no_think.then(|| "none".into()),
            prediction: self.prediction.as_ref().map(read).transpose()?,
            options,
            ..Request::default()
        })
    }
}

fn load_draft(session: &mut Session<AnyBackend>, file: &Path) -> Result<()> {
    if !session.can_draft() {
        eprintln!("kinglet: the backend {} takes no draft model; it goes on without", session.info().backend);
        return Ok(());
    }
    pollster::block_on(session.load_draft(&mut open_model(file)?, |_, _| {}))
}

pub fn main(options: &Options) -> Result<()> {
    let mut session = options.model.load_with_context(options.context_length()?)?;
    if let Some(draft) = &options.draft {
        load_draft(&mut session, draft)?;
    }
    let constraint = options.constraint(session.tokenizer())?;
    session.start_constrained(&options.request()?, constraint)?;
    let (mut text, mut thoughts, mut ids) = (String::new(), String::new(), Vec::new());
    let stats = loop {
        let step = pollster::block_on(session.step())?;
        let (thought, piece, done) = match step {
            Step::Prefill { .. } => continue,
            Step::Token { id, text, reasoning, .. } => {
                ids.push(id);
                (reasoning, text, None)
            }
            Step::Done { text, reasoning, stats, .. } => (reasoning, text, Some(stats)),
        };
        // The answer alone goes to stdout.
        if !options.json && !thought.is_empty() {
            eprint!("{thought}");
        }
        if !options.json && !piece.is_empty() && text.is_empty() && !thoughts.is_empty() {
            eprint!("\n\n");
        }
        thoughts += &thought;
        if !options.json {
            print(&piece)?;
        }
        text += &piece;
        if let Some(stats) = done {
            break stats;
        }
    };
    if options.json {
        let report = Report { text, reasoning: thoughts, ids, stats };
        return print(&format!("{}\n", serde_json::to_string(&report).expect("plain data")));
    }
    print("\n")?;
    eprintln!(
        "[prompt: {} tokens in {:.0} ms; answer: {} tokens, {:.1} tokens/s]",
        stats.prompt_tokens,
        stats.prefill_ms,
        stats.completion_tokens,
        stats.completion_tokens.saturating_sub(1) as f64 / stats.decode_ms.max(1e-3) * 1e3
    );
    Ok(())
}
