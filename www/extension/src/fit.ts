// A text that is longer than the model's context is cut to it, and the cut is told.

import type { Engine } from "kinglet";
import { contentOf, type Message } from "../../src/conversation.js";

/** What a template writes around each message, at most. */
const AROUND = 16;
const ANSWER = 512;
/** Less of a text says nothing. */
const LEAST = 24;
/** A vocabulary's token has seldom more letters: longer texts need not be tokenized to know that they are too long. */
const LONGEST_TOKEN = 12;

/** Cuts excerpts so that the conversation and an answer fit. Returns the messages that changed. */
export async function fit(engine: Engine, messages: readonly Message[]): Promise<Message[]> {
  const { contextLength } = engine.info;
  const withExcerpt = messages.filter(({ excerpt }) => excerpt);
  if (withExcerpt.length === 0) return [];
  let room = contextLength - Math.min(ANSWER, Math.ceil(contextLength / 4));
  for (const message of messages) {
    const { excerpt } = message;
    const rest = contentOf(excerpt ? { ...message, excerpt: { ...excerpt, text: "" } } : message);
    room -= AROUND + (await engine.tokenize(rest)).length;
  }
  const changed: Message[] = [];
  const most = Math.floor(room / withExcerpt.length);
  if (most < LEAST) return []; // the engine says that the conversation is too long
  for (const message of withExcerpt) {
    const excerpt = message.excerpt!;
    const short = await cut(engine, excerpt.text, most);
    if (short === excerpt.text) continue;
    excerpt.cutFrom ??= excerpt.text.length;
    excerpt.text = short;
    changed.push(message);
  }
  return changed;
}

/** The beginning that has at most so many tokens, up to the end of a sentence or word. */
async function cut(engine: Engine, text: string, most: number): Promise<string> {
  const start = text.slice(0, most * LONGEST_TOKEN);
  const ids = await engine.tokenize(start);
  if (ids.length <= most && start.length === text.length) return text;
  const begun = (ids.length <= most ? start : await engine.detokenize(ids.slice(0, most))).replace(/\ufffd+$/, "");
  const sentence = Math.max(...[". ", ".\n", "! ", "? ", "\n\n"].map((end) => begun.lastIndexOf(end) + 1));
  const word = begun.search(/\s\S*$/);
  const at = sentence > begun.length * 0.8 ? sentence : word > 0 ? word : begun.length;
  return begun.slice(0, at).trimEnd();
}
