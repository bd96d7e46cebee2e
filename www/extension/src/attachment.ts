// The page that was read and waits for a question: a box above the question, with what is known of it.

import { button, find, iconButton, make } from "../../src/dom.js";
import { count } from "../../src/format.js";
import { hideError, sentence, showError } from "../../src/alert.js";
import type { PageText } from "./page-text.js";
import { allow, isAllowed, originOf, readPage, Unreadable } from "./read-page.js";
import { sourceOf } from "./tasks.js";

/** So long does a click on the toolbar's button still mean the page that could not be read. */
const PATIENCE_MS = 120_000;
const SUMMARISE = "Summarise this page in at most five sentences.";

export interface Attached {
  page: PageText;
  from: string;
}

export class Attachment {
  #attached: Attached | undefined;
  #waitsUntil = 0;
  readonly #box = find("attached");
  readonly #read = find<HTMLButtonElement>("read-page");

  constructor(private readonly windowId: number, private readonly host: { ask(text: string): void; focus(): void; say(text: string): void }) {
    this.#read.addEventListener("click", () => void this.read());
    chrome.permissions.onAdded.addListener(() => this.granted());
  }

  /** What was read, once. */
  take(): Attached | undefined {
    const attached = this.#attached;
    this.#show(undefined);
    return attached;
  }

  /** A page may be read now that could not be before. */
  granted(): void {
    if (Date.now() < this.#waitsUntil) void this.read();
  }

  async read(tabId?: number): Promise<void> {
    this.#waitsUntil = 0;
    hideError();
    this.#read.disabled = true;
    try {
      const page = await readPage(this.windowId, tabId);
      this.#show({ page, from: sourceOf(page.title, page.url) });
      this.host.say(`Read: ${page.title}`);
      this.host.focus();
    } catch (error) {
      this.#failed(error, tabId);
    } finally {
      this.#read.disabled = false;
    }
  }

  #failed(error: unknown, tabId: number | undefined): void {
    if (!(error instanceof Unreadable)) return showError(sentence(error));
    if (error.waits) this.#waitsUntil = Date.now() + PATIENCE_MS;
    const { origin } = error;
    const advice = origin ? [{ label: `Always allow on ${new URL(origin.slice(0, -1)).host}`, act: () => void allow(origin).then((allowed) => (allowed ? this.read(tabId) : undefined)) }] : [];
    showError(error.message, ...advice);
  }

  #show(attached: Attached | undefined): void {
    this.#attached = attached;
    this.#box.hidden = !attached;
    this.#read.hidden = attached !== undefined;
    if (!attached) return this.#box.replaceChildren();
    const { page, from } = attached;
    const always = button("Always allow here", () => void allow(originOf(page.url)).then((allowed) => (always.hidden = allowed)), { class: "quiet small", title: "Read pages of this site without asking again; the options take it back" });
    always.hidden = true;
    void isAllowed(originOf(page.url)).then((allowed) => (always.hidden = allowed), () => {});
    this.#box.replaceChildren(
      make("p", {}, make("b", {}, from), make("span", { class: "hint" }, `${count(page.text.length)} characters${page.more ? ", and more that was left out" : ""}. Ask about it, or`)),
      iconButton("remove", "Do not send this page", () => (this.#show(undefined), this.host.focus())),
      make("div", { class: "choice" }, button("Summarise it", () => this.host.ask(SUMMARISE), { class: "small" }), always),
    );
  }
}
