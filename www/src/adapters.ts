// LoRA adapters of the loaded model: added, weighed, removed. Knows no page.

import type { AdapterSource, Engine } from "kinglet";
import { iconButton, make } from "./dom.js";

/** Of a file's beginning, where a GGUF file says what it is. */
const HEADER_BYTES = 64 * 1024;

/** What files are meant to be: a model (perhaps in parts), or an adapter. */
export async function isAdapter(files: readonly File[]): Promise<boolean> {
  if (files.some(({ name }) => /\.(safetensors|json)$/i.test(name))) return true;
  if (files.length !== 1) return false;
  // general.type (a string, type 8) of seven letters: "adapter".
  const header = new TextDecoder("latin1").decode(await files[0]!.slice(0, HEADER_BYTES).arrayBuffer());
  return header.startsWith("GGUF") && header.includes("general.type\x08\0\0\0\x07\0\0\0\0\0\0\0adapter");
}

/** Throws where PEFT's two files are not both there. */
function sourceOf(files: readonly File[]): AdapterSource {
  const weights = files.find(({ name }) => /\.safetensors$/i.test(name));
  const config = files.find(({ name }) => /\.json$/i.test(name));
  if (weights && config) return { weights, config };
  if (weights) throw new Error(`${weights.name} needs its adapter_config.json: choose both files together`);
  if (config) throw new Error(`${config.name} needs its adapter_model.safetensors: choose both files together`);
  return files[0]!;
}

interface Loaded {
  id: number;
  name: string;
  scale: number;
}

export class Adapters {
  #engine: Engine | undefined;
  #loaded: Loaded[] = [];

  constructor(private readonly list: HTMLElement, private readonly onChange: (text: string) => void, private readonly onError: (error: unknown) => void) {}

  /** Another model: adapters of the one before are gone with it. */
  attach(engine: Engine | undefined): void {
    this.#engine = engine;
    this.#loaded = [];
    this.#draw();
  }

  get names(): string[] {
    return this.#loaded.map(({ name }) => name);
  }

  /** As a request names them. */
  request(): { id: number; scale: number }[] {
    return this.#loaded.map(({ id, scale }) => ({ id, scale }));
  }

  async add(files: readonly File[]): Promise<void> {
    const engine = this.#engine;
    if (!engine) throw new Error("an adapter belongs to a model: wait until that is loaded");
    const name = (files.find((file) => !/\.json$/i.test(file.name)) ?? files[0])!.name;
    const id = await engine.loadAdapter(sourceOf(files));
    if (engine !== this.#engine) return;
    this.#loaded.push({ id, name, scale: 1 });
    this.#draw();
    this.onChange(`The adapter ${name} takes part.`);
  }

  async #remove(adapter: Loaded): Promise<void> {
    await this.#engine?.unloadAdapter(adapter.id);
    this.#loaded = this.#loaded.filter((other) => other !== adapter);
    this.#draw();
    this.onChange(`The adapter ${adapter.name} was removed.`);
  }

  #draw(): void {
    this.list.replaceChildren(...this.#loaded.map((adapter) => {
      const slider = make("input", { type: "range", min: "0", max: "2", step: "0.05", value: String(adapter.scale), "aria-label": `Scale of ${adapter.name}` });
      const output = make("output", {}, adapter.scale.toFixed(2));
      slider.addEventListener("input", () => {
        adapter.scale = Number(slider.value);
        output.textContent = adapter.scale.toFixed(2);
      });
      const remove = iconButton("remove", `Remove: ${adapter.name}`, () => void this.#remove(adapter).catch(this.onError));
      return make("li", {}, make("div", { class: "entry-text" }, make("p", { class: "entry-title" }, make("b", {}, adapter.name))), make("div", { class: "entry-actions" }, slider, output, remove));
    }));
  }
}
