// One line of progress out of many: bytes that arrive, bytes that are loaded, the wasm that compiles alongside.

import type { Part } from "./protocol.js";
import type { Progress } from "./types.js";

const EVERY_MS = 50;

interface Arriving {
  arrived: number;
  size: number | undefined;
}

export class LoadProgress {
  #local: boolean;
  #downloaded: boolean;
  #last = -Infinity;

  constructor(private readonly send: (progress: Progress) => void, parts: Part[]) {
    this.#local = this.#downloaded = parts.every((part) => part.kind !== "http" && !(part.kind === "port" && part.size === undefined));
  }

  compiling(): void {
    this.send({ phase: "compile", loaded: 0, total: 1 });
  }

  compiled(): void {
    this.send({ phase: "compile", loaded: 1, total: 1 });
  }

  /** Bytes came over the network (or from a stream); what is in memory or on disk only "loads". */
  arrived(sources: Arriving[]): void {
    if (this.#local) return;
    const { loaded, total } = sum(sources);
    this.#downloaded = loaded === total;
    this.#report({ phase: "download", loaded, total });
  }

  loaded(loaded: number, total: number): void {
    // While it still downloads, that is the news.
    if (this.#downloaded || loaded === total) this.#report({ phase: "load", loaded, total });
  }

  verified(sources: Arriving[]): void {
    const { loaded } = sum(sources);
    this.send({ phase: "verify", loaded, total: loaded });
  }

  #report(progress: Progress): void {
    const now = performance.now();
    if (progress.loaded !== progress.total && now - this.#last < EVERY_MS) return;
    this.#last = now;
    this.send(progress);
  }
}

function sum(sources: Arriving[]): { loaded: number; total: number | undefined } {
  const loaded = sources.reduce((bytes, { arrived }) => bytes + arrived, 0);
  const known = sources.every(({ size }) => size !== undefined);
  return { loaded, total: known ? sources.reduce((bytes, { size }) => bytes + size!, 0) : undefined };
}
