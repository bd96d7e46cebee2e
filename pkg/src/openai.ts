// Requests and replies, in OpenAI's names and shapes; what goes beyond them is marked.

import type { ChatLogprobs, CompletionLogprobs, MadeFor, Signals } from "./signals.js";
import type { ResponseFormat, Tool, ToolCall, ToolCallDelta, ToolChoice } from "./forms.js";

export type * from "./forms.js";
export type * from "./signals.js";

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
  /** Choice i takes `seed + i`. */
  seed?: number | null;
  /** How many answers, made one after the other; the prompt is read once. Default 1, at most 128. With temperature 0 all are the same. */
  n?: number | null;
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
  /** What most of the answer will be, such as the text that is to be changed a little: it comes faster where that is right. */
  prediction?: Prediction | null;
  /** Whether guesses at the tokens to come are checked several at a time, which changes nothing but the speed. Default "auto": where it pays. */
  drafts?: "auto" | "always" | "never" | null;
  stream_options?: { include_usage?: boolean } | null;
  /** Any other than "text" loads a binary of its own. */
  response_format?: ResponseFormat | null;
  /** Ignored: the engine has one model. */
  model?: string;
  /** Ignored, and reported as an "option-ignored" event. */
  [option: string]: unknown;
}

/** What most of an answer will be. */
export interface Prediction {
  type: "content";
  content: string | { type: "text"; text: string }[];
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
  /** Beyond OpenAI, as vLLM's: the last message is an assistant's, whose text goes on. The reply has what follows it. */
  continue_final_message?: boolean | null;
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
  /** Of the request's `prediction`: tokens that were checked and taken, or checked in vain; the latter are not among `completion_tokens`. */
  completion_tokens_details: { accepted_prediction_tokens: number; rejected_prediction_tokens: number };
  timings: Timings;
}

/** llama.cpp's names. */
export interface Timings {
  prompt_ms: number;
  predicted_ms: number;
  prompt_per_second: number;
  predicted_per_second: number;
}

/** Why an answer ended: by itself, by `max_tokens` or a full context, or to have tools called. */
export type FinishReason = "stop" | "length" | "tool_calls";

interface Reply {
  id: string;
  /** Seconds since 1970. */
  created: number;
  model: string;
}

/** One of the answers. */
export interface ChatChoice {
  index: number;
  /** `reasoning_content`: what a thinking model thought before. */
  message: { role: "assistant"; content: string | null; reasoning_content?: string; tool_calls?: ToolCall[]; refusal: null };
  logprobs: ChatLogprobs | null;
  finish_reason: FinishReason;
  /** Beyond OpenAI: the ids of the answer. */
  token_ids: number[];
  /** Its own, where there are several choices. */
  signals?: Signals;
}

/** A whole answer, or several. */
export interface ChatCompletion extends Reply {
  object: "chat.completion";
  choices: [ChatChoice, ...ChatChoice[]];
  usage: Usage;
  /** Of the first choice. */
  signals: Signals;
  made_for: MadeFor;
}

/** A piece of an answer. */
export interface ChatCompletionChunk extends Reply {
  object: "chat.completion.chunk";
  /** Empty in the chunk that carries the usage. */
  choices: {
    index: number;
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

/** One of the completions. */
export interface CompletionChoice {
  index: number;
  text: string;
  logprobs: CompletionLogprobs | null;
  finish_reason: "stop" | "length";
  token_ids: number[];
  /** Its own, where there are several choices. */
  signals?: Signals;
}

/** A whole completion, or several. */
export interface Completion extends Reply {
  object: "text_completion";
  choices: [CompletionChoice, ...CompletionChoice[]];
  usage: Usage;
  /** Of the first choice. */
  signals: Signals;
  made_for: MadeFor;
}

/** OpenAI's types call it `Completion` too, and do not know that a stream's `finish_reason` is null until the end. */
export interface CompletionChunk extends Reply {
  object: "text_completion";
  /** Empty in the chunk that carries the usage. */
  choices: {
    index: number;
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
