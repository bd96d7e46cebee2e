//! The shapes of the models that people run, and the type of each of their tensors in the usual files.

use kinglet::formats::Format;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    Llama,
    Qwen2,
    Phi3,
    Gemma3,
}

impl Architecture {
    pub fn name(self) -> &'static str {
        match self {
            Architecture::Llama => "llama",
            Architecture::Qwen2 => "qwen2",
            Architecture::Phi3 => "phi3",
            Architecture::Gemma3 => "gemma3",
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub name: &'static str,
    pub architecture: Architecture,
    pub layers: usize,
    pub hidden: usize,
    pub ffn: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub vocabulary: Vocabulary,
    pub context: usize,
    pub rope_base: f32,
    /// Elements of a head that turn.
    pub rope_dim: usize,
    /// Positions are divided by it.
    pub rope_factor: f32,
    pub window: usize,
    pub epsilon: f32,
    /// The file has no head of its own.
    pub tied: bool,
}

/// As large as the real one's: tokens and the bytes of their texts, merges and theirs.
/// `pkg/catalog.json` is made with the bytes.
#[derive(Clone, Copy, Debug)]
#[allow(dead_code)]
pub struct Vocabulary {
    /// Of a folder with its tokenizer.json.
    pub folder: Option<&'static str>,
    pub pre: &'static str,
    pub tokens: usize,
    pub token_bytes: usize,
    pub merges: usize,
    pub merge_bytes: usize,
}

const SMOLLM: Vocabulary = Vocabulary {
    folder: Some("smollm2"),
    pre: "smollm",
    tokens: 49_152,
    token_bytes: 369_170,
    merges: 48_900,
    merge_bytes: 417_477,
};
const QWEN: Vocabulary = Vocabulary {
    folder: Some("qwen2.5"),
    pre: "qwen2",
    tokens: 151_936,
    token_bytes: 1_375_197,
    merges: 151_387,
    merge_bytes: 1_520_452,
};
const PHI: Vocabulary = Vocabulary {
    folder: Some("phi-4-mini"),
    pre: "gpt-4o",
    tokens: 200_064,
    token_bytes: 2_020_482,
    merges: 199_742,
    merge_bytes: 2_218_592,
};
/// SentencePiece, which is not at hand; scores instead of merges.
const GEMMA: Vocabulary =
    Vocabulary { folder: None, pre: "", tokens: 262_144, token_bytes: 2_315_000, merges: 0, merge_bytes: 0 };

const LLAMA_SHAPE: Shape = Shape {
    name: "",
    architecture: Architecture::Llama,
    layers: 0,
    hidden: 0,
    ffn: 0,
    heads: 0,
    kv_heads: 0,
    head_dim: 64,
    vocabulary: SMOLLM,
    context: 8192,
    rope_base: 1e5,
    rope_dim: 64,
    rope_factor: 1.0,
    window: 0,
    epsilon: 1e-5,
    tied: true,
};
/// Qwen's own files repeat the embedding as the head.
const QWEN_SHAPE: Shape = Shape {
    architecture: Architecture::Qwen2,
    kv_heads: 2,
    head_dim: 128,
    vocabulary: QWEN,
    context: 32_768,
    rope_base: 1e6,
    rope_dim: 128,
    epsilon: 1e-6,
    tied: false,
    ..LLAMA_SHAPE
};
const GEMMA_SHAPE: Shape = Shape {
    architecture: Architecture::Gemma3,
    heads: 4,
    kv_heads: 1,
    head_dim: 256,
    vocabulary: GEMMA,
    context: 32_768,
    rope_base: 1e6,
    rope_dim: 256,
    window: 512,
    epsilon: 1e-6,
    ..LLAMA_SHAPE
};

pub const SHAPES: [Shape; 10] = [
    Shape { name: "smollm2-135m", layers: 30, hidden: 576, ffn: 1536, heads: 9, kv_heads: 3, ..LLAMA_SHAPE },
    Shape { name: "smollm2-360m", layers: 32, hidden: 960, ffn: 2560, heads: 15, kv_heads: 5, ..LLAMA_SHAPE },
    Shape {
        name: "smollm2-1.7b",
        layers: 24,
        hidden: 2048,
        ffn: 8192,
        heads: 32,
        kv_heads: 32,
        rope_base: 1.3e5,
        ..LLAMA_SHAPE
    },
    Shape {
        name: "phi-4-mini",
        architecture: Architecture::Phi3,
        layers: 32,
        hidden: 3072,
        ffn: 8192,
        heads: 24,
        kv_heads: 8,
        head_dim: 128,
        vocabulary: PHI,
        context: 131_072,
        rope_base: 1e4,
        rope_dim: 96,
        window: 262_144,
        ..LLAMA_SHAPE
    },
    Shape { name: "gemma-3-270m", layers: 18, hidden: 640, ffn: 2048, ..GEMMA_SHAPE },
    Shape { name: "gemma-3-1b", layers: 26, hidden: 1152, ffn: 6912, ..GEMMA_SHAPE },
    Shape {
        name: "gemma-3-4b",
        layers: 34,
        hidden: 2560,
        ffn: 10_240,
        heads: 8,
        kv_heads: 4,
        vocabulary: Vocabulary { tokens: 262_208, ..GEMMA },
        context: 131_072,
        rope_factor: 8.0,
        window: 1024,
        ..GEMMA_SHAPE
    },
    Shape {
        name: "qwen2.5-0.5b",
        layers: 24,
        hidden: 896,
        ffn: 4864,
        heads: 14,
        head_dim: 64,
        rope_dim: 64,
        ..QWEN_SHAPE
    },
    Shape { name: "qwen2.5-1.5b", layers: 28, hidden: 1536, ffn: 8960, heads: 12, ..QWEN_SHAPE },
    Shape { name: "qwen2.5-3b", layers: 36, hidden: 2048, ffn: 11_008, heads: 16, ..QWEN_SHAPE },
];

pub fn shape(name: &str) -> Option<&'static Shape> {
    SHAPES.iter().find(|shape| shape.name == name)
}

