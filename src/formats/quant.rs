//! THE table of tensor formats: block elements, block bytes, dequantization (the reference every kernel is tested with).

/// The tensor types found in SmolLM2, Phi-4-mini, Gemma 3 and Qwen2.5 files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(non_camel_case_types)]
pub enum Format {
    F32,
    F16,
    BF16,
    Q8_0,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q4_K,
    Q5_K,
    Q6_K,
}

impl Format {
    /// From GGUF's type number.
    pub fn from_ggml(_id: u32) -> Option<Format> {
        todo!()
    }

    /// "Q4_K" and the like.
    pub fn name(self) -> &'static str {
        todo!()
    }

    /// Elements in one block (1 for floats).
    pub fn block_len(self) -> usize {
        todo!()
    }

    /// Bytes of one block.
    pub fn block_bytes(self) -> usize {
        todo!()
    }

    /// Bytes of a row of `cols` elements; `cols` is a multiple of the block.
    pub fn row_bytes(self, cols: usize) -> usize {
        cols / self.block_len() * self.block_bytes()
    }

    /// Whole blocks to floats: `out.len() == bytes.len() / block_bytes * block_len`.
    pub fn dequantize(self, _bytes: &[u8], _out: &mut [f32]) {
        todo!()
    }
}
