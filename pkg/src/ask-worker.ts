// One question to a worker of its own, which ends with the answer.

import { aborted, KingletError } from "./errors.js";
import { NO_SCRIPT, persist, startWorker } from "./host.js";
import type { Answer, FromWorker, ToWorker } from "./protocol.js";
import type { EngineOptions } from "./types.js";

/** `what` it does, for the message of a crash. */
export function askWorker(question: ToWorker, transfer: Transferable[], what: string, options: Pick<EngineOptions, "worker" | "signal" | "onProgress" | "onEvent">): Promise<Answer> {
  const { signal, onProgress, onEvent } = options;
  return new Promise((resolve, reject) => {
    if (signal?.aborted) throw aborted(signal);
    const worker = startWorker(options.worker);
    const end = () => {
      worker.terminate();
      signal?.removeEventListener("abort", abort);
    };
    const fail = (error: KingletError) => {
      end();
      reject(error);
    };
    const abort = () => fail(aborted(signal));
    const crash = (why: string) => fail(new KingletError("ENGINE_CRASHED", `the worker that ${what} the model crashed: ${why}`));
    signal?.addEventListener("abort", abort, { once: true });
    worker.onmessage = ({ data }: MessageEvent<FromWorker | Answer>) => {
      switch (data.type) {
        case "inspected":
        case "stored":
          end();
          return resolve(data);
        case "progress":
          return onProgress?.(data.progress);
        case "event":
          return onEvent?.(data.event);
        case "persist":
          return persist();
        case "failed":
          return fail(KingletError.from(data.error));
        case "crashed":
          return crash(data.message);
      }
    };
    worker.onmessageerror = () => crash("a message could not be read");
    worker.onerror = (e) => {
      e.preventDefault();
      crash(e.message || NO_SCRIPT);
    };
    worker.postMessage(question, transfer);
  });
}
