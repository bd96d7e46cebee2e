//! Ids to text and back, and chat templates.

mod added;
mod bpe;
mod byte_level;
pub mod chat_template;
pub mod detokenizer;
pub mod families;
mod fim;
mod jinja;
mod nfc;
pub mod packed;
mod pipeline;
mod seams;
mod split;
pub mod tokenizer;
mod tokenizer_json;
mod tokens;
pub mod tools;
mod unicode;
pub mod vocab;

pub use chat_template::{ChatTemplate, Message};
pub use detokenizer::Detokenizer;
pub use families::Family;
pub use tokenizer::{Special, Tokenizer};
pub use tools::{ToolFormat, ToolUse};
