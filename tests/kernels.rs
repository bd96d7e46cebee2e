//! The CPU kernels against the reference: dequantized weights times activations, summed in f64.

use kinglet::backend::cpu::matrix::{FEW, Matrix, products};
use kinglet::backend::cpu::panel::{Input, Panel};
use kinglet::backend::cpu::pool::Pool;
use kinglet::formats::Format;
use kinglet::num::v128::ByteDot;
use proptest::prelude::*;

const FORMATS: [Format; 11] = [
    Format::F32,
    Format::F16,
    Format::BF16,
    Format::Q8_0,
    Format::Q4_0,
    Format::Q4_1,
    Format::Q5_0,
    Format::Q5_1,
    Format::Q4_K,
    Format::Q5_K,
    Format::Q6_K,
];

/// Natively all of them are imitated.
const DOTS: [ByteDot; 4] = [ByteDot::Pairs, ByteDot::Narrow, ByteDot::Unsigned, ByteDot::Signed];

/// A small deterministic generator, so that a failure can be repeated.
struct Rng(u64);
impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let x = (self.0 ^ (self.0 >> 33)).wrapping_mul(0xff51afd7ed558ccd);
        x ^ (x >> 33)
    }
    /// About -1 to 1.
    fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// f32 to a half beside it; too small ones to zero.
fn half(x: f32) -> [u8; 2] {
    let bits = x.to_bits();
    let sign = (bits >> 16) & 0x8000;
    let exponent = ((bits >> 23) & 255) as i32 - 112;
    assert!(exponent < 31, "{x}");
    let h = if exponent < 1 { 0 } else { ((exponent as u32) << 10) | ((bits >> 13) & 0x3ff) };
    ((sign | h) as u16).to_le_bytes()
}

/// Raw rows of any codes with sensible scales: every bit pattern of a code occurs.
fn random_rows(format: Format, rows: usize, cols: usize, rng: &mut Rng) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..rows * format.row_bytes(cols)).map(|_| rng.next() as u8).collect();
    for block in bytes.chunks_exact_mut(format.block_bytes()) {
        let scale = rng.float().abs() * 0.05 + 0.001;
        let sign = if rng.next().is_multiple_of(2) { 1.0 } else { -1.0 };
        match format {
            Format::F32 => block.copy_from_slice(&rng.float().to_le_bytes()),
            Format::F16 => block.copy_from_slice(&half(rng.float())),
            Format::BF16 => block.copy_from_slice(&rng.float().to_le_bytes()[2..]),
            Format::Q8_0 | Format::Q4_0 | Format::Q5_0 => block[..2].copy_from_slice(&half(sign * scale)),
            Format::Q4_1 | Format::Q5_1 => {
                block[..2].copy_from_slice(&half(sign * scale));
                block[2..4].copy_from_slice(&half(-8.0 * scale * rng.float()));
            }
            Format::Q4_K | Format::Q5_K => {
                block[..2].copy_from_slice(&half(scale / 16.0));
                block[2..4].copy_from_slice(&half(scale / 4.0));
            }
            Format::Q6_K => block[208..].copy_from_slice(&half(scale / 16.0)),
        }
    }
    bytes
}

fn dequantized(format: Format, bytes: &[u8], cols: usize) -> Vec<f32> {
    let mut out = vec![0.0; bytes.len() / format.row_bytes(cols) * cols];
    format.dequantize(bytes, &mut out);
    out
}

/// What a kernel sees of its activations: int8 per 32 columns, or the floats.
fn as_seen(x: &[f32], input: Input) -> Vec<f32> {
    if input == Input::F32 {
        return x.to_vec();
    }
    x.chunks(32)
        .flat_map(|block| {
            let max = block.iter().fold(0f32, |m, x| m.max(x.abs()));
            let inverse = if max > 0.0 { 127.0 / max } else { 0.0 };
            block.iter().map(move |x| (x * inverse).round_ties_even() * (max / 127.0))
        })
        .collect()
}

/// A matrix uploaded in pieces of so many rows.
fn matrix(format: Format, rows: usize, cols: usize, raw: &[u8], piece: usize, dot: ByteDot) -> Matrix {
    let mut m = Matrix::multiplied_by(dot, format, rows, cols).unwrap();
    let mut row = 0;
    for piece in raw.chunks(piece * format.row_bytes(cols)) {
        m.upload(row, piece).unwrap();
        row += piece.len() / format.row_bytes(cols);
    }
    m
}

