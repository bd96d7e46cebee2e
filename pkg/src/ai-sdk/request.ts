// A call of the AI SDK as a request of OpenAI's.

import type { LanguageModelV4CallOptions, LanguageModelV4Message, SharedV4Warning } from "@ai-sdk/provider";
import { badRequest } from "../errors.js";

/** `defaults`: below what the call gives. */
export function toRequest(options: LanguageModelV4CallOptions, defaults: Record<string, unknown>): { request: object; warnings: SharedV4Warning[] } {
  const { responseFormat: format, tools = [], toolChoice, reasoning } = options;
  const warnings: SharedV4Warning[] = [];
  const functions = tools.flatMap((tool) => {
    if (tool.type === "function") return [{ type: "function", function: { name: tool.name, description: tool.description, parameters: tool.inputSchema, strict: tool.strict } }];
    warnings.push({ type: "unsupported", feature: `the provider's tool ${tool.id}` });
    return [];
  });
  const given = {
    max_tokens: options.maxOutputTokens,
    temperature: options.temperature,
    top_p: options.topP,
    top_k: options.topK,
    presence_penalty: options.presencePenalty,
    frequency_penalty: options.frequencyPenalty,
    stop: options.stopSequences?.length ? options.stopSequences : undefined,
    seed: options.seed,
    reasoning_effort: reasoning === "provider-default" ? undefined : reasoning === "max" ? "xhigh" : reasoning,
    response_format: format?.type === "json" ? (format.schema ? { type: "json_schema", json_schema: { name: format.name ?? "answer", schema: format.schema } } : { type: "json_object" }) : undefined,
    ...(functions.length > 0 && { tools: functions, tool_choice: choice(toolChoice) }),
  };
  const request = {
    ...defaults,
    ...Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)),
    ...options.providerOptions?.kinglet,
    messages: options.prompt.flatMap(toMessages),
    stream: true,
    stream_options: { include_usage: true },
  };
  return { request, warnings };
}

function choice(toolChoice: LanguageModelV4CallOptions["toolChoice"]): unknown {
  return toolChoice?.type === "tool" ? { type: "function", function: { name: toolChoice.toolName } } : toolChoice?.type;
}

function toMessages(message: LanguageModelV4Message): object[] {
  switch (message.role) {
    case "system":
      return [{ role: "system", content: message.content }];
    case "user":
      return [{ role: "user", content: message.content.map((part) => (part.type === "text" ? part.text : textOf(part))).join("") }];
    case "assistant": {
      const text = message.content.map((part) => (part.type === "text" ? part.text : "")).join("");
      const thought = message.content.map((part) => (part.type === "reasoning" ? part.text : "")).join("");
      const calls = message.content.flatMap((part) =>
        part.type === "tool-call" ? [{ id: part.toolCallId, type: "function", function: { name: part.toolName, arguments: JSON.stringify(part.input) } }] : [],
      );
      return [{ role: "assistant", content: text, ...(thought && { reasoning_content: thought }), ...(calls.length > 0 && { tool_calls: calls }) }];
    }
    case "tool":
      return message.content.flatMap((part) =>
        part.type === "tool-result" ? [{ role: "tool", tool_call_id: part.toolCallId, name: part.toolName, content: said(part.output) }] : [],
      );
  }
}

type FilePart = Extract<Extract<LanguageModelV4Message, { role: "user" }>["content"][number], { type: "file" }>;

function textOf({ data, mediaType, filename }: FilePart): string {
  if (typeof data === "object" && "type" in data && data.type === "text") return data.text;
  throw badRequest("messages", `holds a file${filename ? ` (${filename})` : ""} of type ${mediaType}; these models read text only`);
}

type Output = Extract<Extract<LanguageModelV4Message, { role: "tool" }>["content"][number], { type: "tool-result" }>["output"];

function said(output: Output): string {
  switch (output.type) {
    case "text":
    case "error-text":
      return output.value;
    case "execution-denied":
      return output.reason ?? "the user refused this call";
    case "content":
      return output.value.map((part) => (part.type === "text" ? part.text : "")).join("");
    default:
      return JSON.stringify(output.value);
  }
}
