//! THE table of tensor formats: block elements, block bytes, dequantization (the reference every kernel is tested with).

use crate::num::half::{bf16_to_f32, f16_to_f32};

/// The tensor types found in SmolLM2, Phi-4-mini, Gemma 3 and Qwen2.5 files. The numbers are GGUF's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(non_camel_case_types)]
#[repr(u32)]
pub enum Format {
    F32 = 0,
    F16 = 1,
    Q4_0 = 2,
    Q4_1 = 3,
    Q5_0 = 6,
    Q5_1 = 7,
    Q8_0 = 8,
    Q4_K = 12,
    Q5_K = 13,
    Q6_K = 14,
    BF16 = 30,
}

struct Row {
    format: Format,
    name: &'static str,
    block_len: usize,
    block_bytes: usize,
    /// One block.
    dequantize: fn(&[u8], &mut [f32]),
}

#[rustfmt::skip]
const TABLE: [Row; 11] = [
    Row { format: Format::F32,  name: "F32",  block_len: 1,   block_bytes: 4,   dequantize: f32_element },
    Row { format: Format::F16,  name: "F16",  block_len: 1,   block_bytes: 2,   dequantize: f16_element },
    Row { format: Format::BF16, name: "BF16", block_len: 1,   block_bytes: 2,   dequantize: bf16_element },
    Row { format: Format::Q4_0, name: "Q4_0", block_len: 32,  block_bytes: 18,  dequantize: q4_0 },
    Row { format: Format::Q4_1, name: "Q4_1", block_len: 32,  block_bytes: 20,  dequantize: q4_1 },
    Row { format: Format::Q5_0, name: "Q5_0", block_len: 32,  block_bytes: 22,  dequantize: q5_0 },
    Row { format: Format::Q5_1, name: "Q5_1", block_len: 32,  block_bytes: 24,  dequantize: q5_1 },
    Row { format: Format::Q8_0, name: "Q8_0", block_len: 32,  block_bytes: 34,  dequantize: q8_0 },
    Row { format: Format::Q4_K, name: "Q4_K", block_len: 256, block_bytes: 144, dequantize: q4_k },
    Row { format: Format::Q5_K, name: "Q5_K", block_len: 256, block_bytes: 176, dequantize: q5_k },
    Row { format: Format::Q6_K, name: "Q6_K", block_len: 256, block_bytes: 210, dequantize: q6_k },
];

/// ggml's other types (number, name, block elements, block bytes), so that messages and `inspect` can name and size them.
const OTHERS: [(u32, &str, usize, usize); 22] = [
    (10, "Q2_K", 256, 84),
    (11, "Q3_K", 256, 110),
    (15, "Q8_K", 256, 292),
    (16, "IQ2_XXS", 256, 66),
    (17, "IQ2_XS", 256, 74),
    (18, "IQ3_XXS", 256, 98),
    (19, "IQ1_S", 256, 50),
    (20, "IQ4_NL", 32, 18),
    (21, "IQ3_S", 256, 110),
    (22, "IQ2_S", 256, 82),
    (23, "IQ4_XS", 256, 136),
    (24, "I8", 1, 1),
    (25, "I16", 1, 2),
    (26, "I32", 1, 4),
    (27, "I64", 1, 8),
    (28, "F64", 1, 8),
    (29, "IQ1_M", 256, 56),
    (34, "TQ1_0", 256, 54),
    (35, "TQ2_0", 256, 66),
    (39, "MXFP4", 32, 17),
    (40, "NVFP4", 64, 36),
    (41, "Q1_0", 128, 18),
];

impl Format {
    /// Every format there is.
    pub const ALL: [Format; TABLE.len()] = {
        let mut all = [Format::F32; TABLE.len()];
        let mut i = 0;
        while i < all.len() {
            all[i] = TABLE[i].format;
            i += 1;
        }
        all
    };

    fn row(self) -> &'static Row {
        TABLE.iter().find(|row| row.format == self).expect("the table has every format")
    }

    /// From GGUF's type number.
    pub fn from_ggml(id: u32) -> Option<Format> {
        TABLE.iter().map(|row| row.format).find(|&format| format as u32 == id)
    }

    /// "Q4_K" and the like.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// Elements in one block (1 for floats).
    pub fn block_len(self) -> usize {
        self.row().block_len
    }

    /// Bytes of one block.
    pub fn block_bytes(self) -> usize {
        self.row().block_bytes
    }

    /// Bytes of a row of `cols` elements; `cols` is a multiple of the block.
    pub fn row_bytes(self, cols: usize) -> usize {
        cols / self.block_len() * self.block_bytes()
    }

    /// Whole blocks to floats: `out.len() == bytes.len() / block_bytes * block_len`.
    pub fn dequantize(self, bytes: &[u8], out: &mut [f32]) {
        let row = self.row();
        assert_eq!(bytes.len() % row.block_bytes, 0, "{} bytes are not whole {} blocks", bytes.len(), row.name);
        assert_eq!(out.len(), bytes.len() / row.block_bytes * row.block_len, "elements of {}", row.name);
        for (block, out) in bytes.chunks_exact(row.block_bytes).zip(out.chunks_exact_mut(row.block_len)) {
            (row.dequantize)(block, out);
        }
    }
}

/// What messages call a type number: "Q3_K", or "number 77" where nobody knows it.
pub fn ggml_type_name(id: u32) -> String {
    match (Format::from_ggml(id), OTHERS.iter().find(|other| other.0 == id)) {
        (Some(format), _) => format.name().into(),
        (None, Some(other)) => other.1.into(),
        (None, None) => format!("number {id}"),
    }
}

