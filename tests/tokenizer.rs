//! The tokenizer against llama.cpp's vectors, Hugging Face's `tokenizers` and files that do not fit.

mod tokenizer {
    mod common;
    mod hostile;
    mod oracle;
    mod streaming;
    mod trained;
    mod vectors;
}
