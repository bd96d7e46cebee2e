// Calls of tools, put together from the pieces of a stream.

import type { ToolCall } from "./openai.js";

/** A piece as servers send it: the first of a call has its name, later ones only text. */
export interface ToolCallPiece {
  index?: number;
  id?: string;
  function?: { name?: string; arguments?: string };
}

export function addPiece(calls: ToolCall[], { index = 0, id, function: piece }: ToolCallPiece): void {
  const call = (calls[index] ??= { id: id || `call_${index}`, type: "function", function: { name: "", arguments: "" } });
  call.function.name ||= piece?.name ?? "";
  call.function.arguments += piece?.arguments ?? "";
}
