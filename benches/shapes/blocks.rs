//! Random weights, made as the blocks of their format rather than quantized: speed and memory do not depend on the values,
//! as long as activations stay about as large as they are in a real model.

use kinglet::formats::Format;
use kinglet::generate::sampler::SplitMix64;
use kinglet::num::half::f32_to_f16;

/// Whole rows of values with about the deviation `deviation`.
pub fn fill(format: Format, deviation: f32, random: &mut SplitMix64, out: &mut [u8]) {
    if format == Format::F32 {
        let uniform = |random: &mut SplitMix64| deviation * 3f32.sqrt() * (2.0 * random.unit() as f32 - 1.0);
        out.chunks_exact_mut(4).for_each(|out| out.copy_from_slice(&uniform(random).to_le_bytes()));
        return;
    }
    for out in out.chunks_mut(8) {
        out.copy_from_slice(&random.next_u64().to_le_bytes()[..out.len()]);
    }
    for block in out.chunks_exact_mut(format.block_bytes()) {
        match format {
            // Half to one and a half of the deviation, either sign.
            Format::F16 => {
                block.copy_from_slice(&half(deviation * (f32::from(block[0]) / 255.0 + 0.5) * sign(block[1])))
            }
            Format::BF16 => {
                let value = deviation * (f32::from(block[0]) / 255.0 + 0.5) * sign(block[1]);
                block.copy_from_slice(&value.to_bits().to_be_bytes()[..2]);
                block.reverse();
            }
            // Uniform codes: their deviation is their range / sqrt(12).
            Format::Q8_0 => block[..2].copy_from_slice(&half(deviation / 73.9)),
            Format::Q4_0 => block[..2].copy_from_slice(&half(deviation / 4.61)),
            Format::Q5_0 => block[..2].copy_from_slice(&half(deviation / 9.23)),
            Format::Q4_1 | Format::Q5_1 => {
                let (steps, middle) = if format == Format::Q4_1 { (4.61, 7.5) } else { (9.23, 15.5) };
                block[..2].copy_from_slice(&half(deviation / steps));
                block[2..4].copy_from_slice(&half(-middle * deviation / steps));
            }
            Format::Q4_K | Format::Q5_K => {
                let (steps, middle) = if format == Format::Q4_K { (4.61, 7.5) } else { (9.23, 15.5) };
                let d = deviation / (48.0 * steps);
                block[..2].copy_from_slice(&half(d));
                block[2..4].copy_from_slice(&half(middle * d));
                scales(&mut block[4..16]);
            }
            Format::Q6_K => {
                // Of 64 to 127, either sign.
                for scale in &mut block[192..208] {
                    let size = (*scale & 63 | 64) as i8;
                    *scale = if *scale > 127 { -size } else { size } as u8;
                }
                block[208..].copy_from_slice(&half(deviation / (85.0 * 18.5)));
            }
            Format::F32 => unreachable!("above"),
        }
    }
}

fn half(value: f32) -> [u8; 2] {
    f32_to_f16(value).to_le_bytes()
}

fn sign(byte: u8) -> f32 {
    if byte & 1 == 0 { 1.0 } else { -1.0 }
}

/// Eight scales of 32 to 63, each minimum being the same: `q * s - 7.5 s` is centred.
fn scales(packed: &mut [u8]) {
    let s: [u8; 8] = std::array::from_fn(|i| packed[i] & 31 | 32);
    for i in 0..4 {
        let (low, high) = (s[i], s[i + 4]);
        packed[i] = low | high >> 4 << 6;
        packed[i + 4] = low | high >> 4 << 6;
        packed[i + 8] = high & 15 | (high & 15) << 4;
    }
}
