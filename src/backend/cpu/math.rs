//! Vectorised element-wise work: norms, activations, sums. Rows are any length; a vector that is not full is padded with
//! zeros.

use crate::backend::spec::Activation;
use crate::num::exp::Exp;
use crate::num::v128::*;

/// The vectors of a slice; the last may be padded.
#[inline(always)]
fn each(values: &[f32], mut f: impl FnMut(v128)) {
    let (chunks, rest) = values.as_chunks();
    chunks.iter().for_each(|chunk| f(f32x4_load(chunk)));
    if !rest.is_empty() {
        let mut last = [0.0; 4];
        last[..rest.len()].copy_from_slice(rest);
        f(f32x4_load(&last));
    }
}

/// As [`each`], with the place where a vector begins; the results replace it, those of the padding are dropped.
#[inline(always)]
fn map(values: &mut [f32], mut f: impl FnMut(v128, usize) -> v128) {
    let (chunks, rest) = values.as_chunks_mut();
    let mut at = 0;
    for chunk in chunks {
        f32x4_store(chunk, f(f32x4_load(chunk), at));
        at += 4;
    }
    if !rest.is_empty() {
        let mut last = [0.0; 4];
        last[..rest.len()].copy_from_slice(rest);
        let v = f(f32x4_load(&last), at);
        f32x4_store(&mut last, v);
        rest.copy_from_slice(&last[..rest.len()]);
    }
}

/// Four floats of `values` from `at` on; zeros behind its end.
#[inline(always)]
pub fn four(values: &[f32], at: usize) -> v128 {
    let rest = &values[at..];
    match rest.first_chunk() {
        Some(four) => f32x4_load(four),
        None => {
            let mut last = [0.0; 4];
            last[..rest.len()].copy_from_slice(rest);
            f32x4_load(&last)
        }
    }
}

pub fn add(values: &mut [f32], other: &[f32]) {
    assert_eq!(values.len(), other.len());
    map(values, |v, at| f32x4_add(v, four(other, at)));
}

/// values += by * other, whose rest is not used.
pub fn add_scaled(values: &mut [f32], by: f32, other: &[f32]) {
    map(values, |v, at| f32x4_madd(four(other, at), f32x4_splat(by), v));
}

pub fn scale(values: &mut [f32], by: f32) {
    map(values, |v, _| f32x4_mul(v, f32x4_splat(by)));
}

/// x / rms(x) * weight.
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    out.copy_from_slice(x);
    rms_norm_in_place(out, weight, eps);
}

pub fn rms_norm_in_place(x: &mut [f32], weight: &[f32], eps: f32) {
    assert_eq!(x.len(), weight.len());
    // Two sums, in turn: an addition need not wait for the one before.
    let (mut sum, mut other) = (f32x4_splat(0.0), f32x4_splat(0.0));
    each(x, |v| (sum, other) = (other, f32x4_madd(v, v, sum)));
    let mean = f32x4_sum(f32x4_add(sum, other)) / x.len() as f32;
    let factor = f32x4_splat(1.0 / (mean + eps).sqrt());
    map(x, |v, at| f32x4_mul(f32x4_mul(v, factor), four(weight, at)));
}

/// gate = activation(gate) * up
pub fn gated(gate: &mut [f32], up: &[f32], activation: Activation) {
    assert_eq!(gate.len(), up.len());
    let (exp, one) = (Exp::kept(), kept(f32x4_splat(1.0)));
    match activation {
        Activation::Silu => {
            map(gate, |g, at| f32x4_div(f32x4_mul(g, four(up, at)), f32x4_add(one, exp.clamped(f32x4_neg(g)))))
        }
        // (1 + tanh(y)) / 2 = 1 / (1 + e^(-2y))
        Activation::Gelu => {
            let (cubic, factor) = (kept(f32x4_splat(0.044_715)), kept(f32x4_splat(-2.0 * 0.797_884_6)));
            map(gate, |g, at| {
                let cube = f32x4_mul(f32x4_mul(g, g), cubic);
                let y = f32x4_mul(f32x4_madd(cube, g, g), factor);
                f32x4_div(f32x4_mul(g, four(up, at)), f32x4_add(one, exp.clamped(y)))
            })
        }
    }
}
