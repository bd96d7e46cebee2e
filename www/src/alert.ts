// What went wrong and what to do about it, said once, above the question.

import { button, find, make } from "./dom.js";

export interface Advice {
  label: string;
  act(): void;
}

const box = find("alert");

export function showError(message: string, advice?: Advice): void {
  const close = button("Close", hideError);
  const act = advice && button(advice.label, () => (hideError(), advice.act()));
  box.replaceChildren(make("p", {}, message), ...(act ? [act, close] : [close]));
}

export function hideError(): void {
  box.replaceChildren();
}

/** A sentence of its own, from whatever was thrown. */
export function sentence(error: unknown): string {
  const message = (error instanceof Error ? error.message : String(error)).trim();
  if (!message) return "Something went wrong.";
  const start = message[0]!.toUpperCase() + message.slice(1);
  return /[.!?…]$/.test(start) ? start : `${start}.`;
}
