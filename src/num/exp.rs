//! e^x: the one exponential of attention, activations, sampling and signals.

use super::v128::*;

/// e^x, relative error below 1e-7; x is clamped to +-87.
#[inline(always)]
pub fn exp(x: v128) -> v128 {
    exp_within_87(f32x4_min(f32x4_max(x, f32x4_splat(-87.0)), f32x4_splat(87.0)))
}

/// As [`exp`], of x that are known to be from -87 to 87.
#[inline(always)]
pub fn exp_within_87(x: v128) -> v128 {
    let (n, exponent) = f32x4_round_i32x4(f32x4_mul(x, f32x4_splat(std::f32::consts::LOG2_E)));
    // ln 2 in two parts, the first with few enough bits for n times it to be exact.
    let r = f32x4_sub(x, f32x4_mul(n, f32x4_splat(0.693_359_4)));
    let r = f32x4_sub(r, f32x4_mul(n, f32x4_splat(-2.121_944_4e-4)));
    // 1 + r + ...: the coefficients with the least relative error, 3e-9, for r within ln(2) / 2 (Taylor's: 1.2e-7).
    let mut p = f32x4_splat(1.381_446_7e-3);
    for c in [8.368_78e-3, 4.166_839_4e-2, 1.666_652e-1, 4.999_999_3e-1, 1.0, 1.0] {
        p = f32x4_madd(p, r, f32x4_splat(c));
    }
    i32x4_add(p, i32x4_shl(exponent, 23))
}

/// As [`exp_within_87`], of one number.
#[inline(always)]
pub fn exp_f32_within_87(x: f32) -> f32 {
    f32x4_extract_lane::<0>(exp_within_87(f32x4_splat(x)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_accurate_over_its_range() {
        for i in -870_000..=870_000 {
            let x = i as f32 / 10_000.0;
            let exact = f64::from(x).exp();
            let error = (f64::from(exp_f32_within_87(x)) - exact).abs() / exact;
            assert!(error < 1e-7, "exp({x}): relative error {error:e}");
        }
    }

    #[test]
    fn what_is_outside_is_clamped() {
        let lane = |x| f32x4_extract_lane::<0>(exp(f32x4_splat(x)));
        for (x, clamped) in [(88.0, 87.0), (f32::INFINITY, 87.0), (-88.0, -87.0), (f32::NEG_INFINITY, -87.0)] {
            assert_eq!(lane(x), exp_f32_within_87(clamped), "{x}");
        }
        assert_eq!(lane(0.0), 1.0);
    }
}
