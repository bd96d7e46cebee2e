// The conversation as one sees it. What an element with data-from contains is the message's text and nothing else.

import type { Excerpt, Message, Token } from "./conversation.js";
import { copyButton, iconButton, make } from "./dom.js";
import { count } from "./format.js";
import { GrowingMarkdown } from "./growing-markdown.js";

export interface LogActions {
  edit(index: number): void;
  retry(index: number): void;
  /** Of an answer that was cut off. */
  resume(index: number): void;
}

/** Within so many pixels of the end, the reader follows the answer. */
const FOLLOW = 48;
/** Drawing takes no more than one part in so many of the time. */
const SHARE = 4;

export class Log {
  #following = true;

  /** @param onEmpty hears whether there is nothing to see */
  constructor(private readonly log: HTMLElement, private readonly scroller: HTMLElement, private readonly actions: LogActions, private readonly onEmpty: (empty: boolean) => unknown = () => {}) {
    scroller.addEventListener("scroll", () => {
      this.#following = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < FOLLOW;
    }, { passive: true });
    new ResizeObserver(() => this.follow()).observe(scroller);
  }

  follow(): void {
    if (this.#following) this.scroller.scrollTop = this.scroller.scrollHeight;
  }

  /** Everything anew. `shading`: the unsure tokens of answers are marked, where they are known. */
  show(messages: readonly Message[], start: number, startText: string, shading: boolean): void {
    this.log.replaceChildren();
    messages.forEach((message, i) => {
      if (start > 0 && i === start) this.addBreak(startText);
      if (message.from === "user") this.addQuestion(message, i);
      else this.addAnswer(i, shading).showWhole(message);
    });
    if (start > 0 && start === messages.length) this.addBreak(startText);
    this.#following = true;
    this.onEmpty(messages.length === 0);
    this.follow();
  }

  /** Of what stands there only what differs is shown anew. */
  change(before: readonly Message[], after: readonly Message[], shading: boolean): void {
    let same = 0;
    while (same < before.length && same < after.length && JSON.stringify(before[same]) === JSON.stringify(after[same])) same++;
    const following = this.#following;
    this.removeTurns(before.length - same);
    after.slice(same).forEach((message, i) => {
      if (message.from === "user") this.addQuestion(message, same + i);
      else this.addAnswer(same + i, shading).showWhole(message);
    });
    this.#following = following;
  }

  /** Below all, that another page has the conversation; or that it had. */
  elsewhere(text: string | undefined): void {
    const line = this.log.querySelector(".elsewhere");
    if (text === undefined) line?.remove();
    else if (line && text !== line.textContent) line.textContent = text;
    else this.log.append(line ?? make("div", { class: "break elsewhere" }, text));
    this.follow();
  }

  /** A line across, above the newest `turns`. */
  addBreak(text: string, turns = 0): void {
    const all = this.log.querySelectorAll(".turn");
    this.log.insertBefore(make("div", { class: "break" }, text), turns > 0 ? (all[all.length - turns] ?? null) : null);
    this.follow();
  }

  addQuestion({ text, excerpt }: Message, index: number): void {
    this.#following = true;
    const article = make("article", { "data-from": "user", "aria-label": "You" }, text);
    const beside = excerpt ? excerptView(excerpt) : iconButton("edit", "Edit the question", () => this.actions.edit(index));
    this.#append(make("div", { class: "turn asked" }, article, beside));
  }

  /** A question's excerpt was cut. */
  updateExcerpt({ excerpt }: Message, index: number): void {
    const old = this.log.querySelectorAll(".turn")[index]?.querySelector("details.excerpt");
    if (excerpt) old?.replaceWith(excerptView(excerpt));
  }

  addAnswer(index: number, shading: boolean): AnswerView {
    const view = new AnswerView(index, shading, this.actions, () => this.follow());
    this.#append(view.element);
    return view;
  }

  /** Takes the newest turns away. */
  removeTurns(count: number): void {
    const turns = this.log.querySelectorAll(".turn");
    for (const turn of [...turns].slice(turns.length - count)) turn.remove();
    this.onEmpty(!this.log.querySelector(".turn"));
  }

  #append(element: HTMLElement): void {
    this.onEmpty(false);
    this.log.append(element);
    this.follow();
  }
}

