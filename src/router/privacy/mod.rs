//! What may leave the device: secrets block a request, personal data becomes placeholders that are restored in the
//! answer. Patterns only: names and addresses are not found, except as the user's own `terms`.

mod address;
pub mod find;
mod vault;

pub use find::{Kind, is_provider_key};
pub use vault::{Redactions, Restorer, Vault};

use super::consent::Destination;
use super::json;
use super::json::{Map, Value};
use super::text::contains;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pii {
    #[default]
    Redact,
    Block,
    Allow,
}

/// What of a conversation is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Context {
    /// The last message of the user.
    #[default]
    LastTurn,
    All,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Privacy {
    pub pii: Pii,
    pub context: Context,
    /// Words of the user's own that are treated as personal data, exactly as written.
    pub terms: Vec<String>,
}

/// Why a request may not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    Private,
    Secret,
    Pii,
}

/// A body that was scanned, and may be sent to one destination. Only [`scan`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CleanScan {
    destination: Destination,
    body: String,
    vault: Vault,
}

impl CleanScan {
    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    /// JSON, exactly what would be sent.
    pub fn body(&self) -> &str {
        &self.body
    }

    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    pub fn redactions(&self) -> &Redactions {
        self.vault.counts()
    }
}

/// The messages that are to be sent, without our labels. Err: one of them is labelled private.
pub fn choose(messages: &[Value], context: Context) -> Result<Vec<Value>, Blocked> {
    let chosen = match context {
        Context::All => messages,
        Context::LastTurn => {
            let last = messages.iter().rposition(|message| message["role"] == "user");
            last.map_or(messages, |at| &messages[at..])
        }
    };
    if chosen.iter().any(is_private) {
        return Err(Blocked::Private);
    }
    let unlabelled = |message: &Value| {
        let mut message = message.clone();
        if let Value::Object(Map(entries)) = &mut message {
            entries.retain(|(key, _)| key != "private" && key != "labels");
        }
        message
    };
    Ok(chosen.iter().map(unlabelled).collect())
}

/// `private: true`, or `labels: ["private"]`; on a message or a part of its content.
fn is_private(value: &Value) -> bool {
    let label = |label: &Value| label.as_str().is_some_and(|label| label.eq_ignore_ascii_case("private"));
    let labels = &value["labels"];
    // Whatever else `private` says, somebody meant it.
    !matches!(value["private"], Value::Null | Value::Bool(false))
        || label(labels)
        || labels.as_array().is_some_and(|labels| labels.iter().any(label))
        || value["content"].as_array().is_some_and(|parts| parts.iter().any(is_private))
}

/// Scans every string and number of a body, names of keys included; but not a number that is itself a parameter
/// (`"seed": 4111111111111111`): it is an option, and must stay a number.
pub fn scan(destination: Destination, mut body: Value, privacy: &Privacy) -> Result<CleanScan, Blocked> {
    let mut vault = Vault::default();
    let before = json::to_text(&body);
    // Mostly there is none of them, and one search says so.
    let words = Kind::ALL.iter().any(|kind| contains(&before, &["[", &kind.name().to_ascii_uppercase(), "_"].concat()));
    clean(&mut body, true, privacy, &mut vault, &|name| words && contains(&before, name))?;
    Ok(CleanScan { destination, body: json::to_text(&body), vault })
}

/// `top`: the value is the whole body.
fn clean(
    value: &mut Value,
    top: bool,
    privacy: &Privacy,
    vault: &mut Vault,
    taken: &dyn Fn(&str) -> bool,
) -> Result<(), Blocked> {
    match value {
        Value::String(text) => {
            if let Some(redacted) = redact(text, privacy, vault, taken)? {
                *text = redacted;
            }
        }
        // Short ones are options and counts.
        Value::Number(number) if json::to_text(number).len() > 8 => {
            if let Some(redacted) = redact(&json::to_text(number), privacy, vault, taken)? {
                *value = Value::String(redacted);
            }
        }
        Value::Array(items) => items.iter_mut().try_for_each(|item| clean(item, false, privacy, vault, taken))?,
        Value::Object(Map(entries)) => {
            for (key, item) in entries {
                if !(top && matches!(item, Value::Number(_))) {
                    clean(item, false, privacy, vault, taken)?;
                }
                if let Some(redacted) = redact(key, privacy, vault, taken)? {
                    *key = redacted;
                }
            }
        }
        _ => {}
    }
    Ok(())
}

fn redact(
    text: &str,
    privacy: &Privacy,
    vault: &mut Vault,
    taken: &dyn Fn(&str) -> bool,
) -> Result<Option<String>, Blocked> {
    let found = find::find(text, &privacy.terms);
    if found.iter().any(|(_, kind)| *kind == Kind::Secret) {
        return Err(Blocked::Secret);
    }
    match privacy.pii {
        _ if found.is_empty() => Ok(None),
        Pii::Allow => Ok(None),
        Pii::Block => Err(Blocked::Pii),
        Pii::Redact => Ok(Some(vault.redact(text, &found, taken))),
    }
}
