// An answer token by token: the unsure ones are marked, and say how sure the model was and what else it weighed. Knows no page.

import type { Token } from "./conversation.js";
import { make } from "./dom.js";

/** Below the first a token is doubtful, below the second a guess. */
const DOUBTFUL = 0.5;
const GUESS = 0.2;

const percent = (p: number) => (p >= 0.995 ? "over 99 %" : p < 0.01 ? "under 1 %" : `${Math.round(p * 100)} %`);
const quoted = (text: string) => `“${text.replace(/\n/g, "⏎").replace(/^ | $/g, "␣")}”`;

function describe({ text, p, others }: Token): string {
  const rest = others.slice(0, 4).map((other) => `${quoted(other.text)} ${percent(other.p)}`);
  return `${quoted(text)}: ${percent(p)}${rest.length > 0 ? `. Also weighed: ${rest.join(", ")}` : ""}`;
}

/** Draws tokens into an element as they come. Pieces of one character are put together. */
export class TokenView {
  #drawn = 0;
  #rest = "";
  readonly #root: HTMLElement;

  constructor(root: HTMLElement) {
    this.#root = root;
    root.classList.add("by-token");
  }

  /** `text` is what the tokens come to; where they do not (a stop string was cut off), it is shown as it is. */
  update(text: string, tokens: readonly Token[]): void {
    for (; this.#drawn < tokens.length; this.#drawn++) {
      const token = tokens[this.#drawn]!;
      const at = (this.#root.textContent?.length ?? 0) + this.#rest.length;
      const piece = this.#rest + token.text;
      if (text.startsWith(piece, at - this.#rest.length)) {
        this.#rest = "";
        this.#append(token, piece);
      } else if (!piece.includes("\ufffd") && at >= text.length) break; // it is on its way
    }
    const shown = this.#root.textContent ?? "";
    if (text.startsWith(shown)) {
      if (text.length > shown.length && this.#drawn >= tokens.length) this.#root.append(text.slice(shown.length));
    } else this.#root.replaceChildren(text);
  }

  #append(token: Token, text: string): void {
    if (text === "") return;
    if (token.p >= DOUBTFUL) {
      const last = this.#root.lastChild;
      if (last instanceof Text) last.appendData(text);
      else this.#root.append(text);
      return;
    }
    const first = !this.#root.querySelector(".token");
    this.#root.append(make("span", {
      class: `token ${token.p < GUESS ? "guess" : "doubtful"}`,
      // One stop of the Tab key for an answer; arrows go from token to token.
      tabindex: first ? "0" : "-1", role: "button", "aria-label": describe(token),
    }, text));
  }
}

/** One tooltip for all tokens within `root`. Escape hides it. */
export function setUpTokens(root: HTMLElement): void {
  const tip = make("div", { class: "tip", role: "tooltip", id: "token-tip" });
  tip.hidden = true;
  root.ownerDocument.body.append(tip);
  const tokenOf = (event: Event) => (event.target instanceof Element ? event.target.closest<HTMLElement>(".token") : null);
  const hide = () => (tip.hidden = true);
  const show = (token: HTMLElement) => {
    tip.textContent = token.getAttribute("aria-label");
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
    const all = [...token.parentElement!.querySelectorAll<HTMLElement>(".token")];
    const next = all[(all.indexOf(token) + step + all.length) % all.length]!;
    token.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
}
