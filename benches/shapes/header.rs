//! The header of a GGUF file of some shape.

use super::shapes::{Architecture, Mix, Shape, Tensor};

const ALIGNMENT: usize = 32;
const STRING: u32 = 8;
const ARRAY: u32 = 9;
const U32: u32 = 4;
const I32: u32 = 5;
const F32: u32 = 6;
const BOOL: u32 = 7;

/// What a file says of its vocabulary.
pub struct Tokens {
    pub texts: Vec<Vec<u8>>,
    /// GGUF's: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte.
    pub kinds: Vec<i32>,
    pub merges: Vec<String>,
    pub bos: Option<u32>,
    pub eos: u32,
    pub template: String,
}

fn string(text: &[u8], out: &mut Vec<u8>) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text);
}

#[derive(Default)]
struct Metadata {
    bytes: Vec<u8>,
    entries: u64,
}

impl Metadata {
    fn entry(&mut self, key: &str, kind: u32, value: &[u8]) {
        string(key.as_bytes(), &mut self.bytes);
        self.bytes.extend(kind.to_le_bytes());
        self.bytes.extend(value);
        self.entries += 1;
    }

    fn string(&mut self, key: &str, value: &str) {
        let mut bytes = Vec::new();
        string(value.as_bytes(), &mut bytes);
        self.entry(key, STRING, &bytes);
    }

    fn u32(&mut self, key: &str, value: usize) {
        self.entry(key, U32, &(value as u32).to_le_bytes());
    }

    fn f32(&mut self, key: &str, value: f32) {
        self.entry(key, F32, &value.to_le_bytes());
    }

    fn array(&mut self, key: &str, kind: u32, count: usize, elements: &[u8]) {
        let head = [&kind.to_le_bytes()[..], &(count as u64).to_le_bytes()].concat();
        self.entry(key, ARRAY, &[&head, elements].concat());
    }

    fn strings<'a>(&mut self, key: &str, values: impl ExactSizeIterator<Item = &'a [u8]>) {
        let (count, mut bytes) = (values.len(), Vec::new());
        values.for_each(|value| string(value, &mut bytes));
        self.array(key, STRING, count, &bytes);
    }
}

pub fn padded(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGNMENT)
}

/// All that stands before the tensors' data, which follow in their order, each [`padded`].
pub fn header(shape: &Shape, mix: Mix, tensors: &[Tensor], tokens: &Tokens) -> Vec<u8> {
    let mut metadata = Metadata::default();
    describe(shape, mix, &mut metadata);
    vocabulary(shape, tokens, &mut metadata);
    let mut out = b"GGUF".to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend(metadata.entries.to_le_bytes());
    out.extend(metadata.bytes);
    let mut offset = 0;
    for tensor in tensors {
        string(tensor.name.as_bytes(), &mut out);
        let dims: &[usize] = if tensor.is_vector() { &[tensor.cols] } else { &[tensor.cols, tensor.rows] };
        out.extend((dims.len() as u32).to_le_bytes());
        dims.iter().for_each(|&n| out.extend((n as u64).to_le_bytes()));
        out.extend((tensor.format as u32).to_le_bytes());
        out.extend((offset as u64).to_le_bytes());
        offset += padded(tensor.bytes());
    }
    out.resize(padded(out.len()), 0);
    out
}

fn describe(shape: &Shape, mix: Mix, metadata: &mut Metadata) {
    let architecture = shape.architecture.name();
    let key = |tail: &str| format!("{architecture}.{tail}");
    metadata.string("general.architecture", architecture);
    metadata.string("general.name", &format!("{} random", shape.name));
    metadata.u32("general.file_type", mix.file_type() as usize);
    metadata.u32(&key("vocab_size"), shape.vocabulary.tokens);
    metadata.u32(&key("context_length"), shape.context);
    metadata.u32(&key("embedding_length"), shape.hidden);
    metadata.u32(&key("block_count"), shape.layers);
    metadata.u32(&key("feed_forward_length"), shape.ffn);
    metadata.u32(&key("attention.head_count"), shape.heads);
    metadata.u32(&key("attention.head_count_kv"), shape.kv_heads);
    metadata.u32(&key("attention.key_length"), shape.head_dim);
    metadata.u32(&key("attention.value_length"), shape.head_dim);
    metadata.f32(&key("attention.layer_norm_rms_epsilon"), shape.epsilon);
    metadata.f32(&key("rope.freq_base"), shape.rope_base);
    metadata.u32(&key("rope.dimension_count"), shape.rope_dim);
    if shape.window > 0 {
        metadata.u32(&key("attention.sliding_window"), shape.window);
    }
    if shape.rope_factor != 1.0 {
        metadata.string(&key("rope.scaling.type"), "linear");
        metadata.f32(&key("rope.scaling.factor"), shape.rope_factor);
    }
    if shape.architecture == Architecture::Phi3 {
        metadata.u32(&key("rope.scaling.original_context_length"), 4096);
    }
}

fn vocabulary(shape: &Shape, tokens: &Tokens, metadata: &mut Metadata) {
    let sentence_piece = shape.vocabulary.merges == 0;
    metadata.string("tokenizer.ggml.model", if sentence_piece { "llama" } else { "gpt2" });
    metadata.strings("tokenizer.ggml.tokens", tokens.texts.iter().map(Vec::as_slice));
    let kinds: Vec<u8> = tokens.kinds.iter().flat_map(|kind| kind.to_le_bytes()).collect();
    metadata.array("tokenizer.ggml.token_type", I32, tokens.kinds.len(), &kinds);
    if sentence_piece {
        let scores: Vec<u8> = (0..tokens.texts.len()).flat_map(|i| (-(i as f32)).to_le_bytes()).collect();
        metadata.array("tokenizer.ggml.scores", F32, tokens.texts.len(), &scores);
        metadata.entry("tokenizer.ggml.add_space_prefix", BOOL, &[0]);
    } else {
        metadata.string("tokenizer.ggml.pre", shape.vocabulary.pre);
        metadata.strings("tokenizer.ggml.merges", tokens.merges.iter().map(String::as_bytes));
    }
    if let Some(bos) = tokens.bos {
        metadata.u32("tokenizer.ggml.bos_token_id", bos as usize);
    }
    metadata.u32("tokenizer.ggml.eos_token_id", tokens.eos as usize);
    metadata.entry("tokenizer.ggml.add_bos_token", BOOL, &[u8::from(sentence_piece)]);
    metadata.string("tokenizer.chat_template", &tokens.template);
}
