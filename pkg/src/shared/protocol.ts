// What crosses between the tabs: plain, cloneable data on one channel that all of them hear.

import type { ErrorData } from "../errors.js";
import type { ChatCompletion, ChatCompletionChunk, Completion, CompletionChunk, EmbeddingRequest, EmbeddingResponse } from "../openai.js";
import type { EngineInfo, MemoryUse, Stats } from "../types.js";

/** A method of the engine and its argument. `stream`: pieces come before the end. */
export type Call =
  | { method: "chat" | "completions"; body: Record<string, unknown>; stream: boolean }
  | { method: "embeddings"; body: EmbeddingRequest }
  | { method: "tokenize"; argument: string }
  | { method: "detokenize"; argument: number[] }
  | { method: "memory" };

export type Piece = ChatCompletionChunk | CompletionChunk;
export type Value = ChatCompletion | Completion | EmbeddingResponse | number[] | string | MemoryUse | undefined;

export interface Failure extends ErrorData {
  text?: string;
  ids?: number[];
}

export type Message =
  /** Who has just come asks who leads. */
  | { type: "hello" }
  /** The tab with the engine, when it is loaded and whenever somebody asks. */
  | { type: "leader"; leader: string; info: EngineInfo }
  | { type: "call"; to: string; from: string; id: number; call: Call }
  | { type: "abort"; to: string; from: string; id: number }
  | { type: "piece"; to: string; id: number; piece: Piece }
  | { type: "done"; to: string; id: number; value: Value; stats: Stats | undefined }
  | { type: "failed"; to: string; id: number; error: Failure };
