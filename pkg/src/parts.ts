// The worker's ways to a model's parts: from a store, which is filled on the way, or straight from where they are.

import { Download } from "./download.js";
import { StoredPart, type CachedPart } from "./delivery.js";
import { KingletError, type ErrorCode } from "./errors.js";
import type { FileIdentity } from "./identity.js";
import type { Arriving } from "./load-progress.js";
import type { FromWorker, Part, StoreAccess } from "./protocol.js";
import { Sha256 } from "./sha256.js";
import { BlobReader, PortReader, type ChunkReader } from "./source.js";
import { Spool } from "./spool.js";
import { remoteMemory } from "./store/memory.js";
import { lockOf, openStore } from "./store/stores.js";
import type { Store } from "./store/store.js";

/** Of each later part of a split file: its header, usually. */
const FIRST_BYTES = 1 << 20;

export class Parts {
  /** Of a stream that may have to be read again. */
  spool: Spool | undefined;
  readonly stored: (StoredPart | undefined)[] = [];
  #parts: Part[] = [];
  #readers: ChunkReader[] = [];
  #identities: (FileIdentity | undefined)[] = [];
  #asked = false;
  #store: Promise<Store> | undefined;

  constructor(private readonly send: (message: FromWorker) => void, private readonly onArrival: () => void) {}

  /** From the first byte; `twice`: whether a stream may have to be read again. */
  open(parts: Part[], access: StoreAccess | undefined, twice = Promise.resolve(false)): ChunkReader[] {
    this.#parts = parts;
    const store = (this.#store ??= access && openStore(access.wanted, remoteMemory(access.memory)));
    store?.catch(() => {}); // told to whoever reads
    return (this.#readers = parts.map((part, i) => (part.cache && store ? later(this.#fromStore(part as CachedPart, i, store)) : this.#direct(part, i, twice))));
  }

  /** Where the model is kept, if it is. */
  get store(): Promise<Store> | undefined {
    return this.#parts.every((part) => part.cache) ? this.#store : undefined;
  }

  /** What has arrived of each part; of one that is kept, in its store. */
  arrivals(sources: Arriving[]): (Arriving & { local: boolean })[] {
    return sources.map((source, i) => {
      const { arrived, size } = this.stored[i] ?? source;
      return { arrived, size, local: this.isLocal(i) };
    });
  }

  /** It takes no network and no stream. */
  isLocal(i: number): boolean {
    const part = this.#parts[i];
    return this.stored[i]?.local ?? (part?.kind === "blob" || (part?.kind === "port" && part.size !== undefined));
  }

  /** Reads what the model had no use for, so that every part is complete. Resolves to the digest of the whole model, if known. */
  async settle(): Promise<string | undefined> {
    for (const [i, part] of this.stored.entries()) {
      while (part && !part.sha256 && (await this.#readers[i]!.next()));
    }
    const sha256 = await this.#whole();
    await this.close();
    return sha256;
  }

  /** Removes what is of no use to anybody. Whatever fails, it can wait for the next engine. */
  async sweep(): Promise<void> {
    const store = await this.#store?.catch(() => undefined);
    await store?.sweep?.(async (key, body) => {
      await navigator.locks.request(lockOf(store.kind, key), { ifAvailable: true }, (lock) => lock && body());
    }).catch(() => {});
  }

  /** Loading has failed. */
  async reject(code: ErrorCode | undefined): Promise<void> {
    await Promise.all(this.stored.map((part) => part?.reject(code)));
  }

  async close(): Promise<void> {
    await Promise.all(this.stored.map((part) => part?.close()));
  }

  async #whole(): Promise<string | undefined> {
    const [first, ...others] = this.stored.filter((part) => part !== undefined);
    if (this.#parts.length === 1) return first?.sha256 ?? this.#parts[0]!.sha256;
    if (others.length + 1 < this.#parts.length) return undefined;
    const known = await first!.whole();
    if (known) return known;
    const sha256 = await digestOf([first!, ...others]);
    await this.close();
    await first!.keepWhole(sha256);
    return sha256;
  }

  async #fromStore(part: CachedPart, i: number, opening: Promise<Store>): Promise<ChunkReader> {
    const store = await opening;
    const onLarge = () => {
      if (!this.#asked) this.send({ type: "persist" });
      this.#asked = true;
    };
    this.stored[i] ??= new StoredPart(part, {
      store, later: i > 0, onArrival: this.onArrival, onLarge,
      onEvent: (event) => this.send({ type: "event", event }),
      chunks: () => this.#direct(part, i),
      after: this.stored[i - 1]?.locked,
    });
    return this.stored[i].reader();
  }

  #direct(part: Part, i: number, twice = Promise.resolve(false)): ChunkReader {
    if (part.kind === "http") {
      const firstBytes = i > 0 ? FIRST_BYTES : undefined;
      const download = new Download(part.url, { headers: part.headers, firstBytes, identity: this.#identities[i], onEvent: (event) => this.send({ type: "event", event }) });
      this.#identities[i] = download.identity;
      return download;
    }
    const reader = openHeld(part);
    return part.kind === "port" && part.spool !== undefined ? (this.spool = new Spool(reader, part.spool, twice)) : reader;
  }
}

/** What the page holds or feeds. */
export function openHeld(part: Exclude<Part, { kind: "http" }>): ChunkReader {
  switch (part.kind) {
    case "blob":
      return new BlobReader(part.blob);
    case "port":
      return new PortReader(part.port, part.size);
    case "stored": {
      const name = part.cache?.name ?? "";
      throw new KingletError("BAD_REQUEST", `${name} is not stored here; models.import("${name}", file) stores it`, { option: "model" });
    }
  }
}

/** A reader that has to be opened first. */
export function later(opening: Promise<ChunkReader>): ChunkReader {
  let reader: ChunkReader | undefined;
  opening.catch(() => {}); // told to whoever reads
  return {
    get size() {
      return reader?.size;
    },
    async next() {
      return (reader ??= await opening).next();
    },
  };
}

async function digestOf(parts: StoredPart[]): Promise<string> {
  const hash = new Sha256();
  for (const part of parts) {
    const reader = part.reader();
    for (let chunk; (chunk = await reader.next()); ) hash.update(chunk);
  }
  return hash.digest();
}
