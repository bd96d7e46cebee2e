//! Holds the house to its floors: a floor imports only lower ones (its own included), and JavaScript has its few doors.

use std::path::{Path, PathBuf};

/// The modules of the crate's root, by floor. What `lib.rs` exports itself is `error`'s.
const FLOORS: [&[&str]; 9] = [
    &["clock", "error", "num", "Error", "ErrorCode", "Result"],
    &["source"],
    &["formats", "text"],
    &["backend"],
    &["model"],
    &["generate"],
    &["grammar", "session"],
    &["router"],
    &["api", "bin"],
];

/// Where wasm-bindgen and web-sys may stand; a directory stands for what is in it.
const DOORS: [&str; 4] = ["api/", "source/web.rs", "backend/webgpu/device.rs", "router/json/digits.rs"];
const JAVASCRIPT: [&str; 5] = ["wasm_bindgen", "wasm_bindgen_futures", "web_sys", "js_sys", "serde_wasm_bindgen"];

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|modules| modules.contains(&module))
}

/// Rust without comments and strings, which may name anything.
fn code(source: &str) -> String {
    let mut out = String::new();
    let mut chars = source.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('/', Some('/')) => while chars.next().is_some_and(|c| c != '\n') {},
            ('\'', Some('"')) => drop(chars.next()),
            ('"', _) => {
                while let Some(c) = chars.next().filter(|&c| c != '"') {
                    if c == '\\' {
                        chars.next();
                    }
                }
            }
            _ => out.push(c),
        }
    }
    out
}

fn identifier(text: &str) -> &str {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default()
}

/// The modules of the library's root that a file names: `crate::a::b`, `crate::{a, b::{c}}`; `root` is `kinglet::` in
/// the binary, whose own modules are its `crate`.
fn imports(code: &str, root: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices(root) {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = code[at + root.len()..].trim_start();
        let Some(group) = rest.strip_prefix('{') else {
            found.push(identifier(rest).to_string());
            continue;
        };
        let mut depth = 0;
        let mut expect = true;
        for (i, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => expect = true,
                c if expect && depth == 0 && !c.is_whitespace() => {
                    found.push(identifier(&group[i..]).to_string());
                    expect = false;
                }
                _ => {}
            }
        }
    }
    found
}

/// What is wrong with one file; `path` is relative to `src`.
fn violations(path: &str, source: &str) -> Vec<String> {
    let code = code(source);
    let mut wrong = Vec::new();
    let module = path.split('/').next().unwrap().trim_end_matches(".rs");
    if module != "lib" {
        let Some(own) = floor(module) else { return vec![format!("{path}: the module {module} has no floor")] };
        let root = if module == "bin" { "kinglet::" } else { "crate::" };
        for import in imports(&code, root) {
            match floor(&import) {
                Some(other) if other <= own => {}
                Some(other) => wrong.push(format!("{path} (floor {own}) imports {import} (floor {other})")),
                None => wrong.push(format!("{path} imports {import}, which has no floor")),
            }
        }
    }
    if !DOORS.iter().any(|door| path == *door || door.ends_with('/') && path.starts_with(door)) {
        let words: Vec<&str> = code.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        for name in JAVASCRIPT.iter().filter(|name| words.contains(name)) {
            wrong.push(format!("{path} names {name}"));
        }
    }
    wrong
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn a_floor_imports_only_lower_floors() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    assert!(files.len() > 20, "{} files", files.len());
    let mut wrong = Vec::new();
    for file in files {
        let path = file.strip_prefix(&src).unwrap().to_str().unwrap().replace('\\', "/");
        wrong.extend(violations(&path, &std::fs::read_to_string(&file).unwrap()));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn violations_are_found() {
    let upward = "use crate::{Error, formats::{Format, gguf},\n    session::Session};";
    assert_eq!(violations("source/mod.rs", upward).len(), 2);
    assert_eq!(violations("text/vocab.rs", "fn f() -> crate::generate::Stop {}").len(), 1);
    assert_eq!(violations("model/decoder.rs", "use crate::unheard::Of;").len(), 1);
    assert_eq!(violations("nowhere.rs", "").len(), 1);
    assert_eq!(violations("session.rs", "use wasm_bindgen::prelude::*; use js_sys::Uint8Array;").len(), 2);
    assert_eq!(violations("bin/kinglet/run.rs", "use crate::print; use kinglet::unheard::Of;").len(), 1);
    assert_eq!(violations("api/wasm.rs", "use wasm_bindgen::prelude::*;").len(), 0);
    assert_eq!(violations("source/web.rs", "use js_sys::Uint8Array;").len(), 0);
    assert_eq!(violations("session.rs", "use crate::{Result, model::{self, arch}, text};").len(), 0);
    assert_eq!(violations("num/half.rs", "// use crate::session\nconst S: &str = \"crate::session\";").len(), 0);
}
