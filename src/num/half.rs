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
}
