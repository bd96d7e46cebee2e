//! Links a kernel's WGSL out of `shaders/`. Structure is a permutation, never a run-time branch. (WGSL itself has no
//! modules; naga_oil would cost more bytes than all of our shaders.)
//!
//! `#import shared/x` once per kernel; `#import @q` the module that the permutation gives for `q`, with `FMT_` read as `q_`;
//! `#include x` within a module, under the same alias; `#ifdef FLAG`, `#ifndef`, `#else`, `#endif`.

use std::collections::HashSet;
use std::fmt::Write;

/// Every file of `shaders/`, by its path without the ending.
macro_rules! sources {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../../shaders/", $name, ".wgsl")))),*]
    };
}

pub const SOURCES: &[(&str, &str)] = sources![
    "shared/state",
    "shared/reduce",
    "shared/matvec",
    "shared/rows",
    "shared/normed",
    "shared/plain",
    "shared/sum_out",
    "shared/partials",
    "shared/merged",
    "shared/activation",
    "shared/rope",
    "shared/heads",
    "shared/kv_read",
    "shared/kv_write",
    "shared/signed_bytes",
    "quant/common",
    "quant/repack_halves",
    "quant/ints",
    "quant/floats",
    "quant/f32",
    "quant/f16",
    "quant/bf16",
    "quant/nibbles",
    "quant/fifth_bits",
    "quant/scale_halves",
    "quant/scale_pairs",
    "quant/scale_supers",
    "quant/q8_0",
    "quant/q4_0",
    "quant/q4_1",
    "quant/q5_0",
    "quant/q5_1",
    "quant/q4_k",
    "quant/q5_k",
    "quant/q6_k",
    "repack",
    "embed",
    "qkv",
    "attention",
    "attention_out",
    "gate_up",
    "down",
    "head",
    "lora_down",
    "lora_up",
    "shared/tile_dot",
    "shared/tile_float",
    "panel",
    "post_norm",
    "matmul",
    "rope_kv",
    "attention_batch",
    "stream_read",
    "peak",
    "shared/sample_keys",
    "shared/find_best",
    "sample_chunks",
    "sample",
];

/// One permutation of one kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Permutation {
    /// The file, and the name of its entry point.
    pub kernel: &'static str,
    /// What `#ifdef` asks for.
    pub flags: Vec<&'static str>,
    /// Baked as `const NAME: u32`.
    pub numbers: Vec<(String, u32)>,
    /// Baked as `const NAME: f32`; by their bits, so that a permutation can be a key.
    pub floats: Vec<(&'static str, u32)>,
    /// `#import @q` -> the module's file; within it `FMT_` reads `q_`.
    pub modules: Vec<(&'static str, &'static str)>,
}

impl Permutation {
    pub fn new(kernel: &'static str) -> Self {
        Self { kernel, ..Self::default() }
    }

    pub fn flag(mut self, flag: &'static str) -> Self {
        self.flags.push(flag);
        self
    }

    pub fn flag_if(self, wanted: bool, flag: &'static str) -> Self {
        if wanted { self.flag(flag) } else { self }
    }

    pub fn number(mut self, name: impl Into<String>, value: usize) -> Self {
        self.numbers.push((name.into(), u32::try_from(value).expect("baked numbers are checked against the limits")));
        self
    }

    pub fn float(mut self, name: &'static str, value: f32) -> Self {
        self.floats.push((name, value.to_bits()));
        self
    }

    pub fn module(mut self, alias: &'static str, file: &'static str) -> Self {
        self.modules.push((alias, file));
        self
    }

    fn has(&self, flag: &str) -> bool {
        self.flags.contains(&flag)
    }

    /// The WGSL text. `web`: browsers want `enable subgroups;`, which naga 30 rejects (it needs no directive).
    ///
    /// Panics on an unknown import or an unbalanced `#ifdef`: those are mistakes in our own shaders, found by the test
    /// that links every permutation.
    pub fn link(&self, web: bool) -> String {
        let mut out = String::new();
        if self.has("F16") {
            out += "enable f16;\n";
        }
        if web && self.has("SUBGROUPS") {
            out += "enable subgroups;\n";
        }
        for (name, value) in &self.numbers {
            let _ = writeln!(out, "const {name}: u32 = {value}u;");
        }
        for &(name, bits) in &self.floats {
            // All digits: WGSL parses them back to the same float.
            let _ = writeln!(out, "const {name}: f32 = {:e}f;", f32::from_bits(bits));
        }
        let mut done = HashSet::new();
        self.include(self.kernel, None, &mut done, &mut out);
        out
    }

    fn include(&self, file: &str, alias: Option<&str>, done: &mut HashSet<(String, String)>, out: &mut String) {
        if !done.insert((file.to_string(), alias.unwrap_or_default().to_string())) {
            return;
        }
        let text = SOURCES.iter().find(|(name, _)| *name == file).map(|(_, text)| *text);
        let text = text.unwrap_or_else(|| panic!("{}: no shader {file}", self.kernel));
        // One entry for each open #ifdef: whether its lines count.
        let mut open = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let directive = line.trim_start();
            let place = || format!("shaders/{file}.wgsl:{}", number + 1);
            if let Some(flag) = directive.strip_prefix("#ifdef ") {
                open.push(self.has(flag.trim()));
            } else if let Some(flag) = directive.strip_prefix("#ifndef ") {
                open.push(!self.has(flag.trim()));
            } else if directive.starts_with("#else") {
                let last = open.last_mut().unwrap_or_else(|| panic!("{}: #else without #ifdef", place()));
                *last = !*last;
            } else if directive.starts_with("#endif") {
                open.pop().unwrap_or_else(|| panic!("{}: #endif without #ifdef", place()));
            } else if open.contains(&false) || directive.starts_with("//") {
                continue;
            } else if let Some(name) = directive.strip_prefix("#include ") {
                // Of a module, under its alias.
                self.include(name.trim(), alias, done, out);
            } else if let Some(name) = directive.strip_prefix("#import ") {
                match name.trim().strip_prefix('@') {
                    Some(alias) => {
                        let module = self.modules.iter().find(|(known, _)| *known == alias);
                        let (alias, file) = module.unwrap_or_else(|| panic!("{}: no module @{alias}", place()));
                        self.include(file, Some(alias), done, out);
                    }
                    None => self.include(name.trim(), None, done, out),
                }
            } else if directive.starts_with('#') {
                panic!("{}: unknown directive {directive}", place());
            } else {
                match alias {
                    Some(alias) => out.push_str(&line.replace("FMT_", &format!("{alias}_"))),
                    None => out.push_str(line),
                }
                out.push('\n');
            }
        }
        assert!(open.is_empty(), "shaders/{file}.wgsl: #ifdef without #endif");
    }
}

/// How a kernel uses one of its bindings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    ReadWrite,
    Uniform,
}

/// The bindings of group 0 that linked WGSL declares, `(binding, access)` in ascending order.
pub fn bindings(wgsl: &str) -> Vec<(u32, Access)> {
    let mut found: Vec<(u32, Access)> = Vec::new();
    for line in wgsl.lines() {
        let Some(rest) = line.trim_start().strip_prefix("@group(0) @binding(") else { continue };
        let (number, rest) = rest.split_once(')').expect("a binding has a number");
        let access = if rest.contains("var<uniform>") {
            Access::Uniform
        } else if rest.contains("read_write") {
            Access::ReadWrite
        } else {
            Access::Read
        };
        found.push((number.parse().expect("a binding has a number"), access));
    }
    found.sort_by_key(|&(number, _)| number);
    found
}
