// Requests and replies, in OpenAI's names and shapes; what goes beyond them is marked.

import type { ResponseFormat, Tool, ToolCall, ToolCallDelta, ToolChoice } from "./forms.js";

export type * from "./forms.js";

/** Beside a request. */
export interface RequestOptions {
  signal?: AbortSignal;
}

/** Who says a message. */
export type Role = "system" | "developer" | "user" | "assistant" | "tool";

/** A message of a conversation. */
export interface ChatMessage {
  role: Role;
  content?: string | { type: "text"; text: string }[] | null;
  name?: string;
  /** Of an assistant. */
  tool_calls?: ToolCall[];
  /** Of a tool: which call this is the result of. */
  tool_call_id?: string;
  [field: string]: unknown;
}

/** OpenAI's sampling options, then (from `top_k` on) those of this package. */
export interface SamplingOptions {
  /** Default: what fits into the context. */
  max_tokens?: number | null;
  max_completion_tokens?: number | null;
  /** 0: greedy. Default 0.7. */
  temperature?: number | null;
  top_p?: number | null;
  presence_penalty?: number | null;
  frequency_penalty?: number | null;
  /** Token id -> what is added to its logit. */
  logit_bias?: Record<string, number> | null;
  seed?: number | null;
  stop?: string | string[] | null;
  /** 0: off. */
  top_k?: number | null;
  min_p?: number | null;
  repeat_penalty?: number | null;
  ignore_eos?: boolean | null;
  /** Reuse the work done for the prompt's beginning. Default true. */
  cache_prompt?: boolean | null;
  /** Loaded adapters that take part, each with its scale (default 1, 0 is off); several add up. */
  adapters?: { id: number; scale?: number }[] | null;
  stream_options?: { include_usage?: boolean } | null;
  /** Any other than "text" loads a binary of its own. */
  response_format?: ResponseFormat | null;
  /** Ignored: the engine has one model. */
  model?: string;
  /** Ignored, and reported as an "option-ignored" event. */
  [option: string]: unknown;
}

/** A conversation that is to be gone on with. */
export interface ChatRequest extends SamplingOptions {
  messages: ChatMessage[];
  tools?: Tool[] | null;
  /** Default "auto". */
  tool_choice?: ToolChoice | null;
  /** Default true. */
  parallel_tool_calls?: boolean | null;
  /** "none": a thinking model answers at once. Any other leaves it its own way. */
  reasoning_effort?: "none" | "minimal" | "low" | "medium" | "high" | "xhigh" | null;
  /** Beyond OpenAI: what the chat template is given beside the messages, such as `{ enable_thinking: false }`. */
  chat_template_kwargs?: Record<string, unknown> | null;
  stream?: boolean | null;
  logprobs?: boolean | null;
  top_logprobs?: number | null;
}

/** A text that is to be gone on with, without a chat template. */
export interface CompletionRequest extends SamplingOptions {
  /** Raw text; the empty string is the beginning of a text. */
  prompt: string;
  /** The text to be written stands between `prompt` and this; for models of code that know how. "": none. */
  suffix?: string | null;
  stream?: boolean | null;
  /** `true`, or OpenAI's older form: how many alternatives. */
  logprobs?: boolean | number | null;
  top_logprobs?: number | null;
}

/** Counts of tokens; beyond OpenAI, how long they took. */
export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  prompt_tokens_details: { cached_tokens: number };
  timings: Timings;
}

/** llama.cpp's names. */
export interface Timings {
  prompt_ms: number;
  predicted_ms: number;
  prompt_per_second: number;
  predicted_per_second: number;
}

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

/** Why an answer ended: by itself, by `max_tokens` or a full context, or to have tools called. */
export type FinishReason = "stop" | "length" | "tool_calls";

interface Reply {
  id: string;
  /** Seconds since 1970. */
  created: number;
  model: string;
}

/** A whole answer. */
export interface ChatCompletion extends Reply {
  object: "chat.completion";
  choices: [
    {
      index: 0;
      /** `reasoning_content`: what a thinking model thought before. */
      message: { role: "assistant"; content: string | null; reasoning_content?: string; tool_calls?: ToolCall[]; refusal: null };
      logprobs: ChatLogprobs | null;
      finish_reason: FinishReason;
      /** Beyond OpenAI: the ids of the answer. */
      token_ids: number[];
    },
  ];
  usage: Usage;
  signals: Signals;
  made_for: MadeFor;
}

/** A piece of an answer. */
export interface ChatCompletionChunk extends Reply {
  object: "chat.completion.chunk";
  /** Empty in the chunk that carries the usage. */
  choices: {
    index: 0;
    delta: { role?: "assistant"; content?: string; reasoning_content?: string; tool_calls?: ToolCallDelta[] };
    logprobs: ChatLogprobs | null;
    finish_reason: FinishReason | null;
    token_ids: number[];
  }[];
  usage?: Usage | null;
  /** In the chunk with the finish_reason; and, of the answer so far, after 1, 8, 16, 32, ... tokens. */
  signals?: Signals;
  /** In the chunk with the finish_reason. */
  made_for?: MadeFor;
}

/** A whole completion. */
export interface Completion extends Reply {
  object: "text_completion";
  choices: [{
    index: 0;
    text: string;
    logprobs: CompletionLogprobs | null;
    finish_reason: "stop" | "length";
    token_ids: number[];
  }];
  usage: Usage;
  signals: Signals;
  made_for: MadeFor;
}

/** OpenAI's types call it `Completion` too, and do not know that a stream's `finish_reason` is null until the end. */
export interface CompletionChunk extends Reply {
  object: "text_completion";
  /** Empty in the chunk that carries the usage. */
  choices: {
    index: 0;
    text: string;
    logprobs: CompletionLogprobs | null;
    finish_reason: "stop" | "length" | null;
    token_ids: number[];
  }[];
  usage?: Usage | null;
  /** As in a chat's chunks. */
  signals?: Signals;
  made_for?: MadeFor;
}

/** Texts whose embeddings are wanted. */
export interface EmbeddingRequest {
  /** A text, token ids, or a list of either. */
  input: string | readonly string[] | readonly number[] | readonly (readonly number[])[];
  /** "base64": little-endian floats of 32 bits. */
  encoding_format?: "float" | "base64" | null;
  /** Ignored: the engine has one model. */
  model?: string;
  [option: string]: unknown;
}

/** The mean over the positions of the last hidden state, scaled to length one. */
export interface Embedding {
  object: "embedding";
  index: number;
  embedding: number[] | string;
}

/** Embeddings, in the order of the texts. */
export interface EmbeddingResponse {
  object: "list";
  data: Embedding[];
  model: string;
  usage: { prompt_tokens: number; total_tokens: number };
}
