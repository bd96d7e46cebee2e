// The panel beside the conversation: conversations, reading, router, performance, keyboard, offline.

import { sentence, showError } from "./alert.js";
import type { Chat } from "./chat.js";
import { chooser } from "./chooser.js";
import { fromJson, titleOf, toJson, toMarkdown } from "./conversation.js";
import { button, find, iconButton, make, saveFile } from "./dom.js";
import type { History } from "./history.js";
import { chooseTheme, chosenTheme, type Theme } from "./theme.js";

const SHADING = "kinglet-shading";
const panel = find("panel");
const opener = find<HTMLButtonElement>("open-panel");

export class SidePanel {
  readonly #shading = find<HTMLInputElement>("shading");

  /** @param onOpen a section was opened, or the panel: what it shows is drawn anew */
  constructor(private readonly chat: Chat, private readonly history: History, private readonly onOpen: () => void, private readonly onClosed: () => void) {
    opener.addEventListener("click", () => (this.open ? this.close() : this.show()));
    find("close-panel").addEventListener("click", () => this.close());
    for (const section of panel.querySelectorAll("details")) section.addEventListener("toggle", () => section.open && this.#refresh());
    this.#setUpReading();
    this.#setUpConversations();
  }

  get open(): boolean {
    return !panel.hidden;
  }

  get shading(): boolean {
    return this.#shading.checked;
  }

  show(): void {
    panel.hidden = false;
    opener.setAttribute("aria-expanded", "true");
    this.#refresh();
    find("close-panel").focus();
  }

  close(): void {
    if (!this.open) return;
    const inside = panel.contains(document.activeElement);
    panel.hidden = true;
    opener.setAttribute("aria-expanded", "false");
    if (inside) opener.focus();
    this.onClosed();
  }

  #refresh(): void {
    this.onOpen();
    void this.#listConversations();
  }

  #setUpReading(): void {
    const theme = find<HTMLSelectElement>("theme");
    theme.value = chosenTheme();
    theme.addEventListener("change", () => chooseTheme(theme.value as Theme));
    this.#shading.checked = readSetting(SHADING) === "on";
    this.#shading.addEventListener("change", () => {
      keepSetting(SHADING, this.#shading.checked ? "on" : "off");
      if (!this.chat.busy) this.chat.redraw();
    });
  }

  #setUpConversations(): void {
    const name = () => titleOf(this.chat.conversation).replace(/[^\p{L}\p{N} _-]+/gu, "").trim() || "conversation";
    find("export-markdown").addEventListener("click", () => saveFile(`${name()}.md`, new Blob([toMarkdown(this.chat.conversation)], { type: "text/markdown" })));
    find("export-json").addEventListener("click", () => saveFile(`${name()}.json`, new Blob([toJson(this.chat.conversation)], { type: "application/json" })));
    chooser("import-json", "import-file", ([file]) => {
      void file!.text().then((text) => {
        this.chat.open(fromJson(text));
        void this.#listConversations();
      }).catch((error) => showError(sentence(error, file!.name)));
    });
    find("delete-conversations").addEventListener("click", () => {
      if (!confirm("Delete all conversations, this one too?")) return;
      this.chat.open();
      void this.history.removeAll().then(() => this.#listConversations());
    });
  }

  async #listConversations(): Promise<void> {
    const list = find("conversations");
    const all = await this.history.list().catch(() => []);
    const current = this.chat.conversation.id;
    list.replaceChildren(...all.map((conversation) => {
      const title = titleOf(conversation);
      const date = new Date(conversation.changed).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
      const open = button(title, () => {
        void this.chat.reopen(conversation).then(() => this.#listConversations());
      }, { class: "quiet title-button", ...(conversation.id === current ? { "aria-current": "true" } : {}) });
      const remove = iconButton("remove", `Delete: ${title}`, () => {
        if (conversation.id === this.chat.conversation.id) this.chat.open();
        void this.history.remove(conversation.id).then(() => this.#listConversations());
      });
      return make("li", {}, make("div", { class: "entry-text" }, open, make("p", { class: "hint" }, date)), remove);
    }));
    const { messages } = this.chat.conversation;
    for (const id of ["export-markdown", "export-json"]) find<HTMLButtonElement>(id).disabled = messages.length === 0;
    find<HTMLButtonElement>("delete-conversations").hidden = all.length === 0;
  }
}

function readSetting(key: string): string | null {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

function keepSetting(key: string, value: string): void {
  try {
    localStorage.setItem(key, value);
  } catch {
    // Then for this visit.
  }
}
