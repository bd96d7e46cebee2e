// The public types. Requests and replies keep OpenAI's names and shapes; what goes beyond them is marked.

import type { KingletError } from "./errors.js";

/** One file, or the address of one. Bytes are read in place, never transferred or detached; leave them unchanged. */
export type ModelFile = string | URL | Blob | ArrayBuffer | ArrayBufferView;

export interface EngineOptions {
  /**
   * Default: the small model that comes with the package. A URL of one part of a split file (`-00001-of-00003.gguf`)
   * stands for all parts; an array gives the parts themselves, in order. A stream can be read once only.
   */
  model?: ModelFile | readonly ModelFile[] | ReadableStream<Uint8Array>;
  /** "auto" is the CPU for now; "webgpu" fails with NO_WEBGPU. */
  backend?: "auto" | "webgpu" | "cpu";
  /** Default: min(the model's, 4096). */
  contextLength?: number;
  /**
   * For the download, e.g. `{ Authorization: "Bearer ..." }`. Sent to the given URL's origin only: a browser drops
   * Authorization when a redirect leaves the origin, and a redirect with any other header is refused.
   */
  headers?: Record<string, string>;
  /** Hex digest of the file (an array for split files), checked while it streams in. */
  sha256?: string | readonly string[];
  /** Ends the loading; the engine does not outlive it. */
  signal?: AbortSignal;
  onProgress?: (progress: Progress) => void;
  onEvent?: (event: EngineEvent) => void;
  /** The worker's script, or a function that starts it, where `new URL("./worker.js", import.meta.url)` cannot be resolved. */
  worker?: string | URL | (() => Worker);
  /** The wasm binary: one URL for either level of SIMD, or one for each. */
  wasmUrl?: string | URL | { simd?: string | URL; relaxed?: string | URL };
}

export interface Progress {
  phase: "download" | "verify" | "load" | "compile" | "ready";
  /** Bytes, for compile and ready steps. */
  loaded: number;
  /** Absent while a stream does not know its length. */
  total?: number;
}

export type EngineEvent =
  | { type: "engine-crashed"; error: KingletError }
  | { type: "engine-restarted" }
  | { type: "download-resumed"; url: string; offset: number; attempt: number; reason: string }
  | { type: "option-ignored"; option: string };

export interface EngineInfo {
  architecture: string;
  name?: string;
  parameters: number;
  /** The format that holds most weights, "Q4_0" and the like. */
  quantization: string;
  contextLength: number;
  vocabulary: number;
  backend: "webgpu" | "cpu";
  /** The GPU's name. */
  adapter: string | null;
  threads: number;
  /** Which binary runs. */
  simd: "simd" | "relaxed";
}

/** Of the last run. */
export interface Stats {
  promptTokens: number;
  cachedTokens: number;
  /** Until the first token is chosen, over `promptTokens - cachedTokens`. */
  prefillMs: number;
  completionTokens: number;
  /** The `completionTokens - 1` steps after the first token. */
  decodeMs: number;
  dispatchesPerToken: number;
  backend: "webgpu" | "cpu";
}

/** Bytes. */
export interface MemoryUse {
  /** The whole wasm heap, which holds the other three. */
  heap: number;
  weights: number;
  kvCache: number;
  scratch: number;
}

export interface RequestOptions {
  signal?: AbortSignal;
}

export type Role = "system" | "developer" | "user" | "assistant" | "tool";

export interface ChatMessage {
  role: Role;
  content: string | { type: "text"; text: string }[] | null;
  name?: string;
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
  stream_options?: { include_usage?: boolean } | null;
  /** Ignored: the engine has one model. */
  model?: string;
  /** Ignored, and reported as an "option-ignored" event. */
  [option: string]: unknown;
}

export interface ChatRequest extends SamplingOptions {
  messages: ChatMessage[];
  stream?: boolean | null;
  logprobs?: boolean | null;
  top_logprobs?: number | null;
}

export interface CompletionRequest extends SamplingOptions {
  /** Raw text; the empty string is the beginning of a text. */
  prompt: string;
  stream?: boolean | null;
  /** `true`, or OpenAI's older form: how many alternatives. */
  logprobs?: boolean | number | null;
  top_logprobs?: number | null;
}

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

export interface TopLogprob {
  token: string;
  logprob: number;
  bytes: number[] | null;
}

export interface TokenLogprob extends TopLogprob {
  top_logprobs: TopLogprob[];
}

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
  /** Share of the tokens less likely than 1/2. */
  lowShare?: number;
  meanEntropy?: number;
  maxEntropy?: number;
  /** Mean distance between the two best logits. */
  margin?: number;
  /** Lowest mean log-probability over 32 tokens in a row (over all of a shorter answer). */
  lowestWindow?: number;
  /** ln(number of tokens). */
  logLength?: number;
}

export type FinishReason = "stop" | "length";

interface Reply {
  id: string;
  /** Seconds since 1970. */
  created: number;
  model: string;
}

export interface ChatCompletion extends Reply {
  object: "chat.completion";
  choices: [
    {
      index: 0;
      message: { role: "assistant"; content: string; refusal: null };
      logprobs: ChatLogprobs | null;
      finish_reason: FinishReason;
      /** Beyond OpenAI: the ids of the answer. */
      token_ids: number[];
    },
  ];
  usage: Usage;
  signals: Signals;
}

export interface ChatCompletionChunk extends Reply {
  object: "chat.completion.chunk";
  /** Empty in the chunk that carries the usage. */
  choices: {
    index: 0;
    delta: { role?: "assistant"; content?: string };
    logprobs: ChatLogprobs | null;
    finish_reason: FinishReason | null;
    token_ids: number[];
  }[];
  usage?: Usage | null;
  /** In the chunk with the finish_reason. */
  signals?: Signals;
}

export interface Completion extends Reply {
  object: "text_completion";
  /** Empty in a stream's chunk that carries the usage. */
  choices: {
    index: 0;
    text: string;
    logprobs: CompletionLogprobs | null;
    finish_reason: FinishReason | null;
    token_ids: number[];
  }[];
  usage?: Usage | null;
  signals?: Signals;
}

/** Leaving the loop early ends the generation, as `controller.abort()` does. Can be read once. */
export interface Stream<Chunk> extends AsyncIterable<Chunk> {
  readonly controller: AbortController;
}

export interface Create<Request, Whole, Chunk> {
  (request: Request & { stream: true }, options?: RequestOptions): Promise<Stream<Chunk>>;
  (request: Request & { stream?: false | null }, options?: RequestOptions): Promise<Whole>;
  (request: Request, options?: RequestOptions): Promise<Whole | Stream<Chunk>>;
}

export interface Engine {
  readonly info: EngineInfo;
  readonly chat: { completions: { create: Create<ChatRequest, ChatCompletion, ChatCompletionChunk> } };
  readonly completions: { create: Create<CompletionRequest, Completion, Completion> };
  tokenize(text: string): Promise<number[]>;
  detokenize(ids: readonly number[]): Promise<string>;
  /** `undefined` before the first run. */
  stats(): Stats | undefined;
  memory(): Promise<MemoryUse>;
  /** Rejects what is pending with DISPOSED and gives the worker's memory back. */
  dispose(): Promise<void>;
}
