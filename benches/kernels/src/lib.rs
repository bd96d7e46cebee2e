//! The CPU backend's products and whole passes as raw wasm exports, on seeded random weights (speed does not depend on
//! the values). `run.mjs` builds and times it.

mod steps;

use std::cell::RefCell;

use kinglet::backend::cpu::CpuBackend;
use kinglet::backend::cpu::matrix::{self, Matrix};
use kinglet::backend::cpu::panel::Panel;
use kinglet::backend::cpu::pool::Pool;
use kinglet::backend::spec::*;
use kinglet::backend::{Backend, HeadRows, LayerSlot, Slot};
use kinglet::formats::Format;
use kinglet::generate::SignalSum;
use kinglet::generate::signals::summarize;
use kinglet::model::decoder;
use pollster::block_on;

struct Product {
    /// Copies, so that a pass over them reads memory and not the caches.
    matrices: Vec<Matrix>,
    panel: Panel,
    x: Vec<f32>,
    out: Vec<f32>,
}

thread_local! {
    static PRODUCT: RefCell<Option<Product>> = const { RefCell::new(None) };
    static MODEL: RefCell<Option<CpuBackend>> = const { RefCell::new(None) };
}

fn format(ggml: u32) -> Format {
    Format::from_ggml(ggml).expect("one of the table")
}

/// Raw rows: random codes, scales near 2^-6.
fn rows(format: Format, rows: usize, cols: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut random = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as u8
    };
    let mut bytes: Vec<u8> = (0..rows * format.row_bytes(cols)).map(|_| random()).collect();
    for block in bytes.chunks_exact_mut(format.block_bytes()) {
        match format {
            Format::F32 => block[3] = 0x3c,
            Format::F16 => block[1] = 0x24,
            Format::BF16 => block[1] = 0x3c,
            Format::Q6_K => block[209] = 0x10,
            Format::Q4_K | Format::Q5_K => (block[1], block[3]) = (0x10, 0x10),
            Format::Q4_1 | Format::Q5_1 => (block[1], block[3]) = (0x24, 0xa4),
            Format::Q8_0 | Format::Q4_0 | Format::Q5_0 => block[1] = 0x24,
        }
    }
    bytes
}

/// `copies` matrices `[rows, cols]`; returns their packed bytes.
#[unsafe(no_mangle)]
pub extern "C" fn matrices(ggml: u32, count: usize, cols: usize, copies: usize) -> f64 {
    let format = format(ggml);
    let raw = rows(format, count, cols);
    let make = |_| {
        let mut m = Matrix::new(format, count, cols).expect("enough memory");
        m.upload(0, &raw).expect("whole rows");
        m
    };
    let matrices: Vec<Matrix> = (0..copies).map(make).collect();
    let bytes = matrices.iter().map(Matrix::bytes).sum::<u64>();
    let x = (0..128 * cols).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect();
    let product = Product { matrices, panel: Panel::default(), x, out: vec![0.0; 128 * count] };
    PRODUCT.with_borrow_mut(|p| *p = Some(product));
    bytes as f64
}

/// All matrices times `tokens` tokens, the panel of activations made once for each.
#[unsafe(no_mangle)]
pub extern "C" fn products(tokens: usize) {
    PRODUCT.with_borrow_mut(|p| {
        let p = p.as_mut().expect("matrices were made");
        for m in &p.matrices {
            let (pool, cols) = (&mut Pool::single(), m.cols);
            let (panel, x) = (&mut p.panel, &p.x);
            panel.fill(pool, tokens, cols, &[m.input()], |t| &x[t * cols..][..cols]).expect("enough memory");
            matrix::products(pool, panel, [(m, &mut p.out)]).expect("enough memory");
        }
    });
}

/// A Llama of this shape with a tied head, all matrices in one format; returns the bytes of its weights.
#[unsafe(no_mangle)]
pub extern "C" fn model(
    ggml: u32,
    hidden: usize,
    ffn: usize,
    heads: usize,
    kv_heads: usize,
    layers: usize,
    vocab: usize,
) -> f64 {
    steps::shape(ggml, hidden, ffn, heads, kv_heads, hidden / heads, layers, vocab, 2048, 0, 0, false)
}

