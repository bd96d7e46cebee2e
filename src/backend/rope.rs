//! Rotary frequencies, the same for every backend.

use super::spec::{DecoderSpec, Rope, RopeScaling};
use crate::{Error, Result};

pub struct Frequencies {
    frequencies: Vec<f32>,
    amplitude: f32,
}

impl Frequencies {
    /// `factors`: the tensor of [`RopeScaling::Factors`] that counts, where the file has it. Errors: [`Error::MissingTensor`].
    pub fn new(rope: &Rope, spec: &DecoderSpec, factors: Option<&Vec<f32>>) -> Result<Frequencies> {
        let half = rope.dim / 2;
        let frequency = |i: usize| 1.0 / rope.base.powf(2.0 * i as f32 / rope.dim as f32);
        let (mut frequencies, mut amplitude): (Vec<f32>, f32) = ((0..half).map(frequency).collect(), 1.0);
        match rope.scaling {
            RopeScaling::None => {}
            RopeScaling::Linear(factor) => frequencies.iter_mut().for_each(|f| *f /= factor),
            RopeScaling::Factors { attention_factor, .. } => {
                let factors = factors.filter(|f| f.len() == half).ok_or_else(|| Error::MissingTensor {
                    name: format!("rope factors [{half}]"),
                    architecture: spec.architecture.clone(),
                })?;
                frequencies.iter_mut().zip(factors).for_each(|(f, by)| *f /= by);
                amplitude = attention_factor;
            }
        }
        Ok(Frequencies { frequencies, amplitude })
    }

    /// (cos, sin) of each pair.
    pub fn turns(&self, position: usize) -> impl Iterator<Item = (f32, f32)> {
        self.frequencies.iter().map(move |f| {
            let (sin, cos) = (position as f32 * f).sin_cos();
            (cos * self.amplitude, sin * self.amplitude)
        })
    }
}
