// What is read of a reply.

import type { ToolCall } from "../openai.js";
import type { ToolCallPiece } from "../tool-pieces.js";

export interface Reply {
  text: string;
  calls: ToolCall[];
  tokens: number;
}

export interface Chunk {
  choices: { delta?: { content?: string | null; tool_calls?: ToolCallPiece[] } }[];
  usage?: { total_tokens: number } | null;
}
