// A stream can be read once, but a model whose GPU is lost has to be read again: so it is kept while it is read, on disk
// where the browser lets us, else in Blobs, which it may move there itself.

import { BlobReader, type ChunkReader } from "./source.js";
import * as files from "./spool-file.js";
import { MemoryPieces } from "./store/memory.js";
import { writeAll, type SyncHandle } from "./store/opfs.js";
import { PieceStore } from "./store/pieces.js";
import type { FileRecord } from "./store/store.js";

/** Of the one stream in a store of its own. */
const KEY = "stream";

interface Store {
  write(chunk: Uint8Array): void | Promise<void>;
  /** All that was written; no more may be. */
  end(): Promise<Blob>;
}

/** Passes a stream on and keeps a copy, if it is `wanted` by the time the first bytes arrive. */
export class Spool implements ChunkReader {
  /** Why the stream is not kept. */
  failure: string | undefined;
  #store: Store | undefined;
  #wanted = true;

  constructor(private readonly chunks: ChunkReader, private readonly name: string, private readonly wanted: Promise<boolean>) {}

  get size(): number | undefined {
    return this.chunks.size;
  }

  async next(): Promise<Uint8Array | null> {
    const chunk = await this.chunks.next();
    if (chunk && this.#wanted) await this.#keep(chunk);
    return chunk;
  }

  /** What was read so far. */
  async kept(): Promise<Blob | undefined> {
    if (this.failure !== undefined) return undefined;
    try {
      return await this.#store?.end();
    } catch (e) {
      this.#giveUp(e);
      return undefined;
    } finally {
      this.#wanted = false;
    }
  }

  /** The stream from its beginning: what is kept, then what has not been read yet. It is not kept again. */
  async again(): Promise<ChunkReader | undefined> {
    const kept = await this.kept();
    return kept && new Chain([new BlobReader(kept), this.chunks], () => this.size);
  }

  /** It will not be read again. */
  forget(): Promise<void> {
    return files.remove(this.name);
  }

  async #keep(chunk: Uint8Array): Promise<void> {
    this.#wanted = await this.wanted;
    if (!this.#wanted) return;
    try {
      this.#store ??= await openStore(this.name);
      await this.#store.write(chunk);
    } catch (e) {
      this.#giveUp(e);
    }
  }

  /** The model is loaded all the same. */
  #giveUp(e: unknown): void {
    this.failure = e instanceof Error ? e.message : String(e);
    this.#wanted = false;
  }
}

async function openStore(name: string): Promise<Store> {
  const file = await files.create(name).catch(() => undefined);
  return file ? new FileStore(...file) : new BlobStore();
}

class FileStore implements Store {
  #written = 0;

  constructor(private readonly file: FileSystemFileHandle, private readonly handle: SyncHandle) {}

  write(chunk: Uint8Array): void {
    writeAll(this.handle, chunk, this.#written);
    this.#written += chunk.length;
  }

  async end(): Promise<Blob> {
    this.handle.close();
    return this.file.getFile();
  }
}

class BlobStore implements Store {
  readonly #pieces = new PieceStore("memory", new MemoryPieces());
  readonly #file = this.#pieces.open(KEY, "write");
  #written = 0;

  async write(chunk: Uint8Array): Promise<void> {
    await (await this.#file).write(this.#written, chunk);
    this.#written += chunk.length;
  }

  async end(): Promise<Blob> {
    const record: FileRecord = { version: 1, name: KEY, identity: null, size: this.#written, done: [], complete: true, created: 0, changed: 0 };
    await (await this.#file).save(record);
    return this.#pieces.blob(KEY, record);
  }
}

/** One after the other. */
class Chain implements ChunkReader {
  constructor(private readonly readers: ChunkReader[], private readonly total: () => number | undefined) {}

  get size(): number | undefined {
    return this.total();
  }

  async next(): Promise<Uint8Array | null> {
    for (;;) {
      const chunk = await this.readers[0]?.next();
      if (chunk) return chunk;
      if (this.readers.length === 0) return null;
      this.readers.shift();
    }
  }
}
