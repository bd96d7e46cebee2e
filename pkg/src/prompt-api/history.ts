// The conversation of a session of the Prompt API, as OpenAI's messages.

import type { ToolCall } from "../openai.js";

/** A message of a conversation, as the Prompt API has it. */
export interface PromptMessage {
  role: "system" | "user" | "assistant";
  content: string | { type: string; value: unknown }[];
  /** Of the last one, an assistant's: the answer goes on where it ends. */
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

  constructor(initial: readonly PromptMessage[]) {
    this.messages = initial.map((message, i) => {
      if (message.role === "system" && i > 0) throw new TypeError("a system message comes first among the initialPrompts");
      if (message.prefix) throw new DOMException("prefix goes with a prompt, not with the initialPrompts", "NotSupportedError");
      return read(message);
    });
  }

  /** `tokens`: what it adds. */
  append(input: Prompt, tokens: number): void {
    if (isBegun(input)) throw new DOMException("prefix goes with a prompt, not with what is appended", "NotSupportedError");
    this.messages.push(...messagesOf(input));
    this.tokens += tokens;
  }

  clone(): History {
    const copy = new History([]);
    copy.messages = [...this.messages];
    copy.tokens = this.tokens;
    return copy;
  }

  /** A prompt and what comes of it, which `keep` makes part of the conversation. */
  begin(input: Prompt, constraint?: string) {
    let kept = [...this.messages];
    const added = messagesOf(input, constraint);
    let begun = isBegun(input);
    let tokens = this.tokens;
    return {
      request: () => ({ messages: [...kept, ...added], ...(begun && { continue_final_message: true }) }),
      say(text: string, calls: ToolCall[], used: number): void {
        const before = begun ? added.pop()!.content : "";
        begun = false;
        added.push({ role: "assistant", content: before + text, ...(calls.length > 0 && { tool_calls: calls }) });
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

/** The last message is the beginning of the answer. */
export function isBegun(input: Prompt): boolean {
  return typeof input !== "string" && input.at(-1)?.prefix === true;
}

/** `constraint`: said at the end of the last one but the beginning of the answer. */
export function messagesOf(input: Prompt, constraint?: string): Message[] {
  const list: PromptMessage[] = typeof input === "string" ? [{ role: "user", content: input }] : input;
  const messages = list.map((message, i) => {
    if (message.role === "system") throw new DOMException("a system message goes with the initialPrompts", "NotSupportedError");
    if (message.prefix && (message.role !== "assistant" || i < list.length - 1)) throw new DOMException("prefix goes with the last message, an assistant's", "SyntaxError");
    return read(message);
  });
  const last = messages.at(isBegun(input) ? -2 : -1);
  if (constraint && last) last.content += `\n\n${constraint}`;
  return messages;
}

function read({ role, content }: PromptMessage): Message {
  if (!["system", "user", "assistant"].includes(role)) throw new TypeError(`there is no role ${String(role)}`);
  if (typeof content === "string") return { role, content };
  const texts = content.map(({ type, value }) => {
    if (type !== "text" || typeof value !== "string") throw new DOMException("this model reads text only", "NotSupportedError");
    return value;
  });
  return { role, content: texts.join("") };
}
