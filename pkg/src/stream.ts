// A stream of chunks between whoever makes them and one `for await`.

import type { Stream } from "./types.js";

export class ChunkStream<Chunk> implements Stream<Chunk> {
  readonly controller: AbortController;
  #chunks: Chunk[] = [];
  #wake: (() => void) | undefined;
  #ended = false;
  #error: unknown;
  #reading = false;

  constructor(controller: AbortController) {
    this.controller = controller;
  }

  push(chunk: Chunk): void {
    this.#chunks.push(chunk);
    this.#wake?.();
  }

  end(): void {
    this.#ended = true;
    this.#wake?.();
  }

  fail(error: unknown): void {
    this.#error = error;
    this.end();
  }

  async *[Symbol.asyncIterator](): AsyncIterator<Chunk> {
    if (this.#reading) throw new TypeError("a stream can be read once only");
    this.#reading = true;
    try {
      for (;;) {
        for (let chunk; (chunk = this.#chunks.shift()) !== undefined; ) yield chunk;
        if (this.#error !== undefined) throw this.#error;
        if (this.#ended) return;
        await new Promise<void>((resolve) => (this.#wake = resolve));
        this.#wake = undefined;
      }
    } finally {
      // Left early: nobody will read the rest.
      if (!this.#ended) this.controller.abort();
    }
  }
}
