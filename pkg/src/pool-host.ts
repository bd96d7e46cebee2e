// The page's end of the pool: a worker for each thread but the engine's own. The page starts them rather than the engine's
// worker, so that it can end them whatever that is doing.

import type { PoolStart } from "./protocol.js";

/** A worker that has not come up by then will not. */
const START_MS = 10_000;
/** Words of `Shared` in src/backend/cpu/pool.rs. */
const JOB = 0;
const ENDED = 1;

export class PoolHost {
  /** All come up, or none is left. */
  readonly started: Promise<void>;
  #workers: Worker[] = [];
  #timers: ReturnType<typeof setTimeout>[] = [];

  /** `beside`: the engine's script, where it is known. */
  constructor(private readonly start: PoolStart, private readonly beside?: URL) {
    this.started = Promise.all(Array.from({ length: start.threads - 1 }, (_, i) => this.#begin(i + 1))).then(
      () => this.#clearTimers(),
      (e) => {
        this.close();
        throw e;
      },
    );
    this.started.catch(() => {}); // told to whoever waits for it
  }

  close(): void {
    const { memory, shared } = this.start;
    const words = new Int32Array(memory.buffer, shared);
    // A thread that sleeps in the wasm hears nothing else, and a browser may need seconds to end it by force.
    Atomics.store(words, ENDED, 1);
    Atomics.notify(words, JOB);
    for (const worker of this.#workers) worker.terminate();
    this.#clearTimers();
  }

  #begin(thread: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const worker = this.#worker();
      this.#workers.push(worker);
      worker.onmessage = ({ data }: MessageEvent<string>) => (data === "ready" ? resolve() : reject(new Error(data)));
      worker.onerror = (e) => {
        e.preventDefault();
        reject(new Error(e.message || "pool.js could not be loaded; serve it beside worker.js, with the same headers"));
      };
      this.#timers.push(setTimeout(() => reject(new Error(`a thread did not start within ${START_MS / 1000} s`)), START_MS));
      worker.postMessage({ ...this.start, thread });
    });
  }

  #worker(): Worker {
    if (this.beside) return new Worker(new URL("pool.js", this.beside), { type: "module", name: "kinglet-pool" });
    // In one piece, for bundlers.
    return new Worker(new URL("./pool.js", import.meta.url), { type: "module", name: "kinglet-pool" });
  }

  #clearTimers(): void {
    for (const timer of this.#timers) clearTimeout(timer);
  }
}
