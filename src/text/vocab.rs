//! GGUF metadata to a vocabulary.
