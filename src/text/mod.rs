//! Ids to text and back, and chat templates.

pub mod chat_template;
pub mod detokenizer;
pub mod tokenizer;
pub mod vocab;

pub use chat_template::{ChatTemplate, Message};
pub use detokenizer::Detokenizer;
pub use tokenizer::Tokenizer;
