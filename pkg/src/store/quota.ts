// How much the browser lets this origin store.

import { KingletError } from "../errors.js";

const megabytes = (bytes: number) => `${Math.ceil(bytes / 1e6)} MB`;

/** Throws STORAGE_FULL where the browser says that so many more bytes would not fit. */
export async function checkQuota(needBytes: number): Promise<void> {
  const freeBytes = await free();
  if (freeBytes !== undefined && needBytes > freeBytes) throw storageFull(needBytes, freeBytes);
}

/** What a store threw: a full disk has a name. */
export async function storageError(e: unknown, needBytes: number | undefined): Promise<unknown> {
  if (!(e instanceof DOMException && e.name === "QuotaExceededError")) return e;
  const freeBytes = await free();
  return storageFull(needBytes, freeBytes !== undefined && freeBytes < (needBytes ?? 0) ? freeBytes : undefined);
}

export function storageFull(needBytes: number | undefined, freeBytes: number | undefined): KingletError {
  const need = needBytes === undefined ? "the model does not fit into" : `the model needs ${megabytes(needBytes)} more of`;
  const has = freeBytes === undefined ? "" : `, which has ${megabytes(freeBytes)} left`;
  const advice = 'free space on the disk, remove models (models.list, models.delete), or load it with cache: "none"; what is stored already is kept, and the download goes on from there';
  return new KingletError("STORAGE_FULL", `${need} this origin's storage${has}: ${advice}`, { needBytes, freeBytes });
}

async function free(): Promise<number | undefined> {
  try {
    const { quota, usage } = await navigator.storage.estimate();
    return quota === undefined || usage === undefined ? undefined : Math.max(quota - usage, 0);
  } catch {
    return undefined; // pages without https
  }
}
