// Models in the Cache API: records and pieces as responses to addresses that nobody fetches.

import type { Pieces } from "./pieces.js";
import { parseRecord, type FileRecord } from "./store.js";

const CACHE = "kinglet-models";
const ADDRESS = "https://kinglet.invalid/";

let held: Promise<unknown> | undefined;

/** For the page: WebKit's private windows forget a cache that nobody has open, as when a worker ends. */
export function holdCache(): void {
  held ??= (globalThis as { caches?: CacheStorage }).caches?.open(CACHE).catch(() => {});
}

export class CachePieces implements Pieces {
  static async open(): Promise<CachePieces> {
    return new CachePieces(await caches.open(CACHE));
  }

  private constructor(private readonly cache: Cache) {}

  async records(): Promise<FileRecord[]> {
    const found = (await this.cache.keys()).map(({ url }) => url).filter((url) => url.endsWith("/record"));
    return (await Promise.all(found.map((url) => this.#read(url)))).filter((record) => record !== undefined);
  }

  record(key: string): Promise<FileRecord | undefined> {
    return this.#read(`${ADDRESS}${key}/record`);
  }

  save(key: string, record: FileRecord): Promise<void> {
    return this.cache.put(`${ADDRESS}${key}/record`, new Response(JSON.stringify(record)));
  }

  async piece(key: string, index: number): Promise<Blob | undefined> {
    return (await this.cache.match(`${ADDRESS}${key}/${index}`))?.blob();
  }

  put(key: string, index: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    return this.cache.put(`${ADDRESS}${key}/${index}`, new Response(bytes));
  }

  async remove(key: string): Promise<void> {
    await this.cache.delete(`${ADDRESS}${key}/record`);
    for (const { url } of await this.cache.keys()) {
      if (url.startsWith(`${ADDRESS}${key}/`)) await this.cache.delete(url);
    }
  }

  async #read(url: string): Promise<FileRecord | undefined> {
    const response = await this.cache.match(url);
    return response && parseRecord(await response.text());
  }
}
