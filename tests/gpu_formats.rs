//! Every format's way to the GPU: raw rows, repacked into planes, read back through the kernels that use them.

#[path = "common/gpu.rs"]
mod gpu;

use gpu::gpu;
use kinglet::backend::spec::*;
use kinglet::backend::webgpu::{GpuOptions, WebGpuBackend};
use kinglet::backend::{Backend, HeadRows, LayerSlot, Slot, TensorShape};
use kinglet::formats::Format;
use kinglet::generate::sampler::SplitMix64;
use pollster::block_on;

/// One layer; hidden = columns of the matrices under test.
fn spec(hidden: usize, vocab: usize, ffn: usize, tied_head: bool) -> DecoderSpec {
    DecoderSpec {
        architecture: "test".into(),
        layers: 1,
        hidden,
        ffn,
        heads: 1,
        kv_heads: 1,
        head_dim: 4,
        vocab,
        context_length: 64,
        norm_eps: 0.0,
        rope: Rope { base: 1e4, dim: 4, pairs: RopePairs::Halves, scaling: RopeScaling::None },
        local_rope: None,
        sliding_window: None,
        layer_kinds: vec![LayerKind::Global],
        activation: Activation::Silu,
        embedding_scale: 1.0,
        attention_scale: 0.5,
        kv_int8: false,
        tied_head,
        qkv_bias: false,
        qk_norm: false,
        post_norms: false,
    }
}

struct Matrix {
    slot: Slot,
    format: Format,
    cols: usize,
    bytes: Vec<u8>,
}

impl Matrix {
    fn floats(slot: Slot, cols: usize, values: impl Iterator<Item = f32>) -> Matrix {
        Matrix { slot, format: Format::F32, cols, bytes: values.flat_map(f32::to_le_bytes).collect() }
    }

    /// Any bits, but for scales and floats, which are at most 1, of either sign. K-quants' scales really are subnormal halves.
    fn random(slot: Slot, format: Format, rows: usize, cols: usize, rng: &mut SplitMix64) -> Matrix {
        let mut bytes: Vec<u8> = (0..rows * format.row_bytes(cols)).map(|_| rng.next_u64() as u8).collect();
        let halves: &[usize] = match format {
            Format::F32 => &[2],
            Format::Q6_K => &[208],
            Format::F16 | Format::BF16 | Format::Q4_0 | Format::Q5_0 | Format::Q8_0 => &[0],
            Format::Q4_1 | Format::Q5_1 | Format::Q4_K | Format::Q5_K => &[0, 2],
        };
        for block in bytes.chunks_exact_mut(format.block_bytes()) {
            for at in halves {
                let sign = (rng.next_u64() & 1) << 15;
                let half = match format {
                    Format::F32 | Format::BF16 => 0x3a80 + rng.next_u64() % 0x500,
                    _ => 0x0080 + rng.next_u64() % 0x3b00,
                };
                block[*at..at + 2].copy_from_slice(&((sign | half) as u16).to_le_bytes());
            }
        }
        Matrix { slot, format, cols, bytes }
    }

    fn rows(&self) -> usize {
        self.bytes.len() / self.format.row_bytes(self.cols)
    }

    fn values(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.rows() * self.cols];
        self.format.dequantize(&self.bytes, &mut values);
        values
    }
}

/// The matrices are uploaded `chunk` rows at a time; whatever else the spec has is zero, and norms are one.
fn backend(options: &GpuOptions, spec: &DecoderSpec, mut matrices: Vec<Matrix>, chunk: usize) -> WebGpuBackend {
    use LayerSlot::*;
    let layer = |slot| Slot::Layer(0, slot);
    let (hidden, zero, one) = (spec.hidden, std::iter::repeat(0.0), std::iter::repeat(1.0));
    let mut rest = vec![Matrix::floats(Slot::OutputNorm, hidden, one.clone().take(hidden))];
    for slot in [AttentionNorm, FfnNorm] {
        rest.push(Matrix::floats(layer(slot), hidden, one.clone().take(hidden)));
    }
    let heads = spec.head_dim;
    for (slot, rows, cols) in [
        (Slot::TokenEmbedding, spec.vocab, hidden),
        (layer(Query), heads, hidden),
        (layer(Key), heads, hidden),
        (layer(Value), heads, hidden),
        (layer(AttentionOutput), hidden, heads),
        (layer(Gate), spec.ffn, hidden),
        (layer(Up), spec.ffn, hidden),
        (layer(Down), hidden, spec.ffn),
    ] {
        rest.push(Matrix::floats(slot, cols, zero.clone().take(rows * cols)));
    }
    rest.retain(|one| matrices.iter().all(|matrix| matrix.slot != one.slot));
    matrices.append(&mut rest);

    let mut backend = block_on(WebGpuBackend::new(spec.clone(), options)).unwrap();
    let shape = |m: &Matrix| TensorShape { slot: m.slot, format: m.format, rows: m.rows(), cols: m.cols };
    backend.prepare(&matrices.iter().map(shape).collect::<Vec<_>>()).unwrap();
    for matrix in &matrices {
        backend.allocate(matrix.slot, matrix.format, matrix.rows(), matrix.cols).unwrap();
        let chunk_bytes = chunk * matrix.format.row_bytes(matrix.cols);
        for (i, rows) in matrix.bytes.chunks(chunk_bytes).enumerate() {
            block_on(backend.upload(matrix.slot, i * chunk, rows)).unwrap();
        }
    }
    backend
}

/// Columns of odd numbers of blocks, where the format has them.
fn columns(format: Format) -> [usize; 3] {
    match format.block_len() {
        1 => [4, 37, 100],
        32 => [32, 96, 160],
        block => [block, 2 * block, 3 * block],
    }
}

