// What is stored of models: `import { models } from "kinglet"`.

import { isPrefix, modelOf, resolveModelFiles } from "./address.js";
import { badRequest, KingletError } from "./errors.js";
import { askWorker } from "./ask-worker.js";
import { accessStore, resolveModel } from "./model.js";
import type { Part } from "./protocol.js";
import { memory } from "./store/memory.js";
import type { FileRecord, Store } from "./store/store.js";
import { keyOf, lockOf, openStore, STORES } from "./store/stores.js";
import type { CacheOption, EngineOptions, ModelFile } from "./types.js";

/** A model, or the beginning of one, in a store of this origin. */
export interface StoredModel {
  /** What `createEngine`, `delete` and `export` take. */
  model: string;
  /** As `cache` names it. */
  store: Exclude<CacheOption, "auto" | "none">;
  files: number;
  /** Of all files, as far as their sizes are known. */
  bytes?: number;
  /** Those of `prefixes` included. */
  storedBytes: number;
  /** Beginnings of conversations that are kept beside it (`prefix` of createEngine), if any. */
  prefixes?: number;
  /** Nothing is missing, and every byte was read back and hashed. */
  complete: boolean;
  /** Of each file, in order; compared with what the caller or the hub said where `verified`. */
  sha256?: string[];
  verified: boolean;
  created: Date;
  changed: Date;
}

/** How an import is made; as for `createEngine`. */
export interface ImportOptions extends Pick<EngineOptions, "cache" | "headers" | "hub" | "onEvent" | "onProgress" | "revalidate" | "sha256" | "signal" | "worker"> {}

const PATIENCE_MS = 1000;

type Found = { store: Store; record: FileRecord };

/** The models that this origin has stored. */
export const models = {
  /** In every store there is; also what was begun only. */
  async list(): Promise<StoredModel[]> {
    const groups = new Map<string, Found[]>();
    for (const store of await stores()) {
      for (const record of await store.list()) {
        const group = `${store.kind} ${modelOf(record.name).model}`;
        groups.set(group, [...(groups.get(group) ?? []), { store, record }]);
      }
    }
    // What is left beside a model that is gone is of no use.
    return [...groups.values()].filter((group) => !group.every(({ record }) => isPrefix(record.name))).map(describe).sort((a, b) => a.model.localeCompare(b.model));
  },

  /** From every store. Rejects with BAD_REQUEST while a tab downloads or loads it. Resolves to whether there was anything. */
  async delete(model: string | URL, options: Pick<EngineOptions, "hub"> = {}): Promise<boolean> {
    let found = false;
    const names = resolveModelFiles(model, options.hub).map(({ name }) => name);
    for (const store of await stores()) {
      const beside = (await store.list()).map(({ name }) => name).filter((name) => isPrefix(name) && modelOf(name).model === modelOf(names[0]!).model);
      for (const name of [...names, ...beside]) {
        const key = keyOf(name);
        await alone(lockOf(store.kind, key), async () => {
          found ||= (await store.record(key)) !== undefined;
          await store.remove(key);
        });
      }
    }
    return found;
  },

  /**
   * Stores a model under this name, for `createEngine` to find: from the name's own address, or from a file or URL
   * (several for a split model). Goes on with a download that was begun. `cache` as in `createEngine`, but not "none".
   */
  async import(model: string | URL, source?: ModelFile | readonly ModelFile[] | ReadableStream<Uint8Array>, options: ImportOptions = {}): Promise<StoredModel> {
    const { cache = "auto", headers, hub, revalidate, sha256 } = options;
    if (cache === "none") throw badRequest("cache", '"none" stores nothing');
    const addresses = resolveModelFiles(model, hub);
    const given = resolveModel({ model: source ?? model, headers, hub, sha256, cache });
    const opened = given.open();
    const { parts, transfer, close } = opened;
    try {
      if (parts.length !== addresses.length) throw badRequest("source", `has ${parts.length} files, of which ${addresses[0]!.name} needs ${addresses.length}`);
      // What is given replaces what is there; what is asked for again does not.
      const targets = parts.map((part, i): Part => ({ ...part, cache: { ...part.cache, name: addresses[i]!.name, replace: source !== undefined, revalidate } }));
      const store = opened.store ?? accessStore(cache, transfer);
      await askWorker({ type: "store", parts: targets, store }, transfer, "stores", options);
    } finally {
      close();
      await given.dispose();
    }
    const wanted = modelOf(addresses[0]!.name).model;
    const found = (await models.list()).find((stored) => stored.model === wanted && stored.complete && (cache === "auto" || stored.store === cache));
    if (!found) throw new KingletError("DOWNLOAD_FAILED", `${wanted} was stored and is gone again: the browser or another tab has removed it`);
    return found;
  },

  /** The files of a complete model, in order; `createEngine` takes them as `model`. They are not read for that. */
  async export(model: string | URL, options: Pick<EngineOptions, "hub"> = {}): Promise<File[]> {
    const names = resolveModelFiles(model, options.hub).map(({ name }) => name);
    for (const store of await stores()) {
      const records = await Promise.all(names.map((name) => store.record(keyOf(name))));
      if (!records.every((record): record is FileRecord => record?.complete === true)) continue;
      return Promise.all(records.map(async (record) => {
        const { pathname } = new URL(record.name.replace(/^(hf|local):/, "https://name/"));
        const name = decodeURIComponent(pathname.slice(pathname.lastIndexOf("/") + 1));
        return new File([await store.blob(keyOf(record.name), record)], name.endsWith(".gguf") ? name : `${name}.gguf`, { lastModified: record.changed });
      }));
    }
    throw badRequest("model", `${names[0]} is not stored here, or only a part of it; models.list says what is`);
  },
};

