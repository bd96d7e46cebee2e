// What crosses between the page and the worker: plain, cloneable data.

import type { ErrorData } from "./errors.js";
import type { EngineEvent, EngineInfo, FinishReason, MemoryUse, Progress, Stats, TokenLogprob } from "./types.js";

/** One file of the model. */
export type Part =
  | { kind: "http"; url: string; headers?: Record<string, string>; sha256?: string }
  | { kind: "blob"; blob: Blob; sha256?: string }
  /** The page feeds it, chunk by chunk: `"pull"` in, a Uint8Array, `null` (the end) or an ErrorData out. */
  | { kind: "port"; port: MessagePort; size?: number; sha256?: string };

export interface WasmUrls {
  simd?: string;
  relaxed?: string;
}

/** The engine's own options, checked; names as in `GenerateOptions` (src/generate/mod.rs). */
export interface EngineRequest {
  messages?: unknown[];
  prompt?: string;
  options: Record<string, unknown> & { logprobs?: boolean };
}

export type ToWorker =
  | { type: "load"; parts: Part[]; wasm: WasmUrls; contextLength?: number }
  | { type: "run"; id: number; request: EngineRequest }
  | { type: "abort"; id: number }
  | { type: "call"; id: number; method: "tokenize" | "detokenize" | "memory"; argument?: string | number[] }
  /** For tests: a real trap, wherever the worker happens to be. */
  | { type: "trap" };

export interface Token {
  id: number;
  /** What the token completes, maybe nothing. */
  text: string;
  signals: TokenSignals;
  /** The token that ends the answer: never shown. */
  special: boolean;
  logprobs?: TokenLogprob;
}

export interface TokenSignals {
  logprob: number;
  entropy: number;
  margin: number;
}

export interface Finish {
  text: string;
  reason: FinishReason;
  stats: Stats;
}

export type FromWorker =
  | { type: "progress"; progress: Progress }
  | { type: "event"; event: EngineEvent }
  | { type: "loaded"; info: EngineInfo }
  | { type: "failed"; error: ErrorData }
  | { type: "crashed"; message: string }
  /** The request is accepted: its prompt is tokenized and fits. */
  | { type: "started"; id: number }
  | { type: "tokens"; id: number; tokens: Token[] }
  | { type: "done"; id: number; finish: Finish }
  | { type: "aborted"; id: number; stats?: Stats }
  | { type: "rejected"; id: number; error: ErrorData }
  | { type: "result"; id: number; value: number[] | string | MemoryUse }
  | { type: "refused"; id: number; error: ErrorData };
