// One line of progress out of many: bytes that arrive, bytes that are loaded, the wasm that compiles alongside.

import type { Progress } from "./types.js";

const EVERY_MS = 50;

/** A download's rate is that of so many of its last milliseconds. */
const RATE_MS = 4000;

export interface Arriving {
  arrived: number;
  size: number | undefined;
}

export class LoadProgress {
  #downloaded = true;
  #last = -Infinity;
  /** When how many bytes had arrived. */
  #marks: { at: number; bytes: number }[] = [];

  constructor(private readonly send: (progress: Progress) => void) {}

  compiling(): void {
    this.send({ phase: "compile", loaded: 0, total: 1 });
  }

  compiled(): void {
    this.send({ phase: "compile", loaded: 1, total: 1 });
  }

  /** Bytes came over the network (or from a stream); what is in memory or on disk only "loads". */
  arrived(sources: (Arriving & { local: boolean })[]): void {
    if (sources.every(({ local }) => local)) return;
    const { loaded, total } = sum(sources);
    this.#downloaded = loaded === total;
    this.#report({ phase: "download", loaded, total, ...this.#rate(loaded, total) });
  }

  loaded(loaded: number, total: number): void {
    // While it still downloads, that is the news.
    if (this.#downloaded || loaded === total) this.#report({ phase: "load", loaded, total });
  }

  verified(sources: Arriving[]): void {
    const { loaded } = sum(sources);
    this.send({ phase: "verify", loaded, total: loaded });
  }

  #rate(loaded: number, total: number | undefined): Pick<Progress, "bytesPerSecond" | "secondsLeft"> {
    const now = performance.now();
    const marks = this.#marks;
    if (now - (marks[marks.length - 1]?.at ?? -Infinity) >= EVERY_MS) marks.push({ at: now, bytes: loaded });
    while (now - marks[0]!.at > RATE_MS && marks.length > 2) marks.shift();
    const { at, bytes } = marks[0]!;
    if (now === at) return {};
    const bytesPerSecond = Math.round((1000 * (loaded - bytes)) / (now - at));
    return { bytesPerSecond, secondsLeft: total === undefined || bytesPerSecond === 0 ? undefined : Math.ceil((total - loaded) / bytesPerSecond) };
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
