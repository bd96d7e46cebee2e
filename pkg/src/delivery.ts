// One file of a model on its way into a store and out of it. Who reads follows the bytes as they arrive; what is stored
// counts as a model only after all of it was read back and hashed.

import { breathe } from "./breathe.js";
import { Changed, Download } from "./download.js";
import { KingletError, type ErrorCode } from "./errors.js";
import { Filling, type Surroundings } from "./filling.js";
import { hubDigest } from "./hub.js";
import { isTold } from "./identity.js";
import type { CacheTarget, Part } from "./protocol.js";
import { Sha256 } from "./sha256.js";
import type { ChunkReader } from "./source.js";
import type { FileRecord, Store, StoredFile } from "./store/store.js";
import { keyOf, lockOf } from "./store/stores.js";

const READ_BYTES = 4 << 20;
const BREATHE_MS = 16;
/** How often one looks how far another tab's download is. */
const POLL_MS = 300;
/** Of a model that turns out not to fit; so much is downloaded again without regret. */
const TRIFLE_BYTES = 64 << 20;

export interface PartContext extends Omit<Surroundings, "store"> {
  store: Store;
  /** Of a part that the page holds. */
  chunks(): ChunkReader;
  /** Locks are taken in order: two tabs with a part each would wait for one another. */
  after: Promise<void> | undefined;
}

export type CachedPart = Part & { cache: CacheTarget };

export class StoredPart {
  /** Of the whole file, once it is complete. */
  sha256: string | undefined;
  /** All of it was here before. */
  local = false;
  #record: FileRecord | undefined;
  #file: StoredFile | undefined;
  #filling: Filling | undefined;
  #release: (() => void) | undefined;
  #opening: Promise<void> | undefined;
  #revalidated = false;
  #digest: Promise<string | undefined> | undefined;
  /** Resolves when it has its lock, or will have none. */
  readonly locked: Promise<void>;
  #settleLock!: () => void;
  readonly #key: string;

