//! e^x: the one exponential of attention, activations, sampling and signals.

use super::v128::*;

/// The exponential's constants, for a loop to make before it begins; see [`kept`].
#[derive(Clone, Copy)]
pub struct Exp {
    most: v128,
    log2_e: v128,
    rounder: v128,
    ln_2: [v128; 2],
    coefficients: [v128; 7],
}

impl Exp {
    #[inline(always)]
    pub fn kept() -> Exp {
        Exp::with(kept)
    }

    #[inline(always)]
    fn with(kept: fn(v128) -> v128) -> Exp {
        let kept = |x: f32| kept(f32x4_splat(x));
        Exp {
            most: kept(87.0),
            log2_e: kept(std::f32::consts::LOG2_E),
            rounder: kept(ROUNDER),
            // In two parts, the first with few enough bits for n times it to be exact.
            ln_2: [0.693_359_4, -2.121_944_4e-4].map(kept),
            // 1 + r + ...: those with the least relative error, 3e-9, for r within ln(2) / 2 (Taylor's: 1.2e-7).
            coefficients: [1.381_446_7e-3, 8.368_78e-3, 4.166_839_4e-2, 1.666_652e-1, 4.999_999_3e-1, 1.0, 1.0]
                .map(kept),
        }
    }

    /// e^x, relative error below 1e-7; x is clamped to +-87.
    #[inline(always)]
    pub fn clamped(&self, x: v128) -> v128 {
        self.within_87(f32x4_min(f32x4_max(x, f32x4_neg(self.most)), self.most))
    }

    /// Of x that are known to be from -87 to 87.
    #[inline(always)]
    pub fn within_87(&self, x: v128) -> v128 {
        // The nearest integer, as `Rounder` makes it; a shift drops the bits above the exponent's.
        let exponent = f32x4_add(f32x4_mul(x, self.log2_e), self.rounder);
        let n = f32x4_sub(exponent, self.rounder);
        let [ln_2, rest] = self.ln_2;
        let r = f32x4_sub(f32x4_sub(x, f32x4_mul(n, ln_2)), f32x4_mul(n, rest));
        let [mut p, others @ ..] = self.coefficients;
        for c in others {
            p = f32x4_madd(p, r, c);
        }
        i32x4_add(p, i32x4_shl(exponent, 23))
    }
}

/// As [`Exp::within_87`], of one number.
#[inline(always)]
pub fn exp_f32_within_87(x: f32) -> f32 {
    f32x4_extract_lane::<0>(Exp::with(|constant| constant).within_87(f32x4_splat(x)))
}

/// As [`Exp`], for powers of two: fewer constants and operations, relative error below 3e-7.
#[derive(Clone, Copy)]
pub struct Exp2 {
    least: v128,
    rounder: v128,
    coefficients: [v128; 6],
}

impl Exp2 {
    #[inline(always)]
    pub fn kept() -> Exp2 {
        let kept = |x: f32| kept(f32x4_splat(x));
        Exp2 {
            least: kept(-126.0),
            rounder: kept(ROUNDER),
            // Those with the least relative error within a half, 7e-8, but for the last.
            coefficients: [1.327_647_2e-3, 9.675_541e-3, 5.550_713e-2, 2.402_212e-1, 6.931_469_4e-1, 1.0].map(kept),
        }
    }

    /// 2^x of x up to 127; those below -126 are taken for that.
    #[inline(always)]
    pub fn of(&self, x: v128) -> v128 {
        let x = f32x4_max(x, self.least);
        let exponent = f32x4_add(x, self.rounder);
        let r = f32x4_sub(x, f32x4_sub(exponent, self.rounder));
        let [mut p, others @ ..] = self.coefficients;
        for c in others {
            p = f32x4_madd(p, r, c);
        }
        i32x4_add(p, i32x4_shl(exponent, 23))
    }
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
    fn powers_of_two_are_accurate_over_their_range() {
        let lane = |x| f32x4_extract_lane::<0>(Exp2::kept().of(f32x4_splat(x)));
        for i in -1_260_000..=1_260_000 {
            let x = i as f32 / 10_000.0;
            let exact = f64::from(x).exp2();
            let error = (f64::from(lane(x)) - exact).abs() / exact;
            assert!(error < 3e-7, "2^{x}: relative error {error:e}");
        }
        assert_eq!([f32::MIN, f32::NEG_INFINITY, -126.0].map(lane), [f32::MIN_POSITIVE; 3]);
        assert_eq!(lane(0.0), 1.0);
    }

    #[test]
    fn what_is_outside_is_clamped() {
        let lane = |x| f32x4_extract_lane::<0>(Exp::kept().clamped(f32x4_splat(x)));
        for (x, clamped) in [(88.0, 87.0), (f32::INFINITY, 87.0), (-88.0, -87.0), (f32::NEG_INFINITY, -87.0)] {
            assert_eq!(lane(x), exp_f32_within_87(clamped), "{x}");
        }
        assert_eq!(lane(0.0), 1.0);
    }
}