/// Products of `tokens` tokens with all rows, `[tokens, rows]`.
fn product(m: &Matrix, x: &[f32], tokens: usize) -> Vec<f32> {
    product_on(&mut Pool::single(), m, x, tokens)
}

fn product_on(pool: &mut Pool, m: &Matrix, x: &[f32], tokens: usize) -> Vec<f32> {
    let mut panel = Panel::default();
    panel.fill(pool, tokens, m.cols, &[m.input()], |t| &x[t * m.cols..][..m.cols]).unwrap();
    let mut out = vec![f32::NAN; tokens * m.rows];
    products(pool, &mut panel, [(m, &mut out)]).unwrap();
    out
}

/// All ways to multiply against the reference, and against each other.
fn check(format: Format, rows: usize, cols: usize, tokens: usize, piece: usize, seed: u64) {
    let mut rng = Rng(seed);
    let raw = random_rows(format, rows, cols, &mut rng);
    let x: Vec<f32> = (0..tokens * cols).map(|i| rng.float() * [1.0, 30.0, 0.01][i / 32 % 3]).collect();
    let w = dequantized(format, &raw, cols);
    let mut outs = Vec::new();
    for dot in DOTS {
        let m = matrix(format, rows, cols, &raw, piece, dot);
        let mut row = vec![0.0; cols];
        for r in 0..rows {
            m.row(r, &mut row);
            for (a, b) in row.iter().zip(&w[r * cols..]) {
                assert!((a - b).abs() <= 1e-6 * b.abs().max(1e-1), "{format:?} unpacks {a} where {b} was packed");
            }
        }
        let seen = as_seen(&x, m.input());
        let out = product(&m, &x, tokens);
        for t in 0..tokens {
            for r in 0..rows {
                let terms = w[r * cols..][..cols].iter().zip(&seen[t * cols..]);
                let terms: Vec<f64> = terms.map(|(&w, &x)| f64::from(w) * f64::from(x)).collect();
                let (sum, size) = (terms.iter().sum::<f64>(), terms.iter().map(|t| t.abs()).sum::<f64>());
                let got = f64::from(out[t * rows + r]);
                assert!(
                    (got - sum).abs() <= 4e-6 * size + 1e-5,
                    "{format:?} {rows}x{cols}, {tokens} tokens, {dot:?}: row {r} token {t}: {got} for {sum} of {size}"
                );
            }
        }
        outs.push(out);
    }
    for (out, dot) in outs.iter().zip(DOTS) {
        assert_eq!(*out, outs[0], "{format:?}: {dot:?} makes the same integers");
    }
}

#[test]
fn every_format_and_batch_size() {
    for format in FORMATS {
        for tokens in 1..=9 {
            check(format, 19, 512, tokens, 3, tokens as u64);
        }
    }
}

/// What a draft is checked in says the same as single tokens would.
#[test]
fn a_few_tokens_are_bit_by_bit_as_single_ones() {
    let mut rng = Rng(11);
    for (format, dot) in FORMATS.into_iter().flat_map(|format| DOTS.map(|dot| (format, dot))) {
        // Floats are summed in four chains, of which this leaves one shorter.
        let cols = if format.block_len() == 1 { 515 } else { 512 };
        let raw = random_rows(format, 203, cols, &mut rng);
        let m = matrix(format, 203, cols, &raw, 203, dot);
        let x: Vec<f32> = (0..FEW * cols).map(|i| rng.float() * [1.0, 30.0, 0.01][i / 32 % 3]).collect();
        let single: Vec<f32> = x.chunks_exact(cols).flat_map(|x| product(&m, x, 1)).collect();
        let bits = |floats: &[f32]| floats.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        for tokens in 2..=FEW {
            let few = product(&m, &x[..tokens * cols], tokens);
            assert!(bits(&few) == bits(&single[..tokens * 203]), "{format:?}, {dot:?}, {tokens} tokens");
        }
    }
}

#[test]
fn real_shapes() {
    for format in FORMATS.into_iter().filter(|f| 576 % f.block_len() == 0) {
        check(format, 192, 576, 5, 192, 1);
        check(format, 64, 1536, 1, 64, 2);
    }
}

