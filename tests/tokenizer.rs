//! The tokenizer against llama.cpp's vectors, Hugging Face's `tokenizers` and files that do not fit.

mod tokenizer {
    pub mod common;
    mod vectors;
}
