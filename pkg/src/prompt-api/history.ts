// The conversation of a session of the Prompt API, as OpenAI's messages.

import type { ToolCall } from "../openai.js";

/** A message of a conversation, as the Prompt API has it. */
export interface PromptMessage {
  role: "system" | "user" | "assistant";
  content: string | { type: string; value: unknown }[];
  prefix?: boolean;
}

/** What a session is asked: the user's words, or messages. */
export type Prompt = string | PromptMessage[];

interface Message {
  role: "system" | "user" | "assistant" | "tool";
  content: string;
  tool_calls?: ToolCall[];
  tool_call_id?: string;
}

export class History {
  messages: Message[];
  /** Of the last answer and all before it. */
  tokens = 0;

  constructor(initial: readonly PromptMessage[], input: Prompt = []) {
    this.messages = [...initial.map((message, i) => read(message, i === 0)), ...list(input).map((message) => read(message, false))];
  }

  append(input: Prompt): void {
    this.messages.push(...list(input).map((message) => read(message, false)));
  }

  clone(): History {
    const copy = new History([]);
    copy.messages = [...this.messages];
    copy.tokens = this.tokens;
    return copy;
  }

  /** A prompt and what comes of it, which `keep` makes part of the conversation. */
  begin(input: Prompt) {
    let kept = [...this.messages];
    const added = list(input).map((message) => read(message, false));
    let tokens = this.tokens;
    return {
      messages: (): Message[] => [...kept, ...added],
      say(text: string, calls: ToolCall[], used: number): void {
        added.push({ role: "assistant", content: text, ...(calls.length > 0 && { tool_calls: calls }) });
        tokens = used;
      },
      result: (call: ToolCall, text: string): void => void added.push({ role: "tool", content: text, tool_call_id: call.id }),
      /** The oldest prompt and its answer; false where there is none. What the system said stays. */
      forget(): boolean {
        const first = kept.findIndex(({ role }) => role !== "system");
        if (first < 0) return false;
        const next = kept.findIndex(({ role }, i) => i > first && role === "user");
        kept = [...kept.slice(0, first), ...(next < 0 ? [] : kept.slice(next))];
        return true;
      },
      keep: (): void => {
        this.messages = [...kept, ...added];
        this.tokens = tokens;
      },
    };
  }
}

function list(input: Prompt): PromptMessage[] {
  return typeof input === "string" ? [{ role: "user", content: input }] : input;
}

function read({ role, content, prefix }: PromptMessage, first: boolean): Message {
  if (role === "system" && !first) throw new TypeError("a system message comes first, among the initialPrompts");
  if (!["system", "user", "assistant"].includes(role)) throw new TypeError(`there is no role ${String(role)}`);
  if (prefix) throw new DOMException("an answer cannot be begun for this model (prefix)", "NotSupportedError");
  if (typeof content === "string") return { role, content };
  const texts = content.map(({ type, value }) => {
    if (type !== "text" || typeof value !== "string") throw new DOMException("this model reads text only", "NotSupportedError");
    return value;
  });
  return { role, content: texts.join("") };
}
