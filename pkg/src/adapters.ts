// LoRA adapters on the page's side: kept whole, for they are small, so that a fresh worker can be given them again.

import { Download } from "./download.js";
import { aborted, badRequest, KingletError } from "./errors.js";
import type { Host } from "./host.js";
import { resolveFile } from "./model.js";
import type { AdapterOptions, AdapterSource, ModelFile } from "./types.js";

interface Adapter {
  id: number;
  weights: Blob;
  /** The text of PEFT's adapter_config.json. */
  config?: string;
}

export class Adapters {
  readonly #kept = new Map<number, Adapter>();
  #nextId = 1;

  constructor(private readonly running: () => Promise<Host>) {}

  async load(source: AdapterSource, options: AdapterOptions): Promise<number> {
    const adapter = await read(this.#nextId++, source, options);
    if (options.signal?.aborted) throw aborted(options.signal);
    await give(await this.running(), adapter);
    this.#kept.set(adapter.id, adapter);
    return adapter.id;
  }

  async unload(id: number): Promise<void> {
    const known = [...this.#kept.keys()].join(", ") || "none";
    if (!this.#kept.has(id)) throw new KingletError("BAD_ADAPTER", `there is no adapter ${id}; loaded are ${known}`, { id });
    await (await this.running()).call({ method: "unloadAdapter", argument: id });
    this.#kept.delete(id);
  }

  /** Gives a fresh worker what the last one had. One that cannot be read again is missed by the requests that name it. */
  async restore(host: Host): Promise<void> {
    for (const adapter of this.#kept.values()) await give(host, adapter).catch(() => {});
  }
}

async function give(host: Host, { id, weights, config }: Adapter): Promise<void> {
  let bytes: ArrayBuffer;
  try {
    bytes = await weights.arrayBuffer();
  } catch (e) {
    throw new KingletError("DOWNLOAD_FAILED", `reading the adapter failed: ${e instanceof Error ? e.message : String(e)}`, {}, e);
  }
  await host.call({ method: "loadAdapter", argument: { id, weights: bytes, config } }, [bytes]);
}

async function read(id: number, source: AdapterSource, options: AdapterOptions): Promise<Adapter> {
  if (!isPeft(source)) return { id, weights: await whole(source, "adapter", options) };
  const [weights, config] = await Promise.all([whole(source.weights, "adapter.weights", options), text(source.config, options)]);
  return { id, weights, config };
}

type Peft = Extract<AdapterSource, { weights: ModelFile }>;

function isPeft(source: AdapterSource): source is Peft {
  return typeof source === "object" && source !== null && "weights" in source;
}

function isFile(source: Peft["config"]): source is ModelFile {
  return typeof source === "string" || source instanceof URL || source instanceof Blob || source instanceof ArrayBuffer || ArrayBuffer.isView(source);
}

async function text(config: Peft["config"], options: AdapterOptions): Promise<string> {
  if (isFile(config)) return (await whole(config, "adapter.config", options)).text();
  if (typeof config !== "object" || config === null) throw badRequest("adapter.config", "must be adapter_config.json: a file, its address, or the object in it");
  return JSON.stringify(config);
}

async function whole(file: ModelFile, option: string, { headers, signal }: AdapterOptions): Promise<Blob> {
  const resolved = resolveFile(file, option);
  if (resolved instanceof Blob) return resolved;
  if (resolved instanceof Uint8Array) return new Blob([resolved as Uint8Array<ArrayBuffer>]);
  const download = new Download(resolved.href, { headers, onEvent() {} });
  const chunks: Blob[] = [];
  for (;;) {
    if (signal?.aborted) throw aborted(signal);
    const chunk = await download.next();
    if (!chunk) return new Blob(chunks);
    // A chunk is good until the next one; a Blob is a copy.
    chunks.push(new Blob([chunk as Uint8Array<ArrayBuffer>]));
  }
}
