// The worker's part of `inspect`: reads the header and nothing beyond it, by ranges where the file comes over HTTP.

import { loadWasm } from "./device.js";
import { Download } from "./download.js";
import { errorData, KingletError } from "./errors.js";
import { bindingLimit } from "./gpu.js";
import type { ModelReport } from "./inspect.js";
import type { Part, ToWorker } from "./protocol.js";
import { later, openHeld } from "./parts.js";
import { BlobReader, ForwardSource, type ChunkReader } from "./source.js";
import { remoteMemory } from "./store/memory.js";
import { keyOf, openStore } from "./store/stores.js";
import type { Store } from "./store/store.js";

/** As the wasm reads a header (src/formats/reader.rs). */
const PIECE_BYTES = 512 << 10;

export async function readHeader({ parts, store: access, wasm: urls, question }: Extract<ToWorker, { type: "inspect" }>): Promise<ModelReport> {
  const [wasm, limit, store] = await Promise.all([loadWasm(urls), bindingLimit(), access && openStore(access.wanted, remoteMemory(access.memory))]);
  const sources = parts.map((part) => new ForwardSource(later(open(part, store)), undefined, () => wasm.memory, () => {}));
  try {
    await Promise.all(sources.map((source) => source.open()));
    const report = await wasm.inspect(sources, JSON.stringify({ ...question, bindingLimit: limit }));
    return JSON.parse(report) as ModelReport;
  } catch (e) {
    const error = errorData(sources.find((source) => source.failure)?.failure ?? e);
    throw error ? KingletError.from(error) : e;
  }
}

/** What is stored needs no network; nothing is stored for this. */
async function open(part: Part, store: Store | undefined): Promise<ChunkReader> {
  const stored = part.cache && (await store?.record(keyOf(part.cache.name)));
  if (stored?.complete) return new BlobReader(await store!.blob(keyOf(stored.name), stored));
  if (part.kind === "http") return new Download(part.url, { headers: part.headers, pieceBytes: PIECE_BYTES, onEvent: () => {} });
  return openHeld(part);
}
