// What is read of a reply.

export interface ToolCall {
  id: string;
  type: "function";
  function: { name: string; arguments: string };
}

export interface Reply {
  text: string;
  calls: ToolCall[];
  tokens: number;
}

export interface Chunk {
  choices: { delta?: { content?: string | null; tool_calls?: { index?: number; id?: string; function?: { name?: string; arguments?: string } }[] } }[];
  usage?: { total_tokens: number } | null;
}

export function gather(calls: ToolCall[], { index = 0, id, function: piece }: NonNullable<NonNullable<Chunk["choices"][number]["delta"]>["tool_calls"]>[number]): void {
  const call = (calls[index] ??= { id: id ?? `call_${index}`, type: "function", function: { name: "", arguments: "" } });
  call.function.name += piece?.name ?? "";
  call.function.arguments += piece?.arguments ?? "";
}
