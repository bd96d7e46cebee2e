//! The tensors while they are loaded, by slot, and after it, by name.

use std::collections::HashMap;

use super::matrix::Matrix;
use super::memory::reserve;
use crate::backend::{DecoderSpec, LayerSlot, RopeFactors, Slot};
use crate::formats::Format;
use crate::{Error, Result};

/// A tensor that may not be complete.
pub enum Loading {
    Matrix(Matrix),
    /// Norms, biases and factors, kept as floats.
    Vector {
        format: Format,
        cols: usize,
        values: Vec<f32>,
    },
}

impl Loading {
    pub fn new(slot: Slot, format: Format, rows: usize, cols: usize) -> Result<Loading> {
        if slot.is_matrix() {
            return Ok(Loading::Matrix(Matrix::new(format, rows, cols)?));
        }
        if rows != 1 || cols % format.block_len() != 0 {
            return Err(Error::BadRequest(format!("{slot:?} is one row of whole blocks, not {rows} of {cols}")));
        }
        let mut values = Vec::new();
        reserve(&mut values, cols, &format!("{slot:?}"))?;
        Ok(Loading::Vector { format, cols, values })
    }

    pub fn upload(&mut self, first_row: usize, bytes: &[u8]) -> Result<()> {
        match self {
            Loading::Matrix(matrix) => matrix.upload(first_row, bytes),
            Loading::Vector { format, cols, values } => {
                if bytes.len() != format.row_bytes(*cols) || first_row != 0 || !values.is_empty() {
                    return Err(Error::BadRequest(format!("a vector of {cols} is uploaded whole and once")));
                }
                values.resize(*cols, 0.0);
                format.dequantize(bytes, values);
                Ok(())
            }
        }
    }

    pub fn bytes(&self) -> u64 {
        match self {
            Loading::Matrix(matrix) => matrix.bytes(),
            Loading::Vector { values, .. } => 4 * values.capacity() as u64,
        }
    }
}

pub struct Weights {
    pub embedding: Matrix,
    pub output_norm: Vec<f32>,
    /// None: tied to the embedding.
    pub head: Option<Matrix>,
    pub rope_factors: HashMap<RopeFactors, Vec<f32>>,
    pub layers: Vec<Layer>,
    bytes: u64,
}

pub struct Layer {
    pub attention_norm: Vec<f32>,
    pub query: Matrix,
    pub key: Matrix,
    pub value: Matrix,
    pub query_bias: Option<Vec<f32>>,
    pub key_bias: Option<Vec<f32>>,
    pub value_bias: Option<Vec<f32>>,
    pub query_norm: Option<Vec<f32>>,
    pub key_norm: Option<Vec<f32>>,
    pub attention_output: Matrix,
    pub post_attention_norm: Option<Vec<f32>>,
    pub ffn_norm: Vec<f32>,
    pub gate: Matrix,
    pub up: Matrix,
    pub down: Matrix,
    pub post_ffn_norm: Option<Vec<f32>>,
}

/// Takes complete tensors of the right shape out of what was loaded.
struct Taker<'a> {
    architecture: &'a str,
    loaded: HashMap<Slot, Loading>,
}

impl Taker<'_> {
    fn missing(&self, slot: Slot) -> Error {
        Error::MissingTensor { name: format!("{slot:?}"), architecture: self.architecture.to_string() }
    }

    fn matrix(&mut self, slot: Slot, rows: usize, cols: usize) -> Result<Matrix> {
        match self.loaded.remove(&slot) {
            Some(Loading::Matrix(m)) if (m.rows, m.cols) != (rows, cols) => Err(Error::WrongShape {
                name: format!("{slot:?}"),
                found: vec![m.rows as u64, m.cols as u64],
                expected: vec![rows as u64, cols as u64],
            }),
            Some(Loading::Matrix(m)) if m.is_complete() => Ok(m),
            _ => Err(self.missing(slot)),
        }
    }

    fn vector(&mut self, slot: Slot, len: usize) -> Result<Vec<f32>> {
        match self.loaded.remove(&slot) {
            Some(Loading::Vector { cols, .. }) if cols != len => Err(Error::WrongShape {
                name: format!("{slot:?}"),
                found: vec![cols as u64],
                expected: vec![len as u64],
            }),
            Some(Loading::Vector { values, .. }) if values.len() == len => Ok(values),
            _ => Err(self.missing(slot)),
        }
    }

    fn vector_if(&mut self, wanted: bool, slot: Slot, len: usize) -> Result<Option<Vec<f32>>> {
        wanted.then(|| self.vector(slot, len)).transpose()
    }
}

impl Weights {
    /// Errors: [`Error::MissingTensor`], [`Error::WrongShape`].
    pub fn new(spec: &DecoderSpec, loaded: HashMap<Slot, Loading>) -> Result<Weights> {
        let bytes = loaded.values().map(Loading::bytes).sum();
        let mut take = Taker { architecture: &spec.architecture, loaded };
        let (hidden, ffn) = (spec.hidden, spec.ffn);
        let (query, key) = (spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim);
        let mut layers = Vec::with_capacity(spec.layers);
        for i in 0..spec.layers {
            use LayerSlot::*;
            let at = |slot| Slot::Layer(i, slot);
            layers.push(Layer {
                attention_norm: take.vector(at(AttentionNorm), hidden)?,
                query: take.matrix(at(Query), query, hidden)?,
                key: take.matrix(at(Key), key, hidden)?,
                value: take.matrix(at(Value), key, hidden)?,
                query_bias: take.vector_if(spec.qkv_bias, at(QueryBias), query)?,
                key_bias: take.vector_if(spec.qkv_bias, at(KeyBias), key)?,
                value_bias: take.vector_if(spec.qkv_bias, at(ValueBias), key)?,
                query_norm: take.vector_if(spec.qk_norm, at(QueryNorm), spec.head_dim)?,
                key_norm: take.vector_if(spec.qk_norm, at(KeyNorm), spec.head_dim)?,
                attention_output: take.matrix(at(AttentionOutput), hidden, query)?,
                post_attention_norm: take.vector_if(spec.post_norms, at(PostAttentionNorm), hidden)?,
                ffn_norm: take.vector(at(FfnNorm), hidden)?,
                gate: take.matrix(at(Gate), ffn, hidden)?,
                up: take.matrix(at(Up), ffn, hidden)?,
                down: take.matrix(at(Down), hidden, ffn)?,
                post_ffn_norm: take.vector_if(spec.post_norms, at(PostFfnNorm), hidden)?,
            });
        }
        let mut rope_factors = HashMap::new();
        for which in [RopeFactors::Short, RopeFactors::Long] {
            if let Some(Loading::Vector { values, .. }) = take.loaded.remove(&Slot::RopeFactors(which)) {
                rope_factors.insert(which, values);
            }
        }
        Ok(Weights {
            embedding: take.matrix(Slot::TokenEmbedding, spec.vocab, hidden)?,
            output_norm: take.vector(Slot::OutputNorm, hidden)?,
            head: if spec.tied_head { None } else { Some(take.matrix(Slot::Head, spec.vocab, hidden)?) },
            rope_factors,
            layers,
            bytes,
        })
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}