/** What was read goes with the question, and can be looked at. */
function excerptView({ text, from, cutFrom }: Excerpt): HTMLElement {
  const length = cutFrom === undefined ? `${count(text.length)} characters` : `the first ${count(text.length)} of ${count(cutFrom)} characters: more does not fit`;
  return make("details", { class: "excerpt" }, make("summary", {}, make("span", { class: "excerpt-from" }, from), make("span", { class: "note" }, length)), make("p", { tabindex: "0", role: "group", "aria-label": "What was read" }, text));
}

/** An answer. What arrives within one frame is drawn at once; a long one is drawn less often. */
export class AnswerView {
  readonly element = make("div", { class: "turn" });
  readonly #article = make("article", { "data-from": "assistant", "data-source": "local", "aria-label": "Answer" });
  readonly #foot = make("div", { class: "foot" });
  readonly #markdown = new GrowingMarkdown(this.#article);
  #next: { text: string; tokens: readonly Token[] | undefined } | undefined;
  #frame = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #notBefore = 0;

  constructor(private readonly index: number, private readonly shading: boolean, private readonly actions: LogActions, private readonly follow: () => void) {
    this.element.append(this.#article, this.#foot);
  }

  begin(): void {
    this.#article.setAttribute("aria-busy", "true");
  }

  status(text: string): void {
    this.#foot.replaceChildren(make("span", { class: "note" }, text));
    this.follow();
  }

  source(source: "local" | "cloud"): void {
    this.#article.dataset["source"] = source;
  }

  update(text: string, tokens: readonly Token[] | undefined): void {
    this.#next = { text, tokens };
    if (this.#frame || this.#timer !== undefined) return;
    const wait = this.#notBefore - performance.now();
    if (wait > 0) this.#timer = setTimeout(() => ((this.#timer = undefined), this.#request()), wait);
    else this.#request();
  }

  #request(): void {
    this.#frame = requestAnimationFrame(() => this.#draw());
  }

  #draw(): void {
    cancelAnimationFrame(this.#frame);
    clearTimeout(this.#timer);
    this.#frame = 0;
    this.#timer = undefined;
    const next = this.#next;
    this.#next = undefined;
    if (!next) return;
    const start = performance.now();
    this.#markdown.update(next.text, this.shading ? next.tokens : undefined);
    this.follow();
    const end = performance.now();
    this.#notBefore = end + (end - start) * (SHARE - 1);
  }

  /** It is over: what is known of it stands below. */
  end(message: Message): void {
    if (!this.#next) this.#next = { text: message.text, tokens: message.tokens };
    else this.#next.tokens = message.tokens ?? this.#next.tokens;
    this.#draw();
    this.#markdown.end();
    this.#finish(message);
  }

  showWhole(message: Message): void {
    this.#markdown.update(message.text, this.shading ? message.tokens : undefined);
    this.#markdown.end();
    this.#finish(message);
  }

  #finish(message: Message): void {
    const cloud = message.source === "cloud";
    this.source(cloud ? "cloud" : "local");
    this.#article.setAttribute("aria-busy", "false");
    const notes = [make("span", { class: cloud ? "from cloud" : "from" }, cloud ? `From ${message.by}` : "On this device")];
    const note = message.note ?? (message.cut ? "cut off" : "");
    if (note) notes.push(make("span", { class: "note" }, note));
    const actions = [
      copyButton("Copy the answer", () => message.text),
      iconButton("retry", "Answer again", () => this.actions.retry(this.index)),
      ...(message.cut && message.text ? [iconButton("resume", "Go on", () => this.actions.resume(this.index))] : []),
    ];
    this.#foot.replaceChildren(...notes, make("span", { class: "actions" }, ...actions));
    this.follow();
  }
}
