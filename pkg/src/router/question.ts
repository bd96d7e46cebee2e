// One question under way: what its asker sees of it.

import { KingletError } from "../errors.js";
import { ChunkStream } from "../stream.js";
import type { Answer, Ask, AskEvent, AskRequest } from "./types.js";

export class Question implements Ask {
  readonly answer: Promise<Answer>;
  readonly local = new AbortController();
  /** The connection of the current attempt. */
  connection: { attempt: number; controller: AbortController } | undefined;
  /** What the local model said when it failed. */
  localError: unknown;
  /** Why the server could not be reached, where that was found out. */
  advice: string | undefined;
  #stream: ChunkStream<AskEvent>;
  #settle!: { resolve(answer: Answer): void; reject(error: KingletError): void };
  #shown = "";

  /** `asker`: nobody, where no preview can be shown. `mayWait`: for the cloud, in the outbox. */
  constructor(readonly id: number, readonly request: AskRequest, readonly asker: "listens" | "nobody", readonly mayWait: boolean, readonly abort: () => void) {
    const controller = new AbortController();
    controller.signal.addEventListener("abort", abort, { once: true });
    this.#stream = new ChunkStream(controller);
    this.answer = new Promise((resolve, reject) => (this.#settle = { resolve, reject }));
    this.answer.catch(() => {}); // whoever iterates hears of it there
  }

  [Symbol.asyncIterator](): AsyncIterator<AskEvent> {
    return this.#stream[Symbol.asyncIterator]();
  }

  push(event: AskEvent): void {
    if (event.type === "token") this.#shown += event.text;
    if (event.type === "switch") this.#shown = this.#shown.slice(0, this.#shown.length - event.retract);
    this.#stream.push(event);
  }

  finish(answer: Answer): void {
    this.push({ type: "final", answer });
    this.#stream.end();
    this.#settle.resolve(answer);
  }

  fail(error: KingletError): void {
    error.text = this.#shown;
    this.#stream.fail(error);
    this.#settle.reject(error);
  }
}
