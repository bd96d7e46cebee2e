// A stream can be read once, but a model whose GPU is lost has to be read again: so it is kept while it is read, on disk
// where the browser lets us, else in Blobs, which it may move there itself.

import { BlobReader, type ChunkReader } from "./source.js";
import * as files from "./spool-file.js";

interface Store {
  write(chunk: Uint8Array): void;
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
      this.#store.write(chunk);
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
  const file = await files.create(name);
  const handle = await (file as SyncFile | undefined)?.createSyncAccessHandle?.().catch(() => undefined);
  return file && handle ? new FileStore(file, handle) : new BlobStore();
}

// TypeScript has these in its library of workers only.
interface SyncFile extends FileSystemFileHandle {
  createSyncAccessHandle?(): Promise<SyncHandle>;
}
interface SyncHandle {
  write(bytes: Uint8Array, options: { at: number }): number;
  close(): void;
}

class FileStore implements Store {
  #written = 0;

  constructor(private readonly file: FileSystemFileHandle, private readonly handle: SyncHandle) {}

  write(chunk: Uint8Array): void {
    // A full disk may also show as a write that ends early.
    const written = this.handle.write(chunk, { at: this.#written });
    if (written < chunk.length) throw new Error("the disk is full");
    this.#written += written;
  }

  async end(): Promise<Blob> {
    this.handle.close();
    return this.file.getFile();
  }
}

/** So many bytes make a Blob: few enough to be gathered in memory, enough for a large model to be few Blobs. */
const BLOB_BYTES = 16 << 20;

class BlobStore implements Store {
  #blobs: Blob[] = [];
  #gathered: Uint8Array<ArrayBuffer>[] = [];
  #bytes = 0;

  write(chunk: Uint8Array): void {
    this.#gathered.push(chunk.slice());
    this.#bytes += chunk.length;
    if (this.#bytes >= BLOB_BYTES) this.#close();
  }

  async end(): Promise<Blob> {
    this.#close();
    return new Blob(this.#blobs);
  }

  #close(): void {
    this.#blobs.push(new Blob(this.#gathered));
    this.#gathered = [];
    this.#bytes = 0;
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
