//! Writes GGUF files, honest and hostile ones.
#![allow(dead_code)]

pub const STRING: u32 = 8;
pub const ARRAY: u32 = 9;
pub const U32: u32 = 4;

/// The pieces of a file; counts, offsets and paddings follow from them unless a test says otherwise.
#[derive(Clone, Default)]
pub struct Gguf {
    pub version: u32,
    pub alignment: u64,
    /// Declared instead of the true count.
    pub tensor_count: Option<u64>,
    pub entry_count: Option<u64>,
    pub entries: Vec<Vec<u8>>,
    pub tensors: Vec<Tensor>,
    /// Where the next tensor's data starts.
    pub offset: u64,
}

#[derive(Clone)]
pub struct Tensor {
    info: Vec<u8>,
    data: Vec<u8>,
    offset: u64,
}

pub fn string(s: &[u8]) -> Vec<u8> {
    [&(s.len() as u64).to_le_bytes(), s].concat()
}

impl Gguf {
    pub fn new(version: u32) -> Self {
        Gguf { version, alignment: 32, ..Gguf::default() }
    }

    /// A value as it stands in the file.
    pub fn entry(mut self, key: &str, kind: u32, value: impl AsRef<[u8]>) -> Self {
        self.entries.push([&string(key.as_bytes()), &kind.to_le_bytes()[..], value.as_ref()].concat());
        self
    }

    pub fn string(self, key: &str, value: &str) -> Self {
        self.entry(key, STRING, string(value.as_bytes()))
    }

    pub fn u32(self, key: &str, value: u32) -> Self {
        self.entry(key, U32, value.to_le_bytes())
    }

    /// An array of `count` elements, declared, and their bytes.
    pub fn array(self, key: &str, kind: u32, count: u64, elements: impl AsRef<[u8]>) -> Self {
        self.entry(key, ARRAY, [&kind.to_le_bytes()[..], &count.to_le_bytes(), elements.as_ref()].concat())
    }

    pub fn strings(self, key: &str, values: &[&str]) -> Self {
        let bytes: Vec<u8> = values.iter().flat_map(|value| string(value.as_bytes())).collect();
        self.array(key, STRING, values.len() as u64, bytes)
    }

    /// `dims` as GGUF orders them: columns first.
    pub fn tensor(self, name: &str, dims: &[u64], kind: u32, data: impl AsRef<[u8]>) -> Self {
        let offset = self.offset;
        self.tensor_at(name, dims, kind, offset, data)
    }

    pub fn tensor_at(mut self, name: &str, dims: &[u64], kind: u32, offset: u64, data: impl AsRef<[u8]>) -> Self {
        let mut info = string(name.as_bytes());
        info.extend((dims.len() as u32).to_le_bytes());
        dims.iter().for_each(|n| info.extend(n.to_le_bytes()));
        info.extend(kind.to_le_bytes());
        info.extend(offset.to_le_bytes());
        let data = data.as_ref().to_vec();
        self.offset = (self.offset + data.len() as u64).next_multiple_of(self.alignment);
        self.tensors.push(Tensor { info, data, offset });
        self
    }

    pub fn header(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend(self.tensor_count.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        out.extend(self.entry_count.unwrap_or(self.entries.len() as u64).to_le_bytes());
        self.entries.iter().for_each(|entry| out.extend(entry));
        self.tensors.iter().for_each(|tensor| out.extend(&tensor.info));
        out
    }

    /// The whole file; the data of a tensor with an absurd offset is left out.
    pub fn build(&self) -> Vec<u8> {
        let mut out = self.header();
        if self.tensors.is_empty() {
            return out;
        }
        let start = out.len().next_multiple_of(self.alignment as usize);
        out.resize(start, 0);
        for tensor in self.tensors.iter().filter(|tensor| tensor.offset < 1 << 24) {
            let at = start + tensor.offset as usize;
            out.resize(out.len().max(at + tensor.data.len()), 0);
            out[at..at + tensor.data.len()].copy_from_slice(&tensor.data);
        }
        out
    }
}

/// The tensors of a layer of a small Llama: name, rows (0: a vector), columns.
pub const LAYER: [(&str, u64, u64); 9] = [
    ("attn_norm", 0, 32),
    ("attn_q", 32, 32),
    ("attn_k", 16, 32),
    ("attn_v", 16, 32),
    ("attn_output", 32, 32),
    ("ffn_norm", 0, 32),
    ("ffn_gate", 64, 32),
    ("ffn_up", 64, 32),
    ("ffn_down", 32, 64),
];

/// And its numbers.
pub const NUMBERS: [(&str, u32); 5] = [
    ("block_count", 1),
    ("embedding_length", 32),
    ("feed_forward_length", 64),
    ("attention.head_count", 4),
    ("attention.head_count_kv", 2),
];

/// A small valid file with a value of most kinds and tensors of three formats.
pub fn small(version: u32) -> Gguf {
    Gguf::new(version)
        .string("general.architecture", "llama")
        .u32("general.alignment", 32)
        .u32("llama.block_count", 1)
        .entry("llama.rope.freq_base", 6, 1e4f32.to_le_bytes())
        .entry("tokenizer.ggml.add_bos_token", 7, [1])
        .entry("test.wide", 10, u64::MAX.to_le_bytes())
        .strings("tokenizer.ggml.tokens", &["<s>", "", "Zaunkönig", "a"])
        .array("tokenizer.ggml.scores", 6, 4, [0; 16])
        .array("tokenizer.ggml.token_type", 5, 4, [1, 0, 0, 0].repeat(4))
        .tensor("token_embd.weight", &[8, 4], 0, (0..128).collect::<Vec<u8>>())
        .tensor("output_norm.weight", &[8], 1, [0x3c; 16])
        .tensor("blk.0.attn_q.weight", &[32, 2], 2, (0..36).collect::<Vec<u8>>())
}
