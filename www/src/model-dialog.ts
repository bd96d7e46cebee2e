// The dialog of models: what runs, what else could, what is stored, adapters.

import { models as library, type StoredModel } from "kinglet";
import { Adapters, isAdapter } from "./adapters.js";
import { sentence, showError } from "./alert.js";
import { showCatalogue } from "./catalogue.js";
import { chooser } from "./chooser.js";
import { gibibytes, thisDevice } from "./device.js";
import { find } from "./dom.js";
import { EMBEDDED, type Source } from "./models.js";
import { setUpDrop, typedSource } from "./picker.js";
import { deleteAll, importFiles, showStored } from "./stored.js";

const dialog = find<HTMLDialogElement>("models");

export interface ModelDialogHost {
  choose(source: Source): void;
  /** The dialog opens: the facts are drawn anew. */
  onOpen(): void;
  current(): Source | undefined;
  say(text: string): void;
  hub: string | undefined;
}

export class ModelDialog {
  readonly adapters: Adapters;
  #stored: StoredModel[] = [];

  constructor(private readonly host: ModelDialogHost) {
    this.adapters = new Adapters(find("adapters"), (text) => host.say(text), (error) => this.#failed(error));
    find("open-models").addEventListener("click", () => this.open());
    find("close-models").addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => event.target === dialog && outside(event) && dialog.close());
    find("use-embedded").addEventListener("click", () => this.#pick(EMBEDDED));
    find("by-url").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#pick(typedSource(find<HTMLInputElement>("url").value.trim()));
    });
    chooser("choose-file", "file", (files) => this.#pick({ kind: "file", files }));
    chooser("choose-adapter", "adapter-file", (files) => void this.#addAdapter(files));
    chooser("choose-import", "import-model", (files) => void this.#import(files));
    find("keep-file").addEventListener("click", () => void this.#keepFile());
    find("delete-models").addEventListener("click", () => {
      if (confirm(`Delete ${this.#stored.length === 1 ? "the stored model" : `all ${this.#stored.length} stored models`}?`)) void deleteAll(this.#stored, host.hub).then(() => this.refresh(), (error) => this.#failed(error));
    });
    setUpDrop((files) => void this.take(files));
  }

  /** Whatever was dropped: a model, its parts, or an adapter. */
  async take(files: File[]): Promise<void> {
    if (await isAdapter(files)) await this.#addAdapter(files);
    else this.#pick({ kind: "file", files });
  }

  open(): void {
    if (dialog.open) return;
    find("use-embedded").hidden = this.host.current()?.kind === "embedded";
    find("keep-file").hidden = this.host.current()?.kind !== "file";
    dialog.showModal();
    this.host.onOpen();
    dialog.scrollTop = 0;
    void this.refresh();
  }

  async refresh(): Promise<void> {
    try {
      const [stored, device] = await Promise.all([library.list(), thisDevice()]);
      this.#stored = stored;
      const memory = device.memoryBytes ? `${gibibytes(device.memoryBytes)} of memory or more` : "an unknown amount of memory";
      find("device").textContent = `This device: ${device.gpu ? `a GPU (${device.gpu.name})` : "no usable GPU"}, ${device.cores} cores, ${memory}, as far as the browser tells. Models come from the Hugging Face Hub and are then used without a network.`;
      showCatalogue(find("catalogue"), device, stored, { use: (url, force) => this.#pick({ kind: "url", url, force }) });
      await showStored(find("stored"), find("stored-summary"), stored, {
        use: (url) => this.#pick({ kind: "url", url }), changed: () => void this.refresh(), failed: (error) => this.#failed(error), busy: this.#busy, hub: this.host.hub,
      });
      find("delete-models").hidden = stored.length === 0;
    } catch (error) {
      this.#failed(error);
    }
  }

  #pick(source: Source): void {
    dialog.close();
    this.host.choose(source);
  }

  async #addAdapter(files: File[]): Promise<void> {
    try {
      await this.adapters.add(files);
    } catch (error) {
      this.#failed(error);
    }
  }

  async #import(files: File[]): Promise<string | undefined> {
    try {
      const name = await importFiles(files, { busy: this.#busy });
      await this.refresh();
      return name;
    } catch (error) {
      this.#failed(error);
      return undefined;
    }
  }

  async #keepFile(): Promise<void> {
    const source = this.host.current();
    if (source?.kind !== "file") return;
    const url = await this.#import(source.files);
    if (url) this.#pick({ kind: "url", url });
  }

  #busy = (text: string) => (find("stored-busy").textContent = text);

  /** An alert stands behind an open dialog. */
  #failed(error: unknown): void {
    dialog.close();
    showError(sentence(error));
  }
}

function outside(event: MouseEvent): boolean {
  const { left, right, top, bottom } = dialog.getBoundingClientRect();
  return event.clientX < left || event.clientX > right || event.clientY < top || event.clientY > bottom;
}
