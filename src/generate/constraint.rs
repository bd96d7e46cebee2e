//! What an answer has to look like, seen from the sampler: which tokens may come next.

use crate::Result;

/// Something that knows the form of an answer; it sees every token of it. One for each answer.
pub trait Constraint {
    /// What may come next, where the answer may have `left` more tokens. `None`: anything. Asked once or more often before a
    /// token is chosen.
    ///
    /// Errors: [`crate::Error::BadRequest`] where the form is more than can be followed.
    fn mask(&mut self, left: usize) -> Result<Option<Mask>>;

    /// The token that was chosen, one of those allowed. Comes back, unless another has to stand in its place: one that ends the
    /// answer in time.
    fn commit(&mut self, token: u32, left: usize) -> Result<u32>;
}

/// The tokens that may come next.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mask {
    /// A bit a token, the lowest first; what is beyond them is not allowed.
    pub bits: Vec<u32>,
    /// What the answer goes on with whatever is chosen: a token within it says nothing about the model.
    pub forced: Vec<u8>,
}

impl Mask {
    /// One token and no other.
    pub fn only(vocab: usize, token: u32) -> Self {
        let mut mask = Self { bits: vec![0; vocab.div_ceil(32)], forced: Vec::new() };
        mask.allow(token);
        mask
    }

    pub fn allow(&mut self, token: u32) {
        if let Some(word) = self.bits.get_mut(token as usize / 32) {
            *word |= 1 << (token % 32);
        }
    }

    pub fn allows(&self, token: u32) -> bool {
        self.bits.get(token as usize / 32).is_some_and(|word| word >> (token % 32) & 1 == 1)
    }

    /// The lowest token that is allowed.
    pub fn first(&self) -> Option<u32> {
        let at = self.bits.iter().position(|&word| word != 0)?;
        Some(at as u32 * 32 + self.bits[at].trailing_zeros())
    }

    /// One token is allowed, or several that all end the answer.
    pub fn leaves_no_choice(&self, ends: &[u32]) -> bool {
        let allowed = self.bits.iter().map(|word| word.count_ones() as usize).sum::<usize>();
        allowed <= 1 || allowed == ends.iter().filter(|&&end| self.allows(end)).count()
    }

    /// What is not allowed becomes -inf.
    pub fn apply(&self, logits: &mut [f32]) {
        for (i, chunk) in logits.chunks_mut(32).enumerate() {
            match self.bits.get(i).copied().unwrap_or(0) {
                u32::MAX => {}
                0 => chunk.fill(f32::NEG_INFINITY),
                word => {
                    let denied = chunk.iter_mut().enumerate().filter(|(bit, _)| word >> bit & 1 == 0);
                    denied.for_each(|(_, logit)| *logit = f32::NEG_INFINITY);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_tokens() {
        let mut mask = Mask::only(70, 33);
        assert!(mask.leaves_no_choice(&[]));
        mask.allow(69);
        mask.allow(1000);
        assert!(!mask.leaves_no_choice(&[33, 34]) && mask.leaves_no_choice(&[69, 5, 33]));
        assert!(mask.allows(69) && mask.allows(33) && !mask.allows(32) && !mask.allows(1000));
        assert_eq!(mask.first(), Some(33));
        let mut logits = vec![1.0; 70];
        mask.apply(&mut logits);
        let left: Vec<usize> = (0..70).filter(|&i| logits[i] == 1.0).collect();
        assert_eq!(left, [33, 69]);
        assert_eq!(Mask::default().first(), None);
    }
}
