//! What a session keeps of the request under way.

use crate::Result;
use crate::generate::thinking::Thoughts;
use crate::generate::{Answer, Constraint, Mask};
use crate::text::Message;

/// The request under way.
pub(super) struct Run {
    pub(super) answer: Answer,
    /// What the answer has to look like.
    pub(super) constraint: Option<Box<dyn Constraint>>,
    /// The token that begins thoughts, where the answer may begin with some.
    pub(super) think: Option<u32>,
    /// The backend chooses the tokens.
    pub(super) on_device: bool,
    /// How many more it will choose.
    pub(super) device_tokens: usize,
    pub(super) started: f64,
    pub(super) first_token: f64,
}

impl Run {
    /// The next token is the form's business; in thoughts it is not.
    pub(super) fn follows(&self) -> bool {
        let thinks = |thoughts: &Thoughts| !thoughts.are_over() && !thoughts.may_begin();
        self.constraint.is_some() && !self.answer.thoughts().is_some_and(thinks)
    }

    /// What may come next; `None`: anything.
    pub(super) fn mask(&mut self) -> Result<Option<Mask>> {
        let left = self.answer.left();
        let Some(constraint) = &mut self.constraint else { return Ok(None) };
        let mut mask = constraint.mask(left)?;
        let may_think = self.answer.is_empty() && self.answer.thoughts().is_some_and(Thoughts::may_begin);
        if let (Some(mask), Some(think), true) = (&mut mask, self.think, may_think) {
            mask.allow(think);
        }
        Ok(mask)
    }
}

pub(super) fn has_calls(message: &Message) -> bool {
    message.role == "tool" || message.rest.get("tool_calls").is_some_and(|calls| !calls.is_null())
}

/// After how many tokens the signals so far are told: 1, 8, and twice as many each time from there.
pub(super) fn is_check(tokens: usize) -> bool {
    tokens == 1 || (tokens >= 8 && tokens.is_power_of_two())
}
