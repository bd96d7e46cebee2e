// What went wrong and what to do about it, said once, above the question.

import { button, find, make } from "./dom.js";

export interface Advice {
  label: string;
  act(): void;
}

const box = find("alert");

export function showError(message: string, ...advice: Advice[]): void {
  const acts = advice.map(({ label, act }) => button(label, () => (hideError(), act())));
  box.replaceChildren(make("p", {}, message), ...acts, button("Close", hideError));
}

export function hideError(): void {
  box.replaceChildren();
}

/** A sentence of its own, from whatever was thrown; with `about` in front it says what it is about. */
export function sentence(error: unknown, about = ""): string {
  const message = (error instanceof Error ? error.message : String(error)).trim() || "something went wrong";
  const text = about ? `${about}: ${message}` : message[0]!.toUpperCase() + message.slice(1);
  return /[.!?…]$/.test(text) ? text : `${text}.`;
}
