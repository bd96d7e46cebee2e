// The chunks of chat completions, as the adapters read them.

import type { ToolCallPiece } from "../tool-pieces.js";

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
