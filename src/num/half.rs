//! IEEE half and bfloat16 to f32.

pub fn f16_to_f32(h: u16) -> f32 {
    // Shifting the exponent and mantissa into place leaves the exponent bias 112 too small; the product repairs it,
    // subnormals included. Infinity and NaN keep their exponent apart.
    let sign = u32::from(h & 0x8000) << 16;
    let magnitude = u32::from(h & 0x7fff) << 13;
    let value = if h & 0x7c00 == 0x7c00 {
        f32::from_bits(magnitude | 0x7f80_0000)
    } else {
        f32::from_bits(magnitude) * f32::from_bits(0x7780_0000)
    };
    f32::from_bits(value.to_bits() | sign)
}

/// To the nearest half, ties to even; beyond the largest it is infinity.
pub fn f32_to_f16(x: f32) -> u16 {
    let sign = (x.to_bits() >> 16) as u16 & 0x8000;
    let magnitude = x.to_bits() & 0x7fff_ffff;
    sign | match magnitude {
        0x7f80_0001.. => 0x7e00,
        // 65520 is halfway to what the next exponent would be.
        0x477f_f000.. => 0x7c00,
        // The exponent bias is 112 smaller; a carry out of the mantissa goes into the exponent, as it should.
        0x3880_0000.. => ((magnitude + 0xfff + (magnitude >> 13 & 1) - (112 << 23)) >> 13) as u16,
        // Subnormal: steps of 2^-24.
        _ => (f32::from_bits(magnitude) * 16_777_216.0).round_ties_even() as u16,
    }
}

pub fn bf16_to_f32(h: u16) -> f32 {
    f32::from_bits(u32::from(h) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f16_special_values() {
        for (h, f) in [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0001, 2f32.powi(-24)),
            (0x8000, -0.0),
            (0x7c00, f32::INFINITY),
        ] {
            assert_eq!(f16_to_f32(h).to_bits(), f32::to_bits(f), "{h:04x}");
        }
        assert!(f16_to_f32(0x7e00).is_nan());
    }

    #[test]
    fn every_half_comes_back_and_what_lies_between_goes_to_the_nearest() {
        for h in 0..=u16::MAX {
            let x = f16_to_f32(h);
            if x.is_nan() {
                assert!(f16_to_f32(f32_to_f16(x)).is_nan());
                continue;
            }
            assert_eq!(f32_to_f16(x), h);
            if h & 0x7fff < 0x7bff {
                let (next, even) = (f16_to_f32(h + 1), h + (h & 1));
                let middle = x + (next - x) / 2.0;
                assert_eq!(f32_to_f16(middle), even, "{middle:e}");
                assert_eq!(f32_to_f16(f32::from_bits(middle.to_bits() - 1)), h, "below {middle:e}");
                assert_eq!(f32_to_f16(f32::from_bits(middle.to_bits() + 1)), h + 1, "above {middle:e}");
            }
        }
        assert_eq!([65519.0, 65520.0, 1e30, -f32::INFINITY].map(f32_to_f16), [0x7bff, 0x7c00, 0x7c00, 0xfc00]);
    }
}
