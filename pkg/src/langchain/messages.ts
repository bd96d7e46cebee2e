// LangChain's messages as OpenAI's, and OpenAI's chunks as LangChain's.

import { AIMessageChunk, type AIMessage, type BaseMessage, type ChatMessage, type ToolMessage } from "@langchain/core/messages";
import type { Chunk } from "../face.js";
import { badRequest } from "../errors.js";

const ROLES: Record<string, string> = { human: "user", ai: "assistant", system: "system", developer: "developer", tool: "tool" };

export function toMessage(message: BaseMessage): object {
  const type = message.getType();
  const role = type === "generic" ? (message as ChatMessage).role : ROLES[type];
  if (role === undefined) throw badRequest("messages", `holds a message of type ${type}, which a chat template does not know`);
  const content = textOf(message, role);
  if (role === "tool") return { role, content, tool_call_id: (message as ToolMessage).tool_call_id, ...(message.name && { name: message.name }) };
  if (role !== "assistant") return { role, content };
  const calls = ((message as AIMessage).tool_calls ?? []).map(({ id, name, args }) => ({ id, type: "function", function: { name, arguments: JSON.stringify(args) } }));
  const thought = message.additional_kwargs.reasoning_content;
  return { role, content, ...(typeof thought === "string" && { reasoning_content: thought }), ...(calls.length > 0 && { tool_calls: calls }) };
}

function textOf({ content }: BaseMessage, role: string): string {
  if (typeof content === "string") return content;
  return content.map((block) => {
    if (block.type === "text") return String(block.text);
    // What a model has said beside its text is read elsewhere: its calls, its thoughts.
    if (role === "assistant") return "";
    throw badRequest("messages", `holds a part of type ${block.type}; these models read text only`);
  }).join("");
}

export function chunkOf({ id, model, choices, usage, signals, router }: Chunk): AIMessageChunk {
  const { delta, finish_reason: reason } = choices[0] ?? { delta: {}, finish_reason: null };
  return new AIMessageChunk({
    id,
    content: delta.content ?? "",
    additional_kwargs: delta.reasoning_content ? { reasoning_content: delta.reasoning_content } : {},
    tool_call_chunks: (delta.tool_calls ?? []).map(({ index, id, function: piece }) => ({ type: "tool_call_chunk", index, id, name: piece?.name, args: piece?.arguments })),
    // Said once: chunks are added up.
    response_metadata: reason ? { model_name: model, finish_reason: reason, ...(signals && { signals }), ...(router && { router }) } : {},
    usage_metadata: usage ? {
      input_tokens: usage.prompt_tokens, output_tokens: usage.completion_tokens, total_tokens: usage.total_tokens,
      ...(usage.prompt_tokens_details && { input_token_details: { cache_read: usage.prompt_tokens_details.cached_tokens } }),
    } : undefined,
  });
}
