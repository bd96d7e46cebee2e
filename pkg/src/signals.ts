// How likely an answer's tokens were, and what it came of.

/** A token that was or could have been chosen. */
export interface TopLogprob {
  token: string;
  logprob: number;
  bytes: number[] | null;
}

/** A chosen token, and the likeliest ones in its place. */
export interface TokenLogprob extends TopLogprob {
  top_logprobs: TopLogprob[];
}

/** Of the tokens of a chat's answer, with `logprobs: true`. */
export interface ChatLogprobs {
  content: TokenLogprob[] | null;
  refusal: null;
}

/** OpenAI's older arrays, and `content` as in a chat. */
export interface CompletionLogprobs {
  tokens: string[];
  token_logprobs: number[];
  top_logprobs: Record<string, number>[];
  text_offset: number[];
  content: TokenLogprob[];
}

/** How sure the model was, from the raw logits of the answer's tokens (natural logarithms); `{}` for an empty answer. */
export interface Signals {
  meanLogprob?: number;
  minLogprob?: number;
  /** Quantiles of the tokens' log-probabilities. */
  q05?: number;
  q10?: number;
  q20?: number;
  q50?: number;
  /** Share of the tokens less likely than 1/2. */
  lowShare?: number;
  meanEntropy?: number;
  maxEntropy?: number;
  /** Mean distance between the two best logits. */
  margin?: number;
  /** At the first token with text, over its 20 best. */
  firstTokenEntropy?: number;
  /** Lowest mean log-probability over 32 tokens in a row (over all of a shorter answer). */
  lowestWindow?: number;
  /** ln(number of tokens). */
  logLength?: number;
}

/** What an answer came of: a calibration speaks of answers of its own kind only. */
export interface MadeFor {
  /** SHA-256 of the model's file where it was checked (`sha256`), else empty. */
  model: string;
  /** A hash of the chat template. */
  template: string;
  /** The options that choose tokens. */
  sampler: string;
  /** The version of the signals. */
  signals: number;
  /** Of the backend: "cpu" or "webgpu". */
  precision: string;
}