fn load(format: Format, spec: DecoderSpec) -> f64 {
    MODEL.with_borrow_mut(|m| *m = None);
    let DecoderSpec { layers, hidden, ffn, heads, kv_heads, head_dim, vocab, .. } = spec;
    let mut backend = CpuBackend::new(spec);
    let mut add = |slot, format: Format, count: usize, cols: usize| {
        backend.allocate(slot, format, count, cols).expect("enough memory");
        // In pieces, as a file comes.
        let piece = count.min(512);
        let raw = rows(format, piece, cols);
        for first in (0..count).step_by(piece) {
            let raw = &raw[..format.row_bytes(cols) * piece.min(count - first)];
            block_on(backend.upload(slot, first, raw)).expect("whole rows");
        }
    };
    let (query, kv) = (heads * head_dim, kv_heads * head_dim);
    for i in 0..layers {
        use LayerSlot::*;
        let at = |slot| Slot::Layer(i, slot);
        add(at(AttentionNorm), Format::F32, 1, hidden);
        add(at(Query), format, query, hidden);
        add(at(Key), format, kv, hidden);
        add(at(Value), format, kv, hidden);
        add(at(AttentionOutput), format, hidden, query);
        add(at(FfnNorm), Format::F32, 1, hidden);
        add(at(Gate), format, ffn, hidden);
        add(at(Up), format, ffn, hidden);
        add(at(Down), format, hidden, ffn);
    }
    add(Slot::TokenEmbedding, format, vocab, hidden);
    add(Slot::OutputNorm, Format::F32, 1, hidden);
    block_on(backend.finish()).expect("all tensors are there");
    let bytes = backend.memory().weights;
    MODEL.with_borrow_mut(|m| *m = Some(backend));
    bytes as f64
}

/// One batch of `tokens` at `start`, and the logits of the last.
#[unsafe(no_mangle)]
pub extern "C" fn forward(tokens: usize, start: usize) {
    batch(tokens, start, HeadRows::Last);
}

/// The same, and the logits of all: what checking a draft of `tokens - 1` costs.
#[unsafe(no_mangle)]
pub extern "C" fn check_draft(tokens: usize, start: usize) {
    batch(tokens, start, HeadRows::All);
}

fn batch(tokens: usize, start: usize, rows: HeadRows) {
    MODEL.with_borrow_mut(|m| {
        let ids: Vec<u32> = (0..tokens as u32).map(|i| (i * 31 + start as u32) % 1000).collect();
        decoder::forward(m.as_mut().expect("a model was made"), &ids, start, rows).expect("a valid batch");
    });
}

thread_local! {
    static LOGITS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Logits of `tokens` answers' tokens, `[tokens, vocab]`: most far below the best, as a model's are.
#[unsafe(no_mangle)]
pub extern "C" fn logits(tokens: usize, vocab: usize) {
    let mut state = 9u64;
    let mut random = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    // The sum of uniform numbers is nearly normal.
    let made = (0..tokens * vocab).map(|_| 6.0 * (random() + random() + random() + random() - 2.0)).collect();
    LOGITS.with_borrow_mut(|logits| *logits = made);
}

/// All signals of each token: what a router costs while the model writes.
#[unsafe(no_mangle)]
pub extern "C" fn signals(vocab: usize) -> f64 {
    LOGITS.with_borrow(|logits| {
        let mut sum = SignalSum::default();
        for logits in logits.chunks_exact(vocab) {
            let summary = summarize(logits, 2);
            sum.push(summary.signals(logits, summary.top[0].0));
        }
        sum.get().at(0).unwrap_or_default()
    })
}

/// The best token of each: what a greedy answer needs anyway.
#[unsafe(no_mangle)]
pub extern "C" fn greedy(vocab: usize) -> f64 {
    LOGITS.with_borrow(|logits| {
        let best = |logits: &[f32]| {
            let mut best = (0, f32::NEG_INFINITY);
            for (i, &logit) in logits.iter().enumerate() {
                if logit > best.1 {
                    best = (i, logit);
                }
            }
            best.0
        };
        logits.chunks_exact(vocab).map(|logits| best(logits) as f64).sum()
    })
}
