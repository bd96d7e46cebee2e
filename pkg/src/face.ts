// What the adapters stand on: whatever has chat completions, and the chunks of it.

import { badRequest, KingletError } from "./errors.js";
import type { ToolCallPiece } from "./tool-pieces.js";

/** What has chat completions: an engine, a router. */
export interface Chat {
  readonly chat: {
    completions: {
      /** As OpenAI's. */
      create(request: never, options?: { signal?: AbortSignal }): Promise<unknown>;
    };
  };
  readonly info?: { name?: string; architecture?: string };
}

/** What is read of a chunk, an engine's or a router's. */
export interface Chunk {
  id: string;
  created: number;
  model: string;
  choices: { delta: { content?: string | null; reasoning_content?: string; tool_calls?: ToolCallPiece[] }; finish_reason: string | null }[];
  usage?: { prompt_tokens: number; completion_tokens: number; total_tokens: number; prompt_tokens_details?: { cached_tokens: number } } | null;
  signals?: Record<string, number>;
  router?: Record<string, unknown>;
}

export function isChat(model: unknown): model is Chat {
  return typeof (model as Partial<Chat> | undefined)?.chat?.completions?.create === "function";
}

/** Throws BAD_REQUEST. */
export function checkChat(model: unknown): void {
  if (!isChat(model)) throw badRequest("model", "must be an engine or a router: it has no chat.completions.create");
}

/** Throws BAD_REQUEST. */
export function checkEmbeddings(engine: unknown): void {
  const { embeddings } = Object(engine) as { embeddings?: { create?: unknown } };
  if (typeof embeddings?.create !== "function") throw badRequest("engine", "must be an engine: it has no embeddings.create");
}

/** Whoever aborts expects the error of an abort. */
export function asAborter(error: unknown, signal: AbortSignal | undefined): unknown {
  return error instanceof KingletError && error.code === "ABORTED" && signal?.aborted ? signal.reason : error;
}
