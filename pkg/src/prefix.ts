// What every conversation begins with: read once, and kept beside the model as the backend holds it.

import { isPrefix, modelOf, prefixName } from "./address.js";
import { errorData } from "./errors.js";
import type { Loader } from "./loader.js";
import type { EngineRequest, FromWorker } from "./protocol.js";
import { Sha256 } from "./sha256.js";
import { storageError } from "./store/quota.js";
import type { FileRecord, Store } from "./store/store.js";
import { keyOf, lockOf } from "./store/stores.js";
import type { EngineEvent } from "./types.js";

const READ_BYTES = 4 << 20;
/** Beginnings of one model that are kept; the oldest goes. */
const MOST = 4;

/** Goes on a little at each step, between which requests may run. Throws only what ends the engine. */
export async function* preparePrefix(request: EngineRequest, loader: Loader, onAnyBackend: <T>(act: () => Promise<T>) => Promise<T | undefined>, send: (message: FromWorker) => void): AsyncGenerator<void> {
  const event = (event: EngineEvent) => send({ type: "event", event });
  try {
    const { engine, digest } = loader;
    const tokens = engine.prefix_of(JSON.stringify(request));
    const kept = digest ? await loader.kept() : undefined;
    const place = kept && new Place(kept.store, kept.model, tokens);
    const bytes = await place?.read().catch(() => undefined);
    if (bytes && accepts(() => engine.load_prefix(digest, tokens, bytes))) return event({ type: "prefix-ready", tokens: tokens.length, stored: true });
    do yield;
    while (!(await onAnyBackend(() => engine.read_prefix(tokens))));
    const read = place && engine.save_prefix(digest, tokens);
    event({ type: "prefix-ready", tokens: tokens.length, stored: false });
    if (read && (await place.write(read))) event({ type: "prefix-kept", bytes: read.length });
  } catch (e) {
    const error = errorData(e);
    if (!error) throw e;
    event({ type: "prefix-not-kept", reason: error.message });
  }
}

/** What is of another model or broken is made anew. */
function accepts(load: () => void): boolean {
  try {
    load();
    return true;
  } catch (e) {
    if (errorData(e)?.code !== "BAD_REQUEST") throw e;
    return false;
  }
}

/** In a store, beside a model. */
class Place {
  readonly #name: string;
  readonly #key: string;

  constructor(private readonly store: Store, private readonly model: string, tokens: Uint32Array) {
    const digest = new Sha256().update(new Uint8Array(tokens.buffer, tokens.byteOffset, tokens.byteLength)).digest();
    this.#name = prefixName(model, digest.slice(0, 16));
    this.#key = keyOf(this.#name);
  }

  read(): Promise<Uint8Array | undefined> {
    return this.#locked("shared", this.#key, async () => {
      const record = await this.store.record(this.#key);
      if (!record?.complete || !record.size) return undefined;
      const file = await this.store.open(this.#key, "read", record);
      try {
        const bytes = new Uint8Array(record.size);
        for (let at = 0; at < bytes.length; ) {
          const chunk = await file.read(at, Math.min(READ_BYTES, bytes.length - at));
          bytes.set(chunk, at);
          at += chunk.length;
        }
        return bytes;
      } finally {
        await file.close();
      }
    });
  }

  /** False: another tab is busy with it. */
  async write(bytes: Uint8Array<ArrayBuffer>): Promise<boolean> {
    await this.#sweep();
    const written = await this.#locked("exclusive", this.#key, async () => {
      const file = await this.store.open(this.#key, "write");
      let failure: unknown;
      try {
        const [size, now] = [bytes.length, Date.now()];
        const begun: FileRecord = { version: 1, name: this.#name, identity: null, size, done: [], complete: false, created: now, changed: now };
        // Known from the beginning, so that what is cut off here is found and removed.
        await file.save(begun);
        await file.write(0, bytes);
        await file.save({ ...begun, done: [[0, size]], complete: true });
      } catch (e) {
        failure = await storageError(e, bytes.length);
      } finally {
        await file.close();
      }
      if (!failure) return true;
      await this.store.remove(this.#key);
      throw failure;
    });
    return written ?? false;
  }

  /** Makes room for one more. */
  async #sweep(): Promise<void> {
    const others = (record: FileRecord) => isPrefix(record.name) && modelOf(record.name).model === this.model && record.name !== this.#name;
    const old = (await this.store.list()).filter(others).sort((a, b) => b.changed - a.changed).slice(MOST - 1);
    for (const { name } of old) await this.#locked("exclusive", keyOf(name), () => this.store.remove(keyOf(name)));
  }

  /** Whatever another tab is busy with can wait for the next visit. */
  async #locked<T>(mode: LockMode, key: string, act: () => Promise<T>): Promise<T | undefined> {
    const { locks } = navigator as { locks?: LockManager };
    if (!locks) return act();
    return (await locks.request(lockOf(this.store.kind, key), { mode, ifAvailable: true }, async (lock) => (lock ? act() : undefined))) as T | undefined;
  }
}
