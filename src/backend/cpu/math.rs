//! Vectorised element-wise work: norms, activations, sums. Rows are any length; what does not fill a
//! vector is done alone.

use crate::backend::spec::Activation;
use crate::num::exp::exp;
use crate::num::v128::*;

/// The vectors of a slice; the last may be padded with `pad`, whose results are dropped.
#[inline(always)]
fn map(values: &mut [f32], mut f: impl FnMut(v128, usize) -> v128, pad: f32) {
    let mut chunks = values.chunks_exact_mut(4);
    let mut at = 0;
    for chunk in &mut chunks {
        // SAFETY: four floats.
        unsafe { v128_store(chunk.as_mut_ptr().cast(), f(v128_load(chunk.as_ptr().cast()), at)) };
        at += 4;
    }
    let rest = chunks.into_remainder();
    if !rest.is_empty() {
        let mut last = [pad; 4];
        last[..rest.len()].copy_from_slice(rest);
        // SAFETY: four floats.
        unsafe { v128_store(last.as_mut_ptr().cast(), f(v128_load(last.as_ptr().cast()), at)) };
        rest.copy_from_slice(&last[..rest.len()]);
    }
}

/// Four floats of `values` from `at` on; zeros behind its end.
#[inline(always)]
fn four(values: &[f32], at: usize) -> v128 {
    let mut last = [0.0; 4];
    let p = match values.get(at..at + 4) {
        Some(four) => four.as_ptr(),
        None => {
            let rest = &values[at..];
            last[..rest.len()].copy_from_slice(rest);
            last.as_ptr()
        }
    };
    // SAFETY: four floats.
    unsafe { v128_load(p.cast()) }
}

pub fn add(values: &mut [f32], other: &[f32]) {
    assert_eq!(values.len(), other.len());
    map(values, |v, at| f32x4_add(v, four(other, at)), 0.0);
}

pub fn scale(values: &mut [f32], by: f32) {
    map(values, |v, _| f32x4_mul(v, f32x4_splat(by)), 0.0);
}

/// x / rms(x) * weight.
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    out.copy_from_slice(x);
    rms_norm_in_place(out, weight, eps);
}

pub fn rms_norm_in_place(x: &mut [f32], weight: &[f32], eps: f32) {
    assert_eq!(x.len(), weight.len());
    let mut sums = [f32x4_splat(0.0); 2];
    map(
        x,
        |v, at| {
            let sum = &mut sums[(at / 4) % 2];
            *sum = f32x4_madd(v, v, *sum);
            v
        },
        0.0,
    );
    let mean = f32x4_sum(f32x4_add(sums[0], sums[1])) / x.len() as f32;
    let factor = f32x4_splat(1.0 / (mean + eps).sqrt());
    map(x, |v, at| f32x4_mul(f32x4_mul(v, factor), four(weight, at)), 0.0);
}

/// gate = activation(gate) * up
pub fn gated(gate: &mut [f32], up: &[f32], activation: Activation) {
    assert_eq!(gate.len(), up.len());
    let one = f32x4_splat(1.0);
    match activation {
        Activation::Silu => {
            map(gate, |g, at| f32x4_div(f32x4_mul(g, four(up, at)), f32x4_add(one, exp(f32x4_neg(g)))), 0.0)
        }
        // (1 + tanh(y)) / 2 = 1 / (1 + e^(-2y))
        Activation::Gelu => map(
            gate,
            |g, at| {
                let cube = f32x4_mul(f32x4_mul(g, g), f32x4_splat(0.044_715));
                let y = f32x4_mul(f32x4_madd(cube, g, g), f32x4_splat(-2.0 * 0.797_884_6));
                f32x4_div(f32x4_mul(g, four(up, at)), f32x4_add(one, exp(y)))
            },
            0.0,
        ),
    }
}

/// Replaces `row` by e^(row - max(row)), -infinity giving about 0; returns the sum.
pub fn softmax_unscaled(row: &mut [f32]) -> f32 {
    let mut max = f32x4_splat(f32::NEG_INFINITY);
    map(
        row,
        |v, _| {
            max = f32x4_max(max, v);
            v
        },
        f32::NEG_INFINITY,
    );
    let max = f32x4_splat(f32x4_greatest(max));
    let mut sum = f32x4_splat(0.0);
    map(
        row,
        |v, _| {
            let e = exp(f32x4_sub(v, max));
            sum = f32x4_add(sum, e);
            e
        },
        f32::NEG_INFINITY,
    );
    f32x4_sum(sum)
}
