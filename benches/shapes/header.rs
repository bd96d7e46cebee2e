//! The header of a GGUF file of some shape.

#[path = "../../tests/common/gguf.rs"]
mod gguf;

use super::shapes::{Architecture, Mix, Shape, Tensor};
use gguf::{Gguf, STRING};

const ALIGNMENT: usize = 32;
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

pub fn padded(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGNMENT)
}

/// All that stands before the tensors' data, which follow in their order, each [`padded`].
pub fn header(shape: &Shape, mix: Mix, tensors: &[Tensor], tokens: &Tokens) -> Vec<u8> {
    let mut file = vocabulary(shape, tokens, describe(shape, mix));
    let mut offset = 0;
    for tensor in tensors {
        let dims: &[usize] = if tensor.is_vector() { &[tensor.cols] } else { &[tensor.cols, tensor.rows] };
        let dims: Vec<u64> = dims.iter().map(|&n| n as u64).collect();
        file = file.tensor_at(&tensor.name, &dims, tensor.format as u32, offset as u64, []);
        offset += padded(tensor.bytes());
    }
    let mut out = file.header();
    out.resize(padded(out.len()), 0);
    out
}

fn describe(shape: &Shape, mix: Mix) -> Gguf {
    let architecture = shape.architecture.name();
    let key = |tail: &str| format!("{architecture}.{tail}");
    let mut file = Gguf::new(3)
        .string("general.architecture", architecture)
        .string("general.name", &format!("{} random", shape.name))
        .u32("general.file_type", mix.file_type());
    for (name, value) in [
        ("vocab_size", shape.vocabulary.tokens),
        ("context_length", shape.context),
        ("embedding_length", shape.hidden),
        ("block_count", shape.layers),
        ("feed_forward_length", shape.ffn),
        ("attention.head_count", shape.heads),
        ("attention.head_count_kv", shape.kv_heads),
        ("attention.key_length", shape.head_dim),
        ("attention.value_length", shape.head_dim),
        ("rope.dimension_count", shape.rope_dim),
    ] {
        file = file.u32(&key(name), value as u32);
    }
    for (name, value) in [("attention.layer_norm_rms_epsilon", shape.epsilon), ("rope.freq_base", shape.rope_base)] {
        file = file.entry(&key(name), F32, value.to_le_bytes());
    }
    if shape.window > 0 {
        file = file.u32(&key("attention.sliding_window"), shape.window as u32);
    }
    if shape.rope_factor != 1.0 {
        file = file.string(&key("rope.scaling.type"), "linear");
        file = file.entry(&key("rope.scaling.factor"), F32, shape.rope_factor.to_le_bytes());
    }
    if shape.architecture == Architecture::Phi3 {
        file = file.u32(&key("rope.scaling.original_context_length"), 4096);
    }
    file
}

fn vocabulary(shape: &Shape, tokens: &Tokens, file: Gguf) -> Gguf {
    let sentence_piece = shape.vocabulary.merges == 0;
    let count = tokens.texts.len() as u64;
    let strings = |texts: &mut dyn Iterator<Item = &[u8]>| texts.flat_map(gguf::string).collect::<Vec<u8>>();
    let kinds: Vec<u8> = tokens.kinds.iter().flat_map(|kind| kind.to_le_bytes()).collect();
    let mut file = file
        .string("tokenizer.ggml.model", if sentence_piece { "llama" } else { "gpt2" })
        .array("tokenizer.ggml.tokens", STRING, count, strings(&mut tokens.texts.iter().map(Vec::as_slice)))
        .array("tokenizer.ggml.token_type", I32, tokens.kinds.len() as u64, kinds);
    file = if sentence_piece {
        let scores: Vec<u8> = (0..tokens.texts.len()).flat_map(|i| (-(i as f32)).to_le_bytes()).collect();
        file.array("tokenizer.ggml.scores", F32, count, scores).entry("tokenizer.ggml.add_space_prefix", BOOL, [0])
    } else {
        let merges = strings(&mut tokens.merges.iter().map(String::as_bytes));
        file.string("tokenizer.ggml.pre", shape.vocabulary.pre).array(
            "tokenizer.ggml.merges",
            STRING,
            tokens.merges.len() as u64,
            merges,
        )
    };
    if let Some(bos) = tokens.bos {
        file = file.u32("tokenizer.ggml.bos_token_id", bos);
    }
    file.u32("tokenizer.ggml.eos_token_id", tokens.eos)
        .entry("tokenizer.ggml.add_bos_token", BOOL, [u8::from(sentence_piece)])
        .string("tokenizer.chat_template", &tokens.template)
}
