// What crosses between the page and the worker: plain, cloneable data.

import type { ErrorData } from "./errors.js";
import type { HubFile } from "./hub.js";
import type { ModelReport } from "./inspect.js";
import type { StoreKind } from "./store/store.js";
import type { Form } from "./structured.js";
import type { EngineEvent, EngineInfo, EngineOptions, FinishReason, MadeFor, MemoryUse, Progress, Signals, Stats, Testing, TokenLogprob } from "./types.js";

/** One file of the model. */
export type Part = { sha256?: string; cache?: CacheTarget } & (
  | { kind: "http"; url: string; headers?: Record<string, string> }
  | { kind: "blob"; blob: Blob }
  /**
   * The page feeds it, chunk by chunk: `"pull"` in, a Uint8Array, `null` (the end) or an ErrorData out. `spool`: it can be
   * read once only; where it may have to be read again, the worker keeps it under this name.
   */
  | { kind: "port"; port: MessagePort; size?: number; spool?: string }
  /** It is in the store, or cannot be had. */
  | { kind: "stored" }
);

/** All of a model. */
export interface ModelParts {
  parts: Part[];
  store?: StoreAccess;
  /** Another model that guesses for it. */
  draft?: ModelParts;
}

/** Where a part is kept. */
export interface CacheTarget {
  /** Under which it is found again. */
  name: string;
  hub?: HubFile;
  /** The server is asked whether it still has the same file. */
  revalidate?: boolean;
  /** A complete file that is there already is not what is wanted. */
  replace?: boolean;
}

/** Which store a worker uses, and how it reaches the page's memory. */
export interface StoreAccess {
  wanted: StoreKind | "auto";
  memory: MessagePort;
}

export interface WasmUrls {
  simd?: string;
  relaxed?: string;
  threads?: string;
  grammar?: string;
}

/** What starts the pool: the same module on the same memory, in a worker for each thread but the engine's own. */
export interface PoolStart {
  module: WebAssembly.Module;
  memory: WebAssembly.Memory;
  /** The address of what the threads have in common: `Shared` of src/backend/cpu/pool.rs. */
  shared: number;
  /** The engine's own included. */
  threads: number;
}

/** What starts a thread; it answers "ready", or why it cannot start. 0 is the engine's own. */
export type ToPool = PoolStart & { thread: number };

/** `Question` of src/model/inspect.rs. */
interface InspectQuestion {
  contextLength?: number;
  kvInt8?: boolean;
  bindingLimit?: number;
}

/** The engine's own options, checked; names as in `GenerateOptions` (src/generate/mod.rs). */
export interface EngineRequest {
  messages?: unknown[];
  tools?: unknown[];
  /** What the answer has to look like; the engine itself takes it as an object that knows. */
  form?: Form;
  prompt?: string;
  /** What follows the text to be filled in. */
  suffix?: string;
  chat_template_kwargs?: Record<string, unknown>;
  reasoning_effort?: string;
  continue_final_message?: boolean;
  prediction?: string;
  options: Record<string, unknown> & { logprobs?: boolean };
  /** Instead of an answer: the embeddings of these texts, or lists of ids. */
  embed?: (string | number[])[];
}

/** An adapter on its way into the wasm. */
interface AdapterData {
  id: number;
  weights: ArrayBuffer;
  config?: string;
}

export type Call =
  | { method: "tokenize"; argument: string }
  | { method: "detokenize"; argument: number[] }
  | { method: "memory" }
  | { method: "loadAdapter"; argument: AdapterData }
  | { method: "unloadAdapter"; argument: number };

/** What a call may bring back. */
export type Reply = number[] | string | MemoryUse | null;

export type ToWorker =
  /** `posted`: how many messages the page has sent, this one included, where memory is shared. */
  | ModelParts & { type: "load"; posted?: Int32Array; wasm: WasmUrls; threads?: number; contextLength?: number; kvCache?: EngineOptions["kvCache"]; chatTemplate?: string; backend: NonNullable<EngineOptions["backend"]>; prefix?: EngineRequest; testing?: Testing }
  /** Instead of "load", in a worker of its own: what the header says. */
  | { type: "inspect"; parts: Part[]; store?: StoreAccess; wasm: WasmUrls; question: InspectQuestion }
  /** Instead of "load": its parts are stored, and nothing else. */
  | { type: "store"; parts: Part[]; store: StoreAccess }
  /** Answers "reopen": the model's parts once more, or why not. */
  | ModelParts & { type: "parts" }
  | { type: "unreadable"; error: ErrorData }
  /** Answers "threads": they are there, or why not. */
  | { type: "threads"; failure?: string }
  | { type: "run"; id: number; request: EngineRequest }
  | { type: "abort"; id: number }
  | { type: "call"; id: number; call: Call }
  /** For tests: a real trap, wherever the worker happens to be, or in a thread of its pool. */
  | { type: "trap"; helper?: boolean };

/** A piece of a call of a tool; the first one of a call has its name. */
export interface CallPiece {
  index: number;
  name?: string;
  arguments?: string;
}

export interface Token {
  id: number;
  /** What the token completes, maybe nothing. */
  text: string;
  /** The same of the thoughts before the answer. */
  reasoning?: string;
  calls?: CallPiece[];
  /** The token that ends the answer: never shown. */
  special: boolean;
  logprobs?: TokenLogprob;
  /** Of the answer so far. */
  soFar?: Signals;
}

export interface Finish {
  text: string;
  reasoning?: string;
  calls?: CallPiece[];
  reason: FinishReason;
  stats: Stats;
  signals: Signals;
  madeFor: MadeFor;
}

export interface Embedded {
  embedding: number[];
  /** Of the text. */
  tokens: number;
}

/** The answer to "inspect" and "store", unless it is "failed" or "crashed". */
export type Answer = { type: "inspected"; report: ModelReport } | { type: "stored" };

export type FromWorker =
  | { type: "progress"; progress: Progress }
  | { type: "event"; event: EngineEvent }
  /** A large model is about to be stored: may it stay? */
  | { type: "persist" }
  /** The parts are wanted once more. */
  | { type: "reopen" }
  /** They are wanted. */
  | { type: "threads"; pool: PoolStart }
  /** The stream, kept: from now on it can be read again. */
  | { type: "spooled"; blob: Blob }
  /** `reason`: why the GPU was not taken, where it might have been. */
  | { type: "loaded"; info: EngineInfo; reason?: ErrorData }
  /** After loading; another request may be running. */
  | { type: "backend-changed"; info: EngineInfo; reason: ErrorData }
  | { type: "failed"; error: ErrorData }
  | { type: "crashed"; message: string }
  /** The request is accepted: its prompt is tokenized and fits. */
  | { type: "started"; id: number }
  | { type: "tokens"; id: number; tokens: Token[] }
  | { type: "done"; id: number; finish: Finish }
  | { type: "embedded"; id: number; embeddings: Embedded[] }
  | { type: "aborted"; id: number; stats?: Stats }
  /** `lost`: its model is gone with the GPU, and no other request can be answered. */
  | { type: "rejected"; id: number; error: ErrorData; lost: boolean }
  | { type: "result"; id: number; value: Reply }
  | { type: "refused"; id: number; error: ErrorData };
