// The conversation as one sees it.

import { find, make } from "./dom.js";

const log = find("log");
const scroller = find("scroller");
const welcome = find("welcome");

/** Within so many pixels of the end, the reader follows the answer. */
const FOLLOW = 48;
let following = true;
scroller.addEventListener("scroll", () => {
  following = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < FOLLOW;
}, { passive: true });
new ResizeObserver(follow).observe(scroller);

function follow(): void {
  if (following) scroller.scrollTop = scroller.scrollHeight;
}

function append<T extends HTMLElement>(element: T): T {
  welcome.hidden = true;
  log.append(element);
  follow();
  return element;
}

export function addQuestion(text: string): HTMLElement {
  following = true;
  return append(make("div", { "data-from": "user" }, text));
}

/** A line across the conversation; a question that still waits belongs below it. */
export function addBreak(text: string): void {
  const waiting = log.querySelector('[aria-busy="true"]')?.previousElementSibling ?? null;
  log.insertBefore(make("div", { class: "break" }, text), waiting);
  follow();
}

export function clearLog(): void {
  log.replaceChildren();
  welcome.hidden = false;
}

export function isEmpty(): boolean {
  return log.childElementCount === 0;
}

/** An answer while it streams. What arrives within one frame is drawn at once. */
export class Answer {
  readonly #element = append(make("div", { "data-from": "assistant", "data-source": "local", "aria-busy": "true" }));
  readonly #text = this.#element.appendChild(document.createTextNode(""));
  #pending = "";
  #frame = 0;
  text = "";

  add(piece: string): void {
    this.text += piece;
    this.#pending += piece;
    if (this.#pending) this.#frame ||= requestAnimationFrame(() => this.#draw());
  }

  #draw(): void {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    this.#text.appendData(this.#pending);
    this.#pending = "";
    follow();
  }

  end(note: string): void {
    this.#draw();
    this.#element.setAttribute("aria-busy", "false");
    if (note) this.#element.after(make("div", { class: "note" }, note));
    follow();
  }

  remove(): void {
    cancelAnimationFrame(this.#frame);
    this.#element.remove();
  }
}
