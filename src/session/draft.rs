//! A draft model beside the model: it reads along where that pays, and guesses what comes next.

use super::{Clock, Session, common_prefix, forward};
use crate::backend::{Backend, HeadRows};
use crate::formats::Checkpoint;
use crate::generate::Drafting;
use crate::generate::drafts::{Costs, LARGEST_BATCH, Plan};
use crate::generate::trust::{Guess, Trust};
use crate::model::{arch, memory, weights};
use crate::source::ByteSource;
use crate::text::Tokenizer;
use crate::{Error, Result};

/// Tokens that are judged at a time: the logits of all of them are wanted.
const JUDGED: usize = 16;

pub(super) struct DraftModel<B> {
    backend: B,
    /// The tokens whose keys and values its cache holds.
    cached: Vec<u32>,
    trust: Trust,
    /// The last ones that it made, and the position of the first.
    guesses: Vec<Guess>,
    at: usize,
}

/// The place in the answer, and what is wanted there.
pub(super) struct Place<'a> {
    pub(super) tokens: &'a [u32],
    /// Of them, the prompt's.
    pub(super) prompt: usize,
    /// Of the answer, at most.
    pub(super) left: usize,
    /// To guess.
    pub(super) most: usize,
    pub(super) drafting: Drafting,
    /// Of another draft, which this one has to be better than.
    pub(super) gain: f64,
}

impl<B: Backend> Session<B> {
    /// Loads a smaller model of the same vocabulary, which guesses tokens of the answers: what the model says stays the same, and
    /// comes sooner where they are right often enough. Another one is replaced. A running request goes on with it.
    ///
    /// Errors: those of loading; [`Error::BadRequest`] where it has other tokens, or where the backend checks no drafts;
    /// [`Error::OutOfMemory`] where the memory does not hold both models.
    pub async fn load_draft<S: ByteSource>(&mut self, shards: &mut [S], progress: impl FnMut(u64, u64)) -> Result<()> {
        self.draft = None;
        self.info.draft = None;
        let mut checkpoint = Checkpoint::open(shards).await?;
        let mut blueprint = arch::describe(&checkpoint)?;
        let spec = &mut blueprint.spec;
        spec.context_length = spec.context_length.min(self.info.context_length);
        spec.kv_int8 = self.backend.spec().kv_int8;
        let name = checkpoint.metadata.string("general.name").ok().flatten().unwrap_or(&spec.architecture).to_string();
        let tokenizer = Tokenizer::from_gguf(&mut checkpoint.metadata)?;
        arch::check_vocabulary(&tokenizer, spec)?;
        if let Some(difference) = difference(&self.tokenizer, &tokenizer) {
            let own = self.info.name.as_ref().unwrap_or(&self.info.architecture);
            return Err(Error::BadRequest(format!(
                "the draft model {name} does not go with {own}: {difference}; take a smaller model of the same family"
            )));
        }
        if let Some(limit) = self.memory_limit {
            memory::Model::new(&blueprint, &checkpoint)?.check_beside(self.needs, limit)?;
        }
        let mut backend = self.backend.beside(blueprint.spec.clone())?;
        weights::stream(shards, &checkpoint, &blueprint, &mut backend, progress).await?;
        let [size, own] = [&backend, &self.backend].map(|backend| backend.memory().weights.max(1) as f64);
        let trust = Trust::new(size / own);
        self.draft = Some(DraftModel { backend, cached: Vec::new(), trust, guesses: Vec::new(), at: 0 });
        self.info.draft = Some(name);
        Ok(())
    }

    /// Whether a draft model would be of use: the backend checks several tokens at a time.
    pub fn can_draft(&self) -> bool {
        self.backend.checkable_batch() > 1
    }
}

/// What tells the vocabularies apart.
fn difference(own: &Tokenizer, other: &Tokenizer) -> Option<String> {
    let (tokens, others) = (own.vocab_size(), other.vocab_size());
    if tokens != others {
        return Some(format!("it has {others} tokens, not {tokens}"));
    }
    let id = (0..tokens as u32).find(|&id| own.token_bytes(id) != other.token_bytes(id))?;
    let [own, other] = [own, other].map(|tokenizer| String::from_utf8_lossy(tokenizer.token_bytes(id)).into_owned());
    Some(format!("its token {id} is {other:?}, not {own:?}"))
}

impl<B: Backend> DraftModel<B> {
    pub(super) fn backend(&self) -> &B {
        &self.backend
    }

    /// Another answer.
    pub(super) fn begin(&mut self) {
        self.guesses.clear();
        self.trust.begin();
    }