  constructor(private readonly part: CachedPart, private readonly context: PartContext) {
    this.#key = keyOf(part.cache.name);
    this.locked = new Promise((resolve) => (this.#settleLock = resolve));
  }

  get size(): number | undefined {
    return this.#record?.size;
  }

  /** Bytes in the store, by whichever tab. */
  get arrived(): number {
    return this.#filling?.ranges.bytes ?? (this.#record?.done ?? []).reduce((sum, [start, end]) => sum + end - start, 0);
  }

  /** From the first byte on. Reading all of it is what makes the file complete. */
  reader(): ChunkReader {
    const [hash, part] = [new Sha256(), this];
    let [position, breathed] = [0, performance.now()];
    return {
      get size() {
        return part.size;
      },
      async next() {
        // A store may be so fast that nothing else gets its turn.
        if (performance.now() - breathed > BREATHE_MS) {
          await breathe();
          breathed = performance.now();
        }
        const chunk = await part.#read(position);
        if (!part.#record!.complete) {
          if (chunk) hash.update(chunk);
          else await part.#complete(hash.digest());
        }
        position += chunk?.length ?? 0;
        return chunk;
      },
    };
  }

  /** Loading failed for this reason. What is no model shall not be found again, unless its digest says that this is the file. */
  async reject(code: ErrorCode | undefined): Promise<void> {
    const broken = ["NOT_A_MODEL", "CORRUPT_FILE", "BAD_TOKENIZER"].includes(code ?? "") && !this.#record?.verified;
    const unwanted = ["OUT_OF_MEMORY", "UNSUPPORTED_ARCHITECTURE", "UNSUPPORTED_TYPE"].includes(code ?? "");
    const little = !this.#record?.complete && this.arrived < (unwanted ? TRIFLE_BYTES : 1);
    if (broken || little) await this.#discard();
    else await this.close();
  }

  /** The digest of the model that begins with this file, if it was kept. */
  async whole(): Promise<string | undefined> {
    return (await this.context.store.record(this.#key))?.whole;
  }

  /** If nobody else is reading just now; it can be computed again. */
  async keepWhole(whole: string): Promise<void> {
    const { store } = this.context;
    await (navigator as { locks?: LockManager }).locks?.request(lockOf(store.kind, this.#key), { ifAvailable: true }, async (lock) => {
      const record = await store.record(this.#key);
      if (!lock || !record?.complete || record.whole === whole) return;
      const file = await store.open(this.#key, "write", record);
      await file.save({ ...record, whole });
      await file.close();
    });
  }

  async close(): Promise<void> {
    this.#filling?.stop();
    this.#opening = undefined;
    await this.#file?.close();
    this.#file = undefined;
    this.#filling = undefined;
    this.#release?.();
    this.#release = undefined;
  }

  async #read(at: number): Promise<Uint8Array | null> {
    await (this.#opening ??= this.#open().finally(this.#settleLock));
    const filling = this.#filling;
    filling?.readAt(at);
    for (;;) {
      const end = filling ? filling.ranges.endFrom(at) : this.size!;
      if (end > at) return this.#file!.read(at, Math.min(READ_BYTES, end - at));
      if (at === this.size) return null;
      if (filling?.failure) {
        if (filling.failure instanceof Changed) await this.#discard();
        throw filling.failure;
      }
      await filling!.more();
    }
  }

  async #open(): Promise<void> {
    const { store, after } = this.context;
    await after;
    for (;;) {
      const usable = await this.#usable(await store.record(this.#key));
      const release = await this.#lock(usable ? "shared" : "exclusive");
      // Meanwhile another tab may have completed it, or thrown it away.
      const record = await store.record(this.#key);
      if ((await this.#usable(record)) === usable) {
        this.#release = release;
        this.#settleLock();
        return usable ? this.#openComplete(record!) : this.#fill(record);
      }
      release();
    }
  }

  async #openComplete(record: FileRecord): Promise<void> {
    this.local = this.sha256 === undefined;
    this.#record = record;
    this.sha256 = record.sha256;
    this.#file = await this.context.store.open(this.#key, "read", record);
  }

  async #fill(found: FileRecord | undefined): Promise<void> {
    const { part } = this;
    const { name, hub } = part.cache;
    this.#digest ??= part.sha256 || !hub || part.kind !== "http" ? Promise.resolve(part.sha256) : hubDigest(hub, part.headers);
    // Without a sign of what file it was, the bytes of then and those of now could be of two.
    const careful = part.sha256 === undefined;
    const resumable = found?.identity && (isTold(found.identity) || (!careful && !found.identity.encoded));
    let kept = part.kind === "http" && resumable && !found.complete ? found : undefined;
    for (;;) {
      const now = Date.now();
      this.#record = kept ?? { version: 1, name, identity: null, done: [], complete: false, created: now, changed: now };
      this.#file = await this.context.store.open(this.#key, "write", kept);
      this.#filling = new Filling(this.#file, this.#record, { ...this.context, store: this.context.store.kind });
      if (part.kind === "http") this.#filling.fetch(part, careful);
      else this.#filling.copy(this.context.chunks());
      try {
        return await this.#filling.ready;
      } catch (e) {
        if (!(e instanceof Changed && kept)) throw e;
        this.context.onEvent({ type: "download-restarted", url: part.kind === "http" ? part.url : name, reason: e.message });
        await this.#file.close();
        kept = undefined;
      }
    }
  }

  /** The last reader has seen all of it. */
  async #complete(sha256: string): Promise<void> {
    const expected = await this.#digest;
    if (expected !== undefined && expected !== sha256) {
      await this.#discard();
      throw new KingletError("INTEGRITY", `${this.part.cache.name} has the SHA-256 ${sha256} instead of ${expected}; it was not kept, load it again`, { expected, found: sha256 });
    }
    Object.assign(this.#record!, { complete: true, sha256, verified: expected !== undefined });
    await this.#filling!.save();
    this.sha256 = sha256;
    await this.close();
  }

  async #usable(record: FileRecord | undefined): Promise<boolean> {
    if (!record?.complete) return false;
    const wanted = this.sha256 ?? this.part.sha256;
    if (wanted !== undefined && wanted !== record.sha256) return false;
    if (this.sha256 !== undefined) return true; // this very engine has just completed it
    return !this.part.cache.replace && !(await this.#outdated(record));
  }

  /** Asked for once, if at all. A server that cannot be reached has no say. */
  async #outdated({ identity }: FileRecord): Promise<boolean> {
    const { part } = this;
    if (part.kind !== "http" || !part.cache.revalidate || !identity || this.#revalidated) return false;
    const ask = new Download(part.url, { headers: part.headers, pieceBytes: 1, identity: { ...identity }, stored: true, onEvent: () => {} });
    try {
      this.#revalidated = true;
      await ask.open();
    } catch (e) {
      this.#revalidated = !(e instanceof Changed);
      if (e instanceof Changed) return true;
    } finally {
      ask.close();
    }
    return false;
  }

  async #discard(): Promise<void> {
    const release = this.#release;
    this.#release = undefined;
    await this.close();
    await this.context.store.remove(this.#key).catch(() => {});
    release?.();
  }

  /** Resolves to what gives it back. Without locks there is only the memory of one page. */
  #lock(mode: LockMode): Promise<() => void> {
    const { locks } = navigator as { locks?: LockManager };
    const { store, onArrival } = this.context;
    if (!locks) return Promise.resolve(() => {});
    const poll = setInterval(async () => {
      this.#record = (await store.record(this.#key).catch(() => undefined)) ?? this.#record;
      onArrival();
    }, POLL_MS);
    return new Promise<() => void>((resolve, reject) => {
      locks.request(lockOf(store.kind, this.#key), { mode }, () => new Promise<void>((release) => resolve(release))).catch(reject);
    }).finally(() => clearInterval(poll));
  }
}
