// How fast it is: rates of the last answers, the answer under way, and what it runs on. Knows no page.

import type { Engine, Stats } from "kinglet";
import { make } from "./dom.js";
import { bytes, count, rate, seconds } from "./format.js";
import { plot } from "./plot.js";

/** So many answers are remembered. */
const ANSWERS = 40;
/** A point of the answer under way stands for so long. */
const STEP_MS = 250;

interface Sample extends Stats {
  firstMs: number;
}

export class Performance {
  #samples: Sample[] = [];
  /** Tokens each second, of the answer under way. */
  #live: number[] = [];
  #mark = { tokens: 0, ms: 0 };
  #engine: Engine | undefined;

  constructor(private readonly root: HTMLElement) {
    this.draw();
  }

  attach(engine: Engine | undefined): void {
    this.#engine = engine;
    this.draw();
  }

  begin(): void {
    this.#live = [];
    this.#mark = { tokens: 0, ms: 0 };
  }

  /** Tokens so far, and milliseconds since the first. */
  pace(tokens: number, ms: number): void {
    if (ms - this.#mark.ms < STEP_MS) return;
    this.#live.push(((tokens - this.#mark.tokens) * 1000) / (ms - this.#mark.ms));
    this.#mark = { tokens, ms };
    this.draw();
  }

  end(stats: Stats, firstMs: number): void {
    this.#samples = [...this.#samples.slice(1 - ANSWERS), { ...stats, firstMs }];
    this.draw();
  }

  /** Nothing is drawn where nobody looks. */
  draw(): void {
    if (this.root.closest("details:not([open])")) return;
    const last = this.#samples.at(-1);
    const info = this.#engine?.info;
    const memory = make("dd", {}, "…");
    void this.#engine?.memory().then(({ heap, weights, kvCache, scratch }) => {
      memory.textContent = info?.backend === "webgpu" ? `${bytes(heap)} of heap; GPU: ${bytes(weights + kvCache + scratch)}` : `${bytes(heap)} (weights ${bytes(weights)}, context ${bytes(kvCache)})`;
    }, () => (memory.textContent = "–"));
    const rows: [string, string | HTMLElement][] = [];
    if (last) {
      rows.push(
        ["Reading the prompt", `${rate(last.promptTokens - last.cachedTokens, last.prefillMs)} tokens/s`],
        ["Writing", `${rate(last.completionTokens - 1, last.decodeMs)} tokens/s`],
        ["First token after", seconds(last.firstMs)],
        ["Prompt", `${count(last.promptTokens)} tokens, ${count(last.cachedTokens)} of them remembered`],
      );
      if (last.backend === "webgpu") rows.push(["GPU dispatches per token", count(last.dispatchesPerToken)]);
    }
    if (info) rows.push(["Backend", info.backend === "webgpu" ? "GPU (WebGPU)" : `CPU, ${info.simd === "relaxed" ? "relaxed SIMD" : "SIMD"}`], ["Adapter", info.adapter ?? "none in use"], ["Threads", String(info.threads)], ["Memory", memory]);
    const list = make("dl", { class: "rows" }, ...rows.flatMap(([name, value]) => [make("dt", {}, name), value instanceof HTMLElement ? value : make("dd", {}, value)]));
    this.root.replaceChildren(list, ...this.#plots());
    if (!last) this.root.append(make("p", { class: "hint" }, "Figures come with the first answer that is given on this device."));
  }

  #plots(): Node[] {
    const plots: Node[] = [];
    const figure = (title: string, values: number[]) => {
      const low = Math.min(...values).toFixed(0);
      const high = Math.max(...values).toFixed(0);
      plots.push(make("figure", {}, make("figcaption", {}, `${title}: ${low} to ${high} tokens/s`), plot(values, `${title}, ${values.length} points, from ${low} to ${high} tokens a second`)));
    };
    if (this.#live.length > 1) figure("Writing, the newest answer", this.#live);
    if (this.#samples.length > 1) {
      figure("Writing, answer by answer", this.#samples.map(({ completionTokens, decodeMs }) => (decodeMs > 0 ? ((completionTokens - 1) * 1000) / decodeMs : 0)));
      figure("Reading, answer by answer", this.#samples.map(({ promptTokens, cachedTokens, prefillMs }) => ((promptTokens - cachedTokens) * 1000) / prefillMs));
    }
    return plots;
  }
}
