// What can be asked about a selection: the menu's words, the question as it is shown, and the prompt. Prompts are short and
// end with the text, which is what small models follow best.

import type { Excerpt } from "../../src/conversation.js";

export const TASKS = ["explain", "summarise", "rewrite", "translate"] as const;
export type Task = (typeof TASKS)[number];

/** So much of the text is shown in the question; all of it stands below. */
const SHOWN = 180;

/** In the menu, and before the text in the question. */
export function titleOf(task: Task, language: string): string {
  return { explain: "Explain", summarise: "Summarise", rewrite: "Rewrite", translate: `Translate into ${nameOf(language)}` }[task];
}

function promptOf(task: Task, language: string): string {
  switch (task) {
    case "explain":
      return "Explain the following text in simple words, in a few sentences.";
    case "summarise":
      return "Summarise the following text in at most three sentences.";
    case "rewrite":
      return "Rewrite the following text so that it is clear and correct. Keep its meaning and its language. Answer with the new text only.";
    case "translate":
      return `Translate the following text into ${nameOf(language)}. Answer with the translation only.`;
  }
}

/** @param from the page's title and host */
export function question(task: Task, text: string, language: string, from: string): { shown: string; excerpt: Excerpt } {
  const line = text.replace(/\s+/g, " ");
  const start = line.length > SHOWN ? `${line.slice(0, SHOWN).trimEnd()}…` : line;
  return { shown: `${titleOf(task, language)}: “${start}”`, excerpt: { before: promptOf(task, language), text, from } };
}

/** What somebody wants to know about a page that was read. */
export function questionAbout(text: string, page: string, from: string): Excerpt {
  return { before: "This is the text of a web page:", text: page, after: `With the help of this text: ${text}`, from };
}

/** The name in English, which is what the prompts are in. */
export function nameOf(language: string): string {
  return new Intl.DisplayNames(["en"], { type: "language" }).of(language) ?? language;
}

/** Where a text is from. */
export function sourceOf(title: string, url: string): string {
  const host = URL.canParse(url) ? new URL(url).host : "";
  const shown = title.trim();
  return [shown.length > 80 ? `${shown.slice(0, 80).trimEnd()}…` : shown, host].filter(Boolean).join(" · ") || "a page";
}