    /// Guesses that are worth checking behind the newest token; none where they are not. Where it has much to read first, it
    /// reads one batch. Errors: those of its backend, after which it is of no use.
    pub(super) async fn draft(&mut self, place: &Place<'_>, costs: &Costs, clock: Clock) -> Result<&[Guess]> {
        self.guesses.clear();
        let Place { tokens, drafting, gain, left, .. } = *place;
        let total = tokens.len();
        // A context that is too short ends it quietly.
        let most = place.most.min(self.backend.spec().context_length.saturating_sub(total));
        if drafting == Drafting::Never || most == 0 {
            return Ok(&[]);
        }
        if self.backend.expect_positions(total + LARGEST_BATCH)? {
            self.cached.clear();
        }
        // What guesses were wrong about, and other conversations. The newest token is read again: its logits are wanted.
        let known = self.backend.reusable(common_prefix(&self.cached, tokens).min(total - 1));
        self.cached.truncate(known);
        let unread = total - known;
        let better = |plan: &Plan| plan.gain > gain;
        let pays = |plan: &Plan| drafting == Drafting::Always || self.trust.pays_for(unread - 1, *plan, left);
        if self.trust.plan(drafting, &[], most, costs).filter(better).filter(pays).is_none() {
            self.rest(place, most, costs, clock).await?;
            return Ok(&[]);
        }
        if unread > self.backend.max_batch() {
            self.read(tokens, HeadRows::None, costs, clock)?;
            return Ok(&[]);
        }
        self.at = total;
        let wanted = |model: &Self| model.trust.plan(drafting, &model.guesses, most, costs).filter(better);
        while wanted(self).is_some_and(|plan| plan.tokens > self.guesses.len()) {
            let before = clock();
            let few = match self.guesses.last() {
                Some(guess) => &[guess.token][..],
                None => &tokens[known..],
            };
            forward(&mut self.backend, &mut self.cached, few, HeadRows::Last)?;
            let guess = Guess::of(self.backend.logits().await?);
            let singles = costs.in_singles(clock() - before);
            if few.len() > LARGEST_BATCH {
                self.trust.has_read(few.len(), singles);
            } else {
                self.trust.has_guessed(singles);
            }
            let Some(guess) = guess else { break };
            self.guesses.push(guess);
        }
        let tokens = wanted(self).map_or(0, |plan| plan.tokens.min(self.guesses.len()));
        if tokens > 0 {
            self.trust.is_checked(tokens, costs);
        }
        Ok(&self.guesses[..tokens])
    }

    /// Without drafts; where enough is saved up, it reads what was written, and is judged by it.
    async fn rest(&mut self, place: &Place<'_>, most: usize, costs: &Costs, clock: Clock) -> Result<()> {
        self.trust.rest();
        let Place { tokens, prompt, drafting, .. } = *place;
        let (total, known) = (tokens.len(), self.cached.len());
        let written = total - known.max(prompt);
        if drafting != Drafting::Auto || written <= JUDGED || !self.trust.may_be_tried(total - known, most, costs) {
            return Ok(());
        }
        // What comes after the last token of the prompt is the model's.
        if known + 1 < prompt {
            return self.read(&tokens[..prompt - 1], HeadRows::None, costs, clock);
        }
        let end = known + JUDGED.min(total - 1 - known);
        self.read(&tokens[..end], HeadRows::All, costs, clock)?;
        let logits = self.backend.logits().await?;
        for (row, &next) in logits.chunks_exact(logits.len() / (end - known)).zip(&tokens[known + 1..]) {
            if let Some(guess) = Guess::of(row) {
                self.trust.learn(guess, guess.token == next);
            }
        }
        Ok(())
    }

    /// The next batch of what it has not read of `tokens`.
    fn read(&mut self, tokens: &[u32], rows: HeadRows, costs: &Costs, clock: Clock) -> Result<()> {
        let known = self.cached.len();
        let batch = &tokens[known..tokens.len().min(known + self.backend.max_batch())];
        let before = clock();
        forward(&mut self.backend, &mut self.cached, batch, rows)?;
        self.trust.has_read(batch.len(), costs.in_singles(clock() - before));
        Ok(())
    }

    /// `token` follows the first `position` tokens. `checked`: by a batch with its guesses.
    pub(super) fn chosen(&mut self, position: usize, token: u32, checked: bool) {
        let Some(&guess) = position.checked_sub(self.at).and_then(|i| self.guesses.get(i)) else { return };
        let right = guess.token == token;
        self.trust.learn(guess, right);
        if !right {
            self.guesses.clear();
        } else if checked {
            self.trust.was_accepted();
        }
    }
}