/// What llama.cpp's quantizer is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(non_camel_case_types)]
pub enum Mix {
    F16,
    Q8_0,
    Q4_0,
    Q4_K_M,
}

impl Mix {
    pub const ALL: [(&'static str, Mix); 4] =
        [("F16", Mix::F16), ("Q8_0", Mix::Q8_0), ("Q4_0", Mix::Q4_0), ("Q4_K_M", Mix::Q4_K_M)];

    /// GGUF's `general.file_type`.
    pub fn file_type(self) -> u32 {
        match self {
            Mix::F16 => 1,
            Mix::Q4_0 => 2,
            Mix::Q8_0 => 7,
            Mix::Q4_K_M => 15,
        }
    }

    fn base(self) -> Format {
        match self {
            Mix::F16 => Format::F16,
            Mix::Q8_0 => Format::Q8_0,
            Mix::Q4_0 => Format::Q4_0,
            Mix::Q4_K_M => Format::Q4_K,
        }
    }
}

/// A tensor of the file.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub name: String,
    /// A vector has one.
    pub rows: usize,
    pub cols: usize,
    pub format: Format,
}

impl Tensor {
    pub fn is_vector(&self) -> bool {
        self.rows == 1
    }

    pub fn bytes(&self) -> usize {
        self.rows * self.format.row_bytes(self.cols)
    }
}

/// In the order of the usual converter.
pub fn tensors(shape: &Shape, mix: Mix) -> Vec<Tensor> {
    let Shape { architecture, layers, hidden, ffn, .. } = *shape;
    let (queries, keys) = (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
    let vector = |name: String, cols| Tensor { name, rows: 1, cols, format: Format::F32 };
    let matrix = |name: String, rows, cols| {
        let format = choose(shape, mix, &name, cols);
        Tensor { name, rows, cols, format }
    };
    let mut tensors = vec![matrix("token_embd.weight".into(), shape.vocabulary.tokens, hidden)];
    if !shape.tied {
        tensors.push(matrix("output.weight".into(), shape.vocabulary.tokens, hidden));
    }
    tensors.push(vector("output_norm.weight".into(), hidden));
    if architecture == Architecture::Phi3 {
        tensors
            .extend(["short", "long"].map(|which| vector(format!("rope_factors_{which}.weight"), shape.rope_dim / 2)));
    }
    for layer in 0..layers {
        let name = |tail: &str| format!("blk.{layer}.{tail}");
        tensors.push(vector(name("attn_norm.weight"), hidden));
        if architecture == Architecture::Phi3 {
            tensors.push(matrix(name("attn_qkv.weight"), queries + 2 * keys, hidden));
        } else {
            for (which, rows) in [("q", queries), ("k", keys), ("v", keys)] {
                tensors.push(matrix(name(&format!("attn_{which}.weight")), rows, hidden));
                if architecture == Architecture::Qwen2 {
                    tensors.push(vector(name(&format!("attn_{which}.bias")), rows));
                }
            }
        }
        tensors.push(matrix(name("attn_output.weight"), hidden, queries));
        if architecture == Architecture::Gemma3 {
            tensors
                .extend(["attn_q_norm", "attn_k_norm"].map(|n| vector(name(&format!("{n}.weight")), shape.head_dim)));
            tensors
                .extend(["post_attention_norm", "post_ffw_norm"].map(|n| vector(name(&format!("{n}.weight")), hidden)));
        }
        tensors.push(vector(name("ffn_norm.weight"), hidden));
        if architecture == Architecture::Phi3 {
            tensors.push(matrix(name("ffn_up.weight"), 2 * ffn, hidden));
        } else {
            tensors.push(matrix(name("ffn_gate.weight"), ffn, hidden));
            tensors.push(matrix(name("ffn_up.weight"), ffn, hidden));
        }
        tensors.push(matrix(name("ffn_down.weight"), hidden, ffn));
    }
    tensors
}

/// As `llama_tensor_get_type` of llama.cpp chooses: more bits for the head and for `attn_v` and `ffn_down` of some layers,
/// other formats where rows do not divide by 256.
fn choose(shape: &Shape, mix: Mix, name: &str, cols: usize) -> Format {
    let base = mix.base();
    if matches!(mix, Mix::F16 | Mix::Q8_0) {
        return base;
    }
    let head = if shape.tied { "token_embd.weight" } else { "output.weight" };
    let layer: Option<usize> = name.strip_prefix("blk.").and_then(|rest| rest.split('.').next()?.parse().ok());
    let wanted = if name == head {
        if cols.is_multiple_of(base.block_len()) { Format::Q6_K } else { Format::Q8_0 }
    } else if mix == Mix::Q4_0 {
        base
    } else if name.ends_with("attn_qkv.weight") {
        Format::Q5_K
    } else if (name.ends_with("attn_v.weight") || name.ends_with("ffn_down.weight"))
        && layer.is_some_and(|layer| more_bits(layer, shape.layers))
    {
        Format::Q6_K
    } else {
        base
    };
    match wanted {
        wanted if cols.is_multiple_of(wanted.block_len()) => wanted,
        Format::Q4_K => Format::Q5_0,
        Format::Q5_K => Format::Q5_1,
        Format::Q6_K => Format::Q8_0,
        other => other,
    }
}

fn more_bits(layer: usize, layers: usize) -> bool {
    let eighth = layers / 8;
    layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2
}
