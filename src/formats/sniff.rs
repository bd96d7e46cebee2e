//! Says what a file is that is not a GGUF model we read, from its first bytes.

use crate::Error;

/// [`Error::NotAModel`] for a file that starts with `head` (8 bytes or more unless the file is shorter).
pub fn not_a_model(head: &[u8]) -> Error {
    Error::NotAModel(describe(head))
}

/// A version number read as little endian, when it is not 2 or 3.
pub fn unknown_version(version: u32) -> Error {
    let swapped = version.swap_bytes();
    Error::NotAModel(match (version, swapped) {
        (1, _) => "it is GGUF version 1 of 2023; convert the model again with a current llama.cpp".into(),
        (_, 1..=0xffff) => "it is a big-endian GGUF file; use the little-endian one".into(),
        _ => format!("its GGUF version is {version}, known are 2 and 3"),
    })
}

fn describe(head: &[u8]) -> String {
    const KNOWN: [(&[u8], &str); 14] = [
        (b"FUGG", "it is a big-endian GGUF file; use the little-endian one"),
        (b"lmgg", "it is an old ggml file of 2023; convert the model to GGUF"),
        (b"fmgg", "it is an old ggml file (GGMF) of 2023; convert the model to GGUF"),
        (b"tjgg", "it is an old ggml file (GGJT) of 2023; convert the model to GGUF"),
        (b"algg", "it is an old ggml adapter (GGLA) of 2023; convert it to GGUF"),
        (b"version https://git-lfs", "it is a git-lfs pointer, not the file itself; fetch it with `git lfs pull`"),
        (b"PK\x03\x04", "it is a zip archive, perhaps a PyTorch checkpoint; convert the model to GGUF"),
        (b"\x80\x02", "it is a Python pickle, perhaps a PyTorch checkpoint; convert the model to GGUF"),
        (b"\x1f\x8b", "it is compressed with gzip; unpack it first"),
        (b"\x28\xb5\x2f\xfd", "it is compressed with zstd; unpack it first"),
        (b"\x89HDF", "it is an HDF5 file, perhaps a Keras model; convert the model to GGUF"),
        (b"%PDF", "it is a PDF document"),
        (b"\x89PNG", "it is a PNG image"),
        (b"\xff\xd8\xff", "it is a JPEG image"),
    ];
    if head.is_empty() {
        return "it is empty".into();
    }
    if let Some((_, what)) = KNOWN.iter().find(|(magic, _)| head.starts_with(magic)) {
        return (*what).into();
    }
    // The header of safetensors: its length as a 64-bit number, then JSON.
    if head.get(4..9).is_some_and(|rest| rest == b"\0\0\0\0{") {
        return "it is a safetensors file; use the model's GGUF file instead".into();
    }
    if head.get(4..8) == Some(b"TFL3") {
        return "it is a TensorFlow Lite model; use a GGUF file".into();
    }
    let text = String::from_utf8_lossy(&head[..head.len().min(80)]);
    let text = text.trim_start_matches('\u{feff}').trim_end_matches('\u{fffd}').trim();
    let lower = text.to_ascii_lowercase();
    if ["<!doctype html", "<html", "<head", "<body"].iter().any(|tag| lower.starts_with(tag)) {
        return "it is an HTML page; the address may lead to a web page or an error page, or needs a login".into();
    }
    if text.starts_with('<') {
        return format!("it is XML or HTML, perhaps a server's error message: {text:?}");
    }
    if text.starts_with(['{', '[']) {
        return format!("it is JSON, perhaps a server's error message or another file of the model: {text:?}");
    }
    if text.chars().all(|c| !c.is_control() && c != '\u{fffd}' || c.is_whitespace()) {
        return format!("it is text, perhaps a server's error message: {text:?}");
    }
    let hex: Vec<String> = head.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("it starts with the bytes {} instead of \"GGUF\"", hex.join(" "))
}
