// The worker's part of `inspect`: reads the header and nothing beyond it, by ranges where the file comes over HTTP.

import { loadWasm } from "./device.js";
import { Download } from "./download.js";
import { errorData, KingletError } from "./errors.js";
import { bindingLimit } from "./gpu.js";
import type { ModelReport } from "./inspect.js";
import type { Part, ToWorker } from "./protocol.js";
import { BlobReader, ForwardSource, PortReader, type ChunkReader } from "./source.js";

/** As the wasm reads a header (src/formats/reader.rs). */
const PIECE_BYTES = 512 << 10;

export async function readHeader({ parts, wasm: urls, question }: Extract<ToWorker, { type: "inspect" }>): Promise<ModelReport> {
  const [wasm, limit] = await Promise.all([loadWasm(urls), bindingLimit()]);
  const sources = parts.map((part) => new ForwardSource(open(part), undefined, () => wasm.memory, () => {}));
  try {
    await Promise.all(sources.map((source) => source.open()));
    const report = await wasm.inspect(sources, JSON.stringify({ ...question, bindingLimit: limit }));
    return JSON.parse(report) as ModelReport;
  } catch (e) {
    const error = errorData(sources.find((source) => source.failure)?.failure ?? e);
    throw error ? KingletError.from(error) : e;
  }
}

function open(part: Part): ChunkReader {
  switch (part.kind) {
    case "http":
      return new Download(part.url, { headers: part.headers, pieceBytes: PIECE_BYTES, onEvent: () => {} });
    case "blob":
      return new BlobReader(part.blob);
    case "port":
      return new PortReader(part.port, part.size);
  }
}