#[test]
fn extremes_do_not_overflow() {
    // Codes all ones or all zeros against activations that are all at the end of int8: the largest sums there are.
    for format in FORMATS.into_iter().filter(|f| f.block_len() > 1) {
        for (fill, sign) in [(0xff, 1.0), (0xff, -1.0), (0x00, 1.0), (0x00, -1.0), (0x7f, 1.0), (0x80, -1.0)] {
            let (rows, cols, tokens) = (8, 512, 5);
            let random = random_rows(format, rows, cols, &mut Rng(5));
            let mut raw = vec![fill; random.len()];
            let scales = match format {
                Format::Q6_K => 208..210,
                Format::Q8_0 | Format::Q4_0 | Format::Q5_0 => 0..2,
                _ => 0..4,
            };
            let blocks = random.chunks(format.block_bytes());
            for (block, random) in raw.chunks_exact_mut(format.block_bytes()).zip(blocks) {
                block[scales.clone()].copy_from_slice(&random[scales.clone()]);
            }
            let x = vec![sign; tokens * cols];
            let w = dequantized(format, &raw, cols);
            for dot in DOTS {
                let out = product(&matrix(format, rows, cols, &raw, rows, dot), &x, tokens);
                for (i, got) in out.into_iter().enumerate() {
                    let row = &w[i % rows * cols..][..cols];
                    let sum: f64 = row.iter().map(|&w| f64::from(w) * f64::from(sign)).sum();
                    let size: f64 = row.iter().map(|&w| f64::from(w).abs()).sum();
                    let error = (f64::from(got) - sum).abs();
                    assert!(error <= 1e-5 * size + 1e-5, "{format:?} {fill:x} {sign}: {got} for {sum}");
                }
            }
        }
    }
}

/// Where one instruction multiplies bytes, those of Q8_0 are not widened to pairs.
#[test]
fn whole_bytes_are_read_as_bytes() {
    let input = |dot| Matrix::multiplied_by(dot, Format::Q8_0, 8, 32).unwrap().input();
    assert_eq!(DOTS.map(input), [Input::I16, Input::I16, Input::I8, Input::I8]);
}

#[test]
fn wrong_uploads_are_errors() {
    assert!(Matrix::new(Format::Q4_K, 4, 128).is_err(), "half a block");
    assert!(Matrix::new(Format::Q4_0, 0, 32).is_err(), "no rows");
    let mut m = Matrix::new(Format::Q4_0, 4, 32).unwrap();
    assert!(m.upload(1, &[0; 18]).is_err(), "rows out of order");
    assert!(m.upload(0, &[0; 17]).is_err(), "a part of a row");
    assert!(m.upload(0, &[0; 18 * 5]).is_err(), "too many rows");
    m.upload(0, &[0; 18 * 3]).unwrap();
    assert!(!m.is_complete());
    m.upload(3, &[0; 18]).unwrap();
    assert!(m.is_complete());
}

#[test]
fn an_impossible_size_is_out_of_memory() {
    let error = Matrix::new(Format::F32, usize::MAX >> 12, 32).err().expect("more than any machine has");
    assert_eq!(error.code(), kinglet::ErrorCode::OutOfMemory, "{error}");
}

#[test]
fn threads_share_the_rows() {
    let mut rng = Rng(9);
    let mut pools = [2, 3, 5].map(|threads| Pool::new(threads).unwrap().eager());
    for format in FORMATS {
        let cols = format.block_len().max(32);
        let raw = random_rows(format, 203, cols, &mut rng);
        let m = matrix(format, 203, cols, &raw, 203, ByteDot::Narrow);
        for tokens in [1, 7] {
            let x: Vec<f32> = (0..tokens * cols).map(|_| rng.float()).collect();
            let alone = product(&m, &x, tokens);
            for pool in &mut pools {
                assert_eq!(product_on(pool, &m, &x, tokens), alone, "{format:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_shape(format in 0..FORMATS.len(), rows in 1usize..100, blocks in 1usize..4, tokens in 1usize..10, piece in 1usize..12, seed: u64) {
        let format = FORMATS[format];
        let cols = if format.block_len() == 1 { 7 * blocks + seed as usize % 5 } else { format.block_len() * blocks };
        check(format, rows, cols, tokens, piece, seed);
    }
}
