// Brings a draft model beside the engine's. The answers do not need it: where the device or the network has no room for it, they
// come without.

import { errorData, KingletError, type ErrorCode } from "./errors.js";
import { LoadProgress } from "./load-progress.js";
import { Parts } from "./parts.js";
import type { FromWorker, ModelParts } from "./protocol.js";
import { ForwardSource } from "./source.js";

const NOT_ITS_FAULT = new Set<ErrorCode>(["OUT_OF_MEMORY", "DOWNLOAD_FAILED", "STORAGE_FULL"]);

export interface Beside {
  /** Of the engine with the model. */
  load(sources: object[], progress: (done: number, total: number) => void): Promise<void>;
  memory(): WebAssembly.Memory;
  send(message: FromWorker): void;
  /** In the middle of an answer: nobody waits for a download, and nothing that is wrong with it is told but by an event. */
  late?: boolean;
}

/** Throws what is wrong with the model itself, such as that its vocabulary is another one. */
export async function loadDraft({ parts, store }: ModelParts, { load, memory, send, late = false }: Beside): Promise<void> {
  const progress = new LoadProgress((progress) => send({ type: "progress", progress: { ...progress, draft: true } }));
  const arrived = () => progress.arrived(opened.arrivals(sources));
  const opened = new Parts(send, arrived);
  let sources: ForwardSource[] = [];
  try {
    sources = opened.open(parts, store).map((reader) => new ForwardSource(reader, undefined, memory, arrived));
    await Promise.all(sources.map((source) => source.open()));
    if (late && !parts.every((_, i) => opened.isLocal(i))) throw new KingletError("DOWNLOAD_FAILED", "it would have to be downloaded first; the next engine does");
    await load(sources, (done, total) => progress.loaded(done, total));
    await opened.settle();
  } catch (e) {
    const error = errorData(sources.find((source) => source.failure)?.failure ?? e);
    await opened.reject(error?.code);
    if (!error) throw e;
    if (!late && !NOT_ITS_FAULT.has(error.code)) throw KingletError.from(error);
    send({ type: "event", event: { type: "draft-unavailable", reason: error.message } });
  }
}
