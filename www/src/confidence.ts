// The tokens of an answer that the model was unsure of: marked within its Markdown, they say how sure it was and what else it
// weighed. Knows no page.

import type { Token } from "./conversation.js";
import { make } from "./dom.js";
import type { Place } from "./source-map.js";

/** Below the first a token is doubtful, below the second a guess. */
const DOUBTFUL = 0.5;
const GUESS = 0.2;

const percent = (p: number) => (p >= 0.995 ? "over 99 %" : p < 0.01 ? "under 1 %" : `${Math.round(p * 100)} %`);
const quoted = (text: string) => `“${text.replace(/\n/g, "⏎").replace(/^ | $/g, "␣")}”`;

function describe({ text, p, others }: Token): string {
  const rest = others.slice(0, 4).map((other) => `${quoted(other.text)} ${percent(other.p)}`);
  return `${quoted(text)}: ${percent(p)}${rest.length > 0 ? `. Also weighed: ${rest.join(", ")}` : ""}`;
}

/** A token that the model was unsure of, and where it stands in the text. */
interface Shade {
  start: number;
  end: number;
  token: Token;
}

/** The unsure ones of an answer's tokens, which come while the answer grows. */
export class Shades {
  #shades: Shade[] = [];
  #seen = 0;
  /** Where the last one ended. */
  #end = 0;
  /** Some tokens hold pieces of characters, which the text has whole. */
  #lost = false;

  constructor(readonly tokens: readonly Token[]) {}

  /** `text` is what the tokens come to; where they do not (a stop string was cut off), it stays unmarked. */
  update(text: string): void {
    for (; this.#seen < this.tokens.length; this.#seen++) {
      const token = this.tokens[this.#seen]!;
      if (token.text.includes("\ufffd") && !text.startsWith(token.text, this.#end)) {
        this.#lost = true;
        continue;
      }
      const start = this.#lost ? text.indexOf(token.text, this.#end) : this.#end;
      if (start < 0 || !text.startsWith(token.text, start)) {
        if (text.length < this.#end + token.text.length || this.#lost) break; // it is on its way
        continue;
      }
      this.#lost = false;
      this.#end = start + token.text.length;
      if (token.text && token.p < DOUBTFUL) this.#shades.push({ start, end: this.#end, token });
    }
  }

  #at(unit: number): Shade | undefined {
    let [low, high] = [0, this.#shades.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#shades[middle]!.end <= unit) low = middle + 1;
      else high = middle;
    }
    const shade = this.#shades[low];
    return shade && shade.start <= unit ? shade : undefined;
  }

  /** Puts a text into an element, the unsure tokens marked. `place`: where in the answer its units stand. */
  write(parent: Element, text: string, place: Place): void {
    const inLink = parent.closest("a") !== null;
    let plain = "";
    for (let from = 0, to = 0; from < text.length; from = to) {
      const shade = this.#at(place(from));
      for (to = from + 1; to < text.length && this.#at(place(to)) === shade; ) to++;
      const part = text.slice(from, to);
      const visible = shade ? part.trimStart() : "";
      plain += part.slice(0, part.length - visible.length);
      if (!shade || !visible) continue;
      parent.append(...(plain ? [plain] : []), mark(shade.token, visible, inLink));
      plain = "";
    }
    if (plain) parent.append(plain);
  }
}

function mark(token: Token, text: string, inLink: boolean): HTMLElement {
  const said = describe(token);
  // What is pressed may not stand in a link.
  const about: Record<string, string> = inLink ? { "data-about": said } : { tabindex: "-1", role: "button", "aria-label": said };
  return make("span", { class: `token ${token.p < GUESS ? "guess" : "doubtful"}`, ...about }, text);
}

/** One stop of the Tab key for an answer; arrows go from token to token. */
export function oneStop(answer: Element): void {
  if (!answer.querySelector('.token[tabindex="0"]')) answer.querySelector(".token[role]")?.setAttribute("tabindex", "0");
}

/** Gives an element whose children are text and marks other children with the same text, and the marks again. */
export function replaceAround(element: Element, children: readonly Node[]): void {
  const marks: { token: Element; start: number; end: number }[] = [];
  let end = 0;
  for (const child of element.childNodes) {
    const start = end;
    end += child.textContent!.length;
    if (child instanceof Element) marks.push({ token: child, start, end });
  }
  element.replaceChildren(...children);
  if (marks.length === 0) return;
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  const texts: Text[] = [];
  while (walker.nextNode()) texts.push(walker.currentNode as Text);
  let at = 0;
  for (const text of texts) {
    const { data } = text;
    const parts: (Element | string)[] = [];
    let from = 0;
    for (const { token, start, end } of marks) {
      const [first, last] = [Math.max(start - at, 0), Math.min(end - at, data.length)];
      if (first >= last) continue;
      // One mark is one stop for the keyboard, however many colours it has.
      const part = start >= at ? token : make("span", { class: token.className, "data-about": aboutOf(token) });
      part.textContent = data.slice(first, last);
      parts.push(data.slice(from, first), part);
      from = last;
    }
    at += data.length;
    if (parts.length > 0) text.replaceWith(...parts, data.slice(from));
  }
}

const aboutOf = (token: Element) => token.getAttribute("aria-label") ?? token.getAttribute("data-about") ?? "";

/** One tooltip for all tokens within `root`. Escape hides it. */
export function setUpTokens(root: HTMLElement): void {
  const tip = make("div", { class: "tip", role: "tooltip", id: "token-tip" });
  tip.hidden = true;
  root.ownerDocument.body.append(tip);
  const tokenOf = (event: Event) => (event.target instanceof Element ? event.target.closest<HTMLElement>(".token") : null);
  const hide = () => (tip.hidden = true);
  const show = (token: HTMLElement) => {
    tip.textContent = aboutOf(token);
    tip.hidden = false;
    const { left, top, bottom } = token.getBoundingClientRect();
    const { width, height } = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(8, Math.min(left, innerWidth - width - 8))}px`;
    tip.style.top = `${top > height + 12 ? top - height - 6 : bottom + 6}px`;
  };
  root.addEventListener("pointerover", (event) => {
    const token = tokenOf(event);
    if (token) show(token);
    else hide();
  });
  root.addEventListener("pointerleave", hide);
  root.addEventListener("focusin", (event) => {
    const token = tokenOf(event);
    if (token) show(token);
  });
  root.addEventListener("focusout", hide);
  root.addEventListener("scroll", hide, { capture: true, passive: true });
  root.addEventListener("keydown", (event) => {
    const token = tokenOf(event);
    if (!token) return;
    if (event.key === "Escape" && !tip.hidden) {
      event.stopPropagation();
      hide();
    }
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const all = [...token.closest("[data-from]")!.querySelectorAll<HTMLElement>(".token[role]")];
    const next = all[(all.indexOf(token) + step + all.length) % all.length]!;
    token.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
}
