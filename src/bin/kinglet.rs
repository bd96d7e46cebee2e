//! The native command line.

fn main() {
    eprintln!("usage: kinglet run|logits|tokenize|inspect|bench");
    std::process::exit(2);
}