/// (block elements, block bytes) of any type that ggml has a size for.
pub fn ggml_block(id: u32) -> Option<(usize, usize)> {
    let known = Format::from_ggml(id).map(|format| (format.block_len(), format.block_bytes()));
    known.or_else(|| OTHERS.iter().find(|other| other.0 == id).map(|other| (other.2, other.3)))
}

fn f32_element(block: &[u8], out: &mut [f32]) {
    out[0] = f32::from_le_bytes([block[0], block[1], block[2], block[3]]);
}

fn f16_element(block: &[u8], out: &mut [f32]) {
    out[0] = half_at(block, 0);
}

fn bf16_element(block: &[u8], out: &mut [f32]) {
    out[0] = bf16_to_f32(u16::from_le_bytes([block[0], block[1]]));
}

fn half_at(block: &[u8], at: usize) -> f32 {
    f16_to_f32(u16::from_le_bytes([block[at], block[at + 1]]))
}

/// The 4-bit formats keep element i in the low nibble of byte i, element i + 16 in the high one.
fn nibbles(qs: &[u8]) -> impl Iterator<Item = (usize, i32)> + '_ {
    qs.iter().enumerate().flat_map(|(i, q)| [(i, i32::from(q & 15)), (i + 16, i32::from(q >> 4))])
}

/// The 5-bit formats keep the fifth bits of all 32 elements in one word.
fn fifth_bit(block: &[u8], at: usize, i: usize) -> i32 {
    i32::from(block[at + i / 8] >> (i % 8) & 1) << 4
}

/// d, 16 bytes of nibbles: d * (q - 8).
fn q4_0(block: &[u8], out: &mut [f32]) {
    let d = half_at(block, 0);
    nibbles(&block[2..]).for_each(|(i, q)| out[i] = d * (q - 8) as f32);
}

/// d, m, 16 bytes of nibbles: d * q + m.
fn q4_1(block: &[u8], out: &mut [f32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    nibbles(&block[4..]).for_each(|(i, q)| out[i] = d * q as f32 + m);
}

/// d, fifth bits, 16 bytes of nibbles: d * (q - 16).
fn q5_0(block: &[u8], out: &mut [f32]) {
    let d = half_at(block, 0);
    nibbles(&block[6..]).for_each(|(i, q)| out[i] = d * ((q | fifth_bit(block, 2, i)) - 16) as f32);
}

/// d, m, fifth bits, 16 bytes of nibbles: d * q + m.
fn q5_1(block: &[u8], out: &mut [f32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    nibbles(&block[8..]).for_each(|(i, q)| out[i] = d * (q | fifth_bit(block, 4, i)) as f32 + m);
}

/// d, 32 signed bytes: d * q.
fn q8_0(block: &[u8], out: &mut [f32]) {
    let d = half_at(block, 0);
    block[2..].iter().zip(out).for_each(|(&q, out)| *out = d * f32::from(q as i8));
}

/// Scale and minimum of sub-block `i` of 8, six bits each, out of twelve bytes.
fn scale_min(scales: &[u8], i: usize) -> (f32, f32) {
    let (scale, min) = if i < 4 {
        (scales[i] & 63, scales[i + 4] & 63)
    } else {
        let (low, high) = (scales[i + 4], [scales[i - 4], scales[i]]);
        (low & 15 | high[0] >> 6 << 4, low >> 4 | high[1] >> 6 << 4)
    };
    (f32::from(scale), f32::from(min))
}

/// d, dmin, 12 bytes of scales and minima, 128 bytes of nibbles; 32 bytes hold sub-block 2c low and 2c + 1 high.
fn q4_k(block: &[u8], out: &mut [f32]) {
    let (d, dmin, scales) = (half_at(block, 0), half_at(block, 2), &block[4..16]);
    for (i, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, min) = scale_min(scales, i);
        let (scale, min) = (d * scale, dmin * min);
        let qs = &block[16 + i / 2 * 32..][..32];
        for (q, out) in qs.iter().zip(out) {
            *out = scale * f32::from(q >> (4 * (i % 2)) & 15) - min;
        }
    }
}

/// As Q4_K, with 32 bytes of fifth bits before the nibbles: bit i belongs to sub-block i.
fn q5_k(block: &[u8], out: &mut [f32]) {
    let (d, dmin, scales) = (half_at(block, 0), half_at(block, 2), &block[4..16]);
    for (i, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, min) = scale_min(scales, i);
        let (scale, min) = (d * scale, dmin * min);
        let qs = &block[48 + i / 2 * 32..][..32];
        for ((q, fifth), out) in qs.iter().zip(&block[16..48]).zip(out) {
            *out = scale * f32::from((q >> (4 * (i % 2)) & 15) | (fifth >> i & 1) << 4) - min;
        }
    }
}

/// 128 bytes of low nibbles, 64 of high bit pairs, 16 signed scales, d: d * scale * (q - 32). Each half of 128 elements has
/// four runs of 32: nibbles from bytes 0.. and 32.., low then high, bit pairs from one 32-byte run.
fn q6_k(block: &[u8], out: &mut [f32]) {
    let (scales, d) = (&block[192..208], half_at(block, 208));
    for (i, out) in out.iter_mut().enumerate() {
        let (half, run, lane) = (i / 128, i / 32 % 4, i % 32);
        let low = block[half * 64 + run % 2 * 32 + lane] >> (run / 2 * 4) & 15;
        let high = block[128 + half * 32 + lane] >> (run * 2) & 3;
        let scale = scales[i / 16] as i8;
        *out = d * f32::from(scale) * f32::from((low | high << 4) as i8 - 32);
    }
}
