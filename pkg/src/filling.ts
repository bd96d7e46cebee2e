// Fills a stored file with what is missing, from its server or from the page, a little ahead of whoever reads it.

import { Changed } from "./download.js";
import type { FileIdentity } from "./identity.js";
import { Lanes, type Sink } from "./lanes.js";
import type { Part } from "./protocol.js";
import { Ranges } from "./ranges.js";
import { Signal } from "./signal.js";
import type { ChunkReader } from "./source.js";
import { checkQuota, storageError, storageFull } from "./store/quota.js";
import type { FileRecord, StoredFile, StoreKind } from "./store/store.js";
import type { EngineEvent } from "./types.js";

/** A download may be so far ahead of who reads. */
const WINDOW_BYTES = 32 << 20;
/** Of a later part of a split file, while only its header is read. */
const FIRST_BYTES = 1 << 20;
/** A record is saved so often, and less often as a download drags on. */
const SAVE_MS = { least: 250, most: 2000, share: 0.05 };
/** Less is no reason to ask for persistent storage. */
const LARGE_BYTES = 64 << 20;

/** What a part needs of the worker. */
export interface Surroundings {
  store: StoreKind;
  /** It is not the first part of its model. */
  later: boolean;
  onEvent(event: EngineEvent): void;
  onArrival(): void;
  /** A large file is about to be stored. */
  onLarge(): void;
}

export class Filling implements Sink {
  readonly ranges: Ranges;
  /** Why it ended, if there is a gap left. */
  failure: unknown;
  /** Resolves once what is there is known to belong to the server's file; rejects with why nothing came. */
  readonly ready: Promise<void>;
  /** Where it is read. */
  #position = 0;
  #lanes: Lanes | undefined;
  #settle!: { resolve(): void; reject(e: unknown): void };
  #stopped = false;
  #hurried = 0;
  readonly #changed = new Signal();
  readonly #began = performance.now();
  #saved = performance.now();

  constructor(private readonly file: StoredFile, private readonly record: FileRecord, private readonly around: Surroundings) {
    this.ranges = new Ranges(file.done);
    this.ready = new Promise((resolve, reject) => (this.#settle = { resolve, reject }));
    this.ready.catch(() => {}); // told to who waits for it
  }

  get size(): number | undefined {
    return this.record.size;
  }

  /** From its server; `careful` as for a download. */
  fetch({ url, headers }: Extract<Part, { kind: "http" }>, careful: boolean): void {
    const { later, onEvent } = this.around;
    const firstBytes = later ? FIRST_BYTES : undefined;
    this.#lanes = new Lanes(url, { headers, firstBytes, identity: this.record.identity ?? undefined, stored: true, careful, onEvent }, this);
    void this.#run(async () => {
      await this.#lanes!.run();
      if (!this.#stopped) this.record.size ??= this.record.identity?.size;
    });
  }

  /** From the page, from the first byte on. */
  copy(chunks: ChunkReader): void {
    void this.#run(async () => {
      let at = 0;
      for (let chunk; !this.#stopped && (chunk = await chunks.next()); at += chunk.length) {
        if (at === 0) await this.#begin(chunks.size);
        await this.write(at, chunk);
        await this.room(at);
      }
      if (!this.#stopped) this.record.size = at;
    });
  }

  /** Resolves when there is more, or will be no more. */
  more(): Promise<void> {
    return this.#changed.wait();
  }

  /** Somebody reads here. */
  readAt(position: number): void {
    this.#position = position;
    this.#changed.notify();
  }

  stop(): void {
    this.#stopped = true;
    this.#lanes?.close();
    this.#changed.notify();
  }

  async save(): Promise<void> {
    this.record.done = this.ranges.list;
    this.record.changed = Date.now();
    await this.file.save(this.record);
    this.#saved = performance.now();
  }

  async write(at: number, bytes: Uint8Array): Promise<void> {
    if (this.#stopped) return;
    await this.file.write(at, bytes);
    this.ranges.add(at, at + bytes.length);
    this.around.onArrival();
    this.#changed.notify();
    const now = performance.now();
    const every = Math.min(Math.max((now - this.#began) * SAVE_MS.share, SAVE_MS.least), SAVE_MS.most);
    if (now - this.#saved > every) await this.save();
  }

  async room(at: number): Promise<boolean> {
    const near = () => at - this.#position < (this.around.later && this.#position < FIRST_BYTES ? FIRST_BYTES : WINDOW_BYTES);
    if (near()) return false;
    const hurried = this.#hurried;
    while (!near() && !this.#stopped && this.#hurried === hurried) await this.#changed.wait();
    return true;
  }

  hurry(): void {
    this.#hurried++;
    this.#changed.notify();
  }

  async onAnswer(identity: FileIdentity): Promise<void> {
    this.record.identity = identity;
    await this.#begin(identity.size);
  }

  async #begin(size: number | undefined): Promise<void> {
    this.record.size = size;
    const missing = this.#missing();
    if (missing && size !== undefined && this.around.store !== "memory") {
      await checkQuota(missing);
      const room = this.file.reserve?.(size) ?? size;
      if (room < size) throw storageFull(missing, Math.max(room - this.ranges.bytes, 0));
    }
    if (missing && missing > LARGE_BYTES) this.around.onLarge();
    await this.save();
    this.#settle.resolve();
  }

  async #run(fill: () => Promise<void>): Promise<void> {
    try {
      await fill();
      this.#settle.resolve();
    } catch (e) {
      // What came is kept, if the disk has room for saying so.
      if (!(e instanceof Changed) && !this.#stopped && this.ranges.bytes > 0) await Promise.resolve(this.save()).catch(() => {});
      this.failure = await storageError(e, this.#missing());
      this.#settle.reject(this.failure);
    }
    this.#changed.notify();
  }

  #missing(): number | undefined {
    return this.size === undefined ? undefined : this.size - this.ranges.bytes;
  }
}
