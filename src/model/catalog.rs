//! The models that the package recommends (`pkg/catalog.json`), and which of them to take where another is too large.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::LazyLock;

const JSON: &str = include_str!("../../pkg/catalog.json");

/// As `pkg/src/catalog.ts` describes it.
#[derive(Debug, Deserialize)]
pub struct Catalog {
    pub models: Vec<Model>,
}

#[derive(Debug, Deserialize)]
pub struct Model {
    pub id: String,
    pub name: String,
    pub family: String,
    pub architecture: String,
    pub parameters: u64,
    pub files: Vec<File>,
}

#[derive(Debug, Deserialize)]
pub struct File {
    pub quantization: String,
    pub repository: String,
    pub file: String,
    pub bytes: u64,
    pub memory: Needed,
}

/// Bytes, at `context_length`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Needed {
    pub context_length: u64,
    /// Weights, KV cache and scratch on the CPU.
    pub cpu: u64,
    pub cpu_per_position: u64,
}

impl Needed {
    fn on_cpu(&self, context_length: u64) -> u64 {
        let shorter = self.context_length.saturating_sub(context_length) * self.cpu_per_position;
        let longer = context_length.saturating_sub(self.context_length).saturating_mul(self.cpu_per_position);
        self.cpu.saturating_sub(shorter).saturating_add(longer)
    }
}

pub fn catalog() -> &'static Catalog {
    static CATALOG: LazyLock<Catalog> =
        LazyLock::new(|| serde_json::from_str(JSON).expect("tests/catalog.rs reads it too"));
    &CATALOG
}

/// What fits where something did not.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Choice {
    #[serde(serialize_with = "context_length")]
    Context(usize),
    Model(Recommended),
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recommended {
    pub id: &'static str,
    pub name: &'static str,
    pub quantization: &'static str,
    pub repository: &'static str,
    pub file: &'static str,
    pub bytes: u64,
}

fn context_length<S: serde::Serializer>(length: &usize, serializer: S) -> Result<S::Ok, S::Error> {
    use serde::ser::SerializeMap;
    let mut map = serializer.serialize_map(Some(1))?;
    map.serialize_entry("contextLength", length)?;
    map.end()
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Choice::Context(length) => write!(f, "load it with a contextLength of at most {length}"),
            Choice::Model(model) => {
                let Recommended { name, quantization, repository, file, bytes, .. } = model;
                let megabytes = *bytes as f64 / 1e6;
                write!(f, "{name} {quantization} fits: {file} of {repository} ({megabytes:.0} MB)")
            }
        }
    }
}

/// The largest that the CPU holds in `limit` bytes with the same context, and that is no larger than the model it stands
/// in for: of the same family where one fits, else of the same architecture, else of any.
pub fn nearest(architecture: &str, name: &str, parameters: u64, context_length: usize, limit: u64) -> Option<Choice> {
    let plain = |text: &str| text.to_lowercase().replace(|c: char| !c.is_alphanumeric(), "");
    let name = plain(name);
    // A coder's name has its family's name in it, and more.
    let kinship = |model: &Model| {
        let (same, family) = (model.architecture == architecture, plain(&model.family));
        (same, if same && name.contains(&family) { family.len() } else { 0 })
    };
    let files = catalog().models.iter().flat_map(|model| model.files.iter().map(move |file| (model, file)));
    let fitting = files.filter(|(model, file)| {
        file.memory.on_cpu(context_length as u64) <= limit && model.parameters <= parameters + parameters / 20
    });
    let best = fitting.max_by_key(|(model, file)| (kinship(model), model.parameters, file.bytes))?;
    let (model, file) = best;
    Some(Choice::Model(Recommended {
        id: &model.id,
        name: &model.name,
        quantization: &file.quantization,
        repository: &file.repository,
        file: &file.file,
        bytes: file.bytes,
    }))
}
