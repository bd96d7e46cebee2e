//! What a backend needs to choose tokens by itself, and what it says of each. The steps and their order are those of
//! `generate/sampler.rs`, whose twin the device's sampler is.

/// How far back the penalties look, over prompt and answer.
pub const PENALTY_WINDOW: usize = 64;

/// One run of tokens that a device chooses without a round trip for each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sampling {
    /// 0: greedy.
    pub temperature: f32,
    /// 0: off.
    pub top_k: usize,
    pub top_p: f32,
    pub min_p: f32,
    pub repeat_penalty: f32,
    pub presence_penalty: f32,
    pub frequency_penalty: f32,
    pub logit_bias: Vec<(u32, f32)>,
    /// The text so far, at most [`PENALTY_WINDOW`] tokens of it, the newest last.
    pub recent: Vec<u32>,
    /// The random number in [0, 1) of each token to come: the device's draws are the host's. As many as the run may
    /// have tokens; greedy runs need none.
    pub draws: Vec<f32>,
    /// The most tokens of the run.
    pub limit: usize,
    /// How many of the best alternatives to report.
    pub top_logprobs: usize,
    /// As many of the run's first token, if that is more.
    pub first_top_logprobs: usize,
}

/// A token that a device chose, and its figures from the raw logits (`generate/signals.rs`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sampled {
    pub id: u32,
    pub logprob: f32,
    /// Nats.
    pub entropy: f32,
    /// Best logit minus the second.
    pub margin: f32,
    /// The best and their log-probabilities, best first.
    pub top: Vec<(u32, f32)>,
}