function describe(found: Found[]): StoredModel {
  const all = found.map(({ record }) => record);
  const records = all.filter(({ name }) => !isPrefix(name)).sort((a, b) => modelOf(a.name).index - modelOf(b.name).index);
  const prefixes = all.filter(({ name, complete }) => isPrefix(name) && complete).length;
  // Where the model was deleted while a beginning was on its way into the store, there is nothing else.
  const told = records.length > 0 ? records : all;
  const { model, files } = modelOf(told[0]!.name);
  const complete = records.length === files && records.every((record) => record.complete);
  const sizes = records.map(({ size }) => size).filter((size) => size !== undefined);
  return {
    model, files, complete, store: found[0]!.store.kind,
    bytes: sizes.length === files ? sizes.reduce((a, b) => a + b) : undefined,
    storedBytes: all.flatMap(({ done }) => done).reduce((sum, [start, end]) => sum + end - start, 0),
    sha256: complete ? records.map(({ sha256 }) => sha256!) : undefined,
    ...(prefixes > 0 && { prefixes }),
    verified: complete && records.every(({ verified }) => verified),
    created: new Date(Math.min(...told.map(({ created }) => created))),
    changed: new Date(Math.max(...told.map(({ changed }) => changed))),
  };
}

/** Those that work here. */
async function stores(): Promise<Store[]> {
  const opened = await Promise.all(STORES.map((kind) => openStore(kind, memory).catch(() => undefined)));
  return opened.filter((store) => store !== undefined);
}

/** A worker that has just ended gives its locks back a little later. */
async function alone(lock: string, act: () => Promise<void>): Promise<void> {
  const { locks } = navigator as { locks?: LockManager };
  if (!locks) return act();
  const patience = new AbortController();
  const timer = setTimeout(() => patience.abort(badRequest("model", "is being downloaded or loaded just now; try again when that is done, or abort it")), PATIENCE_MS);
  await locks.request(lock, { signal: patience.signal }, () => {
    clearTimeout(timer);
    return act();
  });
}
