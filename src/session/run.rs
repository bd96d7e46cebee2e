//! What a session keeps of the request under way.

use super::draft::{DraftModel, Place};
use super::{Clock, Stats};
use crate::Result;
use crate::backend::Backend;
use crate::generate::Drafting;
use crate::generate::drafts::{Costs, Drafts, Source};
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
    pub(super) drafts: Drafts,
    pub(super) drafting: Drafting,
    pub(super) check: Option<Check>,
    /// The backend chooses the tokens.
    pub(super) on_device: bool,
    /// How many more it will choose.
    pub(super) device_tokens: usize,
    pub(super) started: f64,
    pub(super) first_token: f64,
}

/// A batch that checks a draft: the logits of all its positions are at hand.
pub(super) struct Check {
    /// The number of tokens before it.
    pub(super) start: usize,
    pub(super) source: Source,
}

impl Check {
    /// So many tokens of its draft were run, and so many were right.
    pub(super) fn count(&self, stats: &mut Stats, drafted: usize, accepted: usize) {
        stats.drafted_tokens += drafted;
        stats.accepted_tokens += accepted;
        let (of_source, right) = match self.source {
            Source::Text => return,
            Source::Prediction => (&mut stats.predicted_drafted_tokens, &mut stats.predicted_accepted_tokens),
            Source::Model => (&mut stats.model_drafted_tokens, &mut stats.model_accepted_tokens),
        };
        *of_source += drafted;
        *right += accepted;
    }
}

impl Run {
    /// The newest token, and behind it a draft where one is worth checking.
    pub(super) async fn batch<B: Backend>(
        &mut self,
        backend: &B,
        model: &mut Option<DraftModel<B>>,
        costs: &Costs,
        clock: Clock,
    ) -> Vec<u32> {
        let tokens = self.answer.tokens();
        let total = tokens.len();
        // Beyond the original context all is evaluated anew.
        let unturned = backend.spec().original_context().filter(|&original| total <= original);
        let most = unturned.map_or(usize::MAX, |original| original - total);
        let most = most.min(self.answer.left() - 1).min(backend.checkable_batch() - 1);
        let mut batch = vec![tokens[total - 1]];
        let mut draft = self.drafts.draft(tokens, most, costs);
        let guessed: Vec<u32>;
        if let Some(by) = model {
            let (prompt, left) = (self.answer.prompt_len(), self.answer.left());
            let gain = draft.map_or(0.0, |(.., gain)| gain);
            let place = Place { tokens, prompt, left, most, drafting: self.drafting, gain };
            match by.draft(&place, costs, clock).await {
                Ok([]) => {}
                Ok(guesses) => {
                    guessed = guesses.iter().map(|guess| guess.token).collect();
                    draft = Some((Source::Model, &guessed, gain));
                }
                // Memory that is full, say: the answer does not depend on it.
                Err(_) => *model = None,
            }
        }
        if let Some((source, draft, _)) = draft {
            batch.extend_from_slice(draft);
            self.check = Some(Check { start: total - 1, source });
        }
        batch
    }

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
