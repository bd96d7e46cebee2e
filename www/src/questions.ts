// The question: the page's one textarea, and what Enter, Escape and the arrow do in it.

import { find } from "./dom.js";

export interface QuestionsHost {
  ask(text: string): void;
  edit(index: number, text: string): void;
  stop(): void;
  /** Its place in the conversation, or -1. */
  lastQuestion(): number;
  textOf(index: number): string;
}

const form = find<HTMLFormElement>("ask");
const box = find<HTMLTextAreaElement>("question");
const send = find("send");
const stop = find("stop");
const editing = find("editing");

export class Questions {
  #busy = false;
  /** The place of the question that is being edited. */
  #editing: number | undefined;

  constructor(private readonly host: QuestionsHost) {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    box.addEventListener("keydown", (event) => {
      if (event.key === "ArrowUp" && box.value === "" && this.#editing === undefined) {
        const last = host.lastQuestion();
        if (last < 0) return;
        event.preventDefault();
        this.edit(last, host.textOf(last));
      }
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      form.requestSubmit();
    });
    stop.addEventListener("click", () => host.stop());
    find("cancel-edit").addEventListener("click", () => this.cancelEdit());
  }

  focus(): void {
    box.focus();
  }

  busy(on: boolean): void {
    this.#busy = on;
    send.hidden = on;
    stop.hidden = !on;
  }

  edit(index: number, text: string): void {
    this.#editing = index;
    editing.hidden = false;
    box.value = text;
    box.focus();
  }

  /** Whether there was something to cancel. */
  cancelEdit(): boolean {
    if (this.#editing === undefined) return false;
    this.#editing = undefined;
    editing.hidden = true;
    box.value = "";
    return true;
  }

  /** What could not be asked. */
  giveBack(text: string): void {
    box.value ||= text;
  }

  #submit(): void {
    const text = box.value.trim();
    const index = this.#editing;
    if (!text || (this.#busy && index === undefined)) return;
    this.cancelEdit();
    box.value = "";
    if (index === undefined) this.host.ask(text);
    else this.host.edit(index, text);
  }
}
