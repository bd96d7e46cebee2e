// Whether a worker has mail: where page and worker can share memory, both count what the page posts, and the worker sees at a glance that
// nothing waits. To look into the event loop instead is a good part of all that a token takes outside of the model.

import type { ToWorker } from "./protocol.js";

/** A worker looks into its event loop this often, in ms: for messages, where they are not counted. */
const UNCOUNTED_MS = 4;
/** Where they are: for whatever else comes in, the ports of streams and stores and the browser's own tasks. */
const COUNTED_MS = 50;

/** Whether this page or worker can share memory: only where it is cross-origin isolated, and not in every browser. */
export function sharesMemory(): boolean {
  return globalThis.crossOriginIsolated && typeof SharedArrayBuffer !== "undefined";
}

/** The page's end. */
export class Outbox {
  /** How many messages there were, for the worker's {@link Mail}. */
  readonly posted = sharesMemory() ? new Int32Array(new SharedArrayBuffer(4)) : undefined;

  constructor(private readonly worker: Worker) {}

  post(message: ToWorker, transfer: Transferable[] = []): void {
    this.worker.postMessage(message, transfer);
    if (this.posted) Atomics.add(this.posted, 0, 1);
  }
}

/** The worker's end. */
export class Mail {
  /** The {@link Outbox}'s. */
  posted: Int32Array | undefined;
  #received = 0;
  #looked = 0;

  /** To be called at each message. */
  received(): void {
    this.#received++;
  }

  /** Whether to look into the event loop now, which this counts as done: a message is on its way, or the last look is long ago. */
  due(): boolean {
    const now = performance.now();
    const onItsWay = this.posted && Atomics.load(this.posted, 0) !== this.#received;
    if (!onItsWay && now - this.#looked < (this.posted ? COUNTED_MS : UNCOUNTED_MS)) return false;
    this.#looked = now;
    return true;
  }
}