/// Relative to the largest: a sum of a product and an offset may cancel.
fn same(found: &[f32], expected: &[f32], limit: f32) -> Result<(), String> {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0f32, |most, x| most.max(x.abs()));
    match found.iter().zip(expected).position(|(f, e)| f.is_nan() || (f - e).abs() > limit * largest) {
        Some(i) => Err(format!("element {i} is {}, not {}", found[i], expected[i])),
        None => Ok(()),
    }
}

#[test]
fn rows_of_every_format_come_back() {
    let Some(options) = gpu() else { return };
    let mut rng = SplitMix64(1);
    for format in Format::ALL {
        for (cols, rows, chunk) in
            columns(format).into_iter().zip([(1, 1), (7, 3), (33, 16)]).map(|(c, (r, n))| (c, r, n))
        {
            let matrix = Matrix::random(Slot::TokenEmbedding, format, rows, cols, &mut rng);
            let values = matrix.values();
            let mut backend = backend(&options, &spec(cols, rows, 3, true), vec![matrix], chunk);
            for (token, expected) in values.chunks(cols).enumerate() {
                backend.embed(&[token as u32], 0).unwrap();
                let found = block_on(backend.residual()).unwrap();
                same(&found, expected, 1e-6)
                    .unwrap_or_else(|e| panic!("{}, row {token} of {cols}: {e}", format.name()));
            }
        }
    }
}

/// One-hot inputs pick single weights out of gate and up, whose rows alternate on the GPU; the identity as `down` shows
/// activation(gate) * up in the residual stream. In every variant of the kernels, int8 inputs too: they hold one-hots exactly.
#[test]
fn gate_and_up_of_every_format_alternate() {
    let mut rng = SplitMix64(2);
    for (name, options) in gpu::variants() {
        for format in Format::ALL {
            let (cols, ffn) = (columns(format)[2], 31);
            let spec = spec(cols, 6, ffn, true);
            let layer = |slot| Slot::Layer(0, slot);
            let [gate, up] =
                [LayerSlot::Gate, LayerSlot::Up].map(|slot| Matrix::random(layer(slot), format, ffn, cols, &mut rng));
            let (gates, ups) = (gate.values(), up.values());
            let picked: Vec<usize> = (0..spec.vocab).map(|token| (token * 37 + 5) % cols).collect();
            let hot = |i: usize| picked[i / cols] == i % cols;
            let one_hot = Matrix::floats(Slot::TokenEmbedding, cols, (0..spec.vocab * cols).map(|i| hot(i).into()));
            let diagonal = (0..cols * ffn).map(|i| (i / ffn == i % ffn).into());
            let down = Matrix::floats(layer(LayerSlot::Down), ffn, diagonal);
            let mut backend = backend(&options, &spec, vec![gate, up, one_hot, down], 7);
            for (token, &col) in picked.iter().enumerate() {
                backend.embed(&[token as u32], 0).unwrap();
                backend.gate_up(0).unwrap();
                backend.down(0).unwrap();
                let found = block_on(backend.residual()).unwrap();
                let x = (cols as f32).sqrt();
                let expected: Vec<f32> = (0..cols)
                    .map(|row| {
                        let own = f32::from(row == col);
                        let gated = |row: usize| {
                            let (gate, up) = (gates[row * cols + col] * x, ups[row * cols + col] * x);
                            gate / (1.0 + (-gate).exp()) * up
                        };
                        own + if row < ffn { gated(row) } else { 0.0 }
                    })
                    .collect();
                // A GPU's exponential is good to some units in the last place.
                same(&found, &expected, 4e-6)
                    .unwrap_or_else(|e| panic!("{}, {name}, column {col} of {cols}: {e}", format.name()));
            }
        }
    }
}

/// Parts of an embedding and of a head that exceed the binding limit, uploaded in chunks that cross from part to part.
#[test]
fn a_matrix_in_parts_is_the_whole_one() {
    let Some(options) = gpu() else { return };
    let options = GpuOptions { binding_limit: Some(1 << 20), arithmetic: Some("f32".into()), ..options };
    let mut rng = SplitMix64(3);
    for (format, cols, vocab) in [(Format::F32, 96, 6001), (Format::Q5_1, 160, 20011), (Format::Q6_K, 512, 5003)] {
        let spec = spec(cols, vocab, 3, false);
        let [embedding, head] =
            [Slot::TokenEmbedding, Slot::Head].map(|slot| Matrix::random(slot, format, vocab, cols, &mut rng));
        let (rows, heads) = (embedding.values(), head.values());
        let mut backend = backend(&options, &spec, vec![embedding, head], 1000);
        // Two parts each at least, and the other kernels of a token: the test is of parts.
        assert!(backend.dispatches_per_token() >= 5 + 2 + 2, "{} is split", format.name());
        for token in [0, 1, 2047, 2048, vocab / 2, vocab - 1] {
            let row = &rows[token * cols..][..cols];
            backend.embed(&[token as u32], 0).unwrap();
            let found = block_on(backend.residual()).unwrap();
            same(&found, row, 1e-6).unwrap_or_else(|e| panic!("{}, row {token}: {e}", format.name()));
            backend.head(HeadRows::Last).unwrap();
            let logits = block_on(backend.logits()).unwrap();
            let rms = (row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / cols as f64).sqrt();
            let product = |head: &[f32]| head.iter().zip(row).map(|(w, x)| f64::from(*w) * f64::from(*x) / rms).sum();
            let expected: Vec<f32> =
                heads.chunks(cols).map(|head| -> f64 { product(head) }).map(|x| x as f32).collect();
            same(logits, &expected, 1e-5).unwrap_or_else(|e| panic!("{}, head of row {token}: {e}", format.name()));
        }
    }
}
