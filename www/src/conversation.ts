// A conversation as data: what is kept, sent to a model, exported and imported. Knows no page.

import type { ChatMessage } from "kinglet";

/** Its text, its probability, and what else it could have been, the likeliest first. */
export interface Token {
  text: string;
  p: number;
  others: { text: string; p: number }[];
}

/** A text from elsewhere that goes along with a question: part of a web page, say. */
export interface Excerpt {
  text: string;
  /** What the model is told before and after it. */
  before?: string;
  after?: string;
  /** Where it is from, in words. */
  from: string;
  /** Its length in UTF-16 units before it was cut to the model's context; absent while it is whole. */
  cutFrom?: number;
}

export interface Message {
  from: "user" | "assistant";
  text: string;
  /** Of a question: what it is about. `text` is then what is shown, and the excerpt, with what stands around it, is what is sent. */
  excerpt?: Excerpt;
  /** Of an answer: who gave it. */
  source?: "local" | "cloud";
  /** Of an answer: the model's name, and the server's where one answered. */
  by?: string;
  /** Of an answer: how long it took and the like, in words. */
  note?: string;
  /** It ended before its end: stopped, or the page was closed. */
  cut?: boolean;
  /** Where they were asked for. */
  tokens?: readonly Token[];
}

export interface Conversation {
  id: string;
  /** Since 1970. */
  created: number;
  changed: number;
  messages: Message[];
  /** Messages before this one are not sent: another model heard them. `startText` says so. */
  start?: number;
  startText?: string;
}

export function newConversation(): Conversation {
  const now = Date.now();
  return { id: crypto.randomUUID(), created: now, changed: now, messages: [] };
}

const TITLE_LENGTH = 60;

export function titleOf({ messages }: Conversation): string {
  const text = messages.find(({ from }) => from === "user")?.text.replace(/\s+/g, " ").trim() ?? "";
  return text.length > TITLE_LENGTH ? `${text.slice(0, TITLE_LENGTH).trimEnd()}…` : text || "Empty conversation";
}

/** As a request has it. A question that was not answered is no turn, but for the last one. */
export function toRequest(messages: readonly Message[]): ChatMessage[] {
  const unanswered = (i: number) => messages[i + 1]?.from === "assistant" && !messages[i + 1]!.text;
  return messages.filter(({ text }, i) => text && !unanswered(i)).map((message) => ({ role: message.from, content: contentOf(message) }));
}

/** What a model reads of a message. */
export function contentOf({ text, excerpt }: Message): string {
  if (!excerpt) return text;
  return [excerpt.before, `"""\n${excerpt.text}\n"""`, excerpt.after].filter(Boolean).join("\n\n");
}

export function toMarkdown(conversation: Conversation): string {
  const turns = conversation.messages.map(({ from, text, by, cut }) => {
    const who = from === "user" ? "You" : by || "Assistant";
    return `**${who}:**\n\n${text}${cut ? "\n\n*(cut off)*" : ""}`;
  });
  return [`# ${titleOf(conversation)}`, ...turns].join("\n\n") + "\n";
}

const FORMAT = "kinglet-conversation";

export function toJson(conversation: Conversation): string {
  return JSON.stringify({ format: FORMAT, version: 1, ...conversation }, null, 2) + "\n";
}

/** Takes what `toJson` wrote, as a new conversation. Throws, saying what is wrong, for anything else. */
export function fromJson(text: string): Conversation {
  let data: Partial<Conversation> & { format?: unknown; version?: unknown };
  try {
    data = JSON.parse(text);
  } catch {
    throw new Error("this is no JSON: choose a conversation that was exported as JSON");
  }
  if (data?.format !== FORMAT) throw new Error("this is no conversation: choose a file that was exported as JSON here");
  if (data.version !== 1) throw new Error(`this conversation is of version ${String(data.version)}; this page reads version 1`);
  if (!Array.isArray(data.messages)) throw new Error("this conversation has no messages");
  const messages = data.messages.map((message, i) => readMessage(message, i + 1));
  return { ...newConversation(), created: typeof data.created === "number" ? data.created : Date.now(), messages };
}

function readMessage(message: Partial<Message> | null, nth: number): Message {
  if (message?.from !== "user" && message?.from !== "assistant") throw new Error(`message ${nth} is from neither "user" nor "assistant"`);
  if (typeof message.text !== "string") throw new Error(`message ${nth} has no text`);
  const read: Message = { from: message.from, text: message.text };
  if (message.source === "local" || message.source === "cloud") read.source = message.source;
  if (isExcerpt(message.excerpt)) read.excerpt = message.excerpt;
  if (typeof message.by === "string") read.by = message.by;
  if (typeof message.note === "string") read.note = message.note;
  if (message.cut === true) read.cut = true;
  if (Array.isArray(message.tokens) && message.tokens.every(isToken)) read.tokens = message.tokens;
  return read;
}

const isOptional = (value: unknown, type: "string" | "number") => value === undefined || typeof value === type;
const isExcerpt = (value: Partial<Excerpt> | undefined): value is Excerpt =>
  typeof value?.text === "string" && typeof value.from === "string" && isOptional(value.before, "string") && isOptional(value.after, "string") && isOptional(value.cutFrom, "number");
const isChance = (value: Partial<Token> | null): value is Token => typeof value?.text === "string" && typeof value.p === "number";
const isToken = (value: Partial<Token> | null): value is Token => isChance(value) && Array.isArray(value.others) && value.others.every((other) => isChance(other as Token));
