// Models in the origin's private file system: KEY.gguf, and beside it KEY.log, to which a record is appended at each
// save. A crash can tear only the last line of the log, and then the line before it counts.

import { KingletError } from "../errors.js";
import type { Range } from "../ranges.js";
import { parseRecord, type FileRecord, type Store, type StoredFile } from "./store.js";

const FOLDER = "kinglet-models";
/** More than the longest record. */
const TAIL_BYTES = 1 << 16;
const RESERVE_STEP_BYTES = 1 << 18;
/** A handle lives on a little after its worker. */
const TRIES = 40;
const TRY_MS = 50;

// TypeScript has these in its library of workers only.
export interface SyncHandle {
  getSize(): number;
  read(into: Uint8Array, options: { at: number }): number;
  write(bytes: Uint8Array, options: { at: number }): number;
  truncate(size: number): void;
  flush(): void;
  close(): void;
}
interface SyncFile extends FileSystemFileHandle {
  createSyncAccessHandle?(options?: { mode: "read-only" }): Promise<SyncHandle>;
}

/** Opens for writing. `undefined` where the browser has no such handles, or here no right to them. */
export async function openForWriting(folder: FileSystemDirectoryHandle, name: string): Promise<SyncHandle | undefined> {
  const file = (await folder.getFileHandle(name, { create: true })) as SyncFile;
  return file.createSyncAccessHandle && (await again(() => file.createSyncAccessHandle!()));
}

export async function removeFile(folder: FileSystemDirectoryHandle, name: string): Promise<void> {
  await again(() => folder.removeEntry(name)).catch(ignoreMissing);
}

export async function openFolder(name: string, create: boolean): Promise<FileSystemDirectoryHandle> {
  return (await navigator.storage.getDirectory()).getDirectoryHandle(name, { create });
}

export async function namesIn(folder: FileSystemDirectoryHandle): Promise<string[]> {
  const names: string[] = [];
  for await (const name of (folder as unknown as { keys(): AsyncIterable<string> }).keys()) names.push(name);
  return names;
}

/** Writes all of it, or says that the disk is full, which may also show as a write that ends early. */
export function writeAll(handle: SyncHandle, bytes: Uint8Array, at: number): void {
  if (handle.write(bytes, { at }) < bytes.length) throw new DOMException("the disk is full", "QuotaExceededError");
}

export class OpfsStore implements Store {
  readonly kind = "opfs";

  /** Throws where there is none. In a page it cannot write. */
  static async open(): Promise<OpfsStore> {
    const folder = await openFolder(FOLDER, true);
    const inWorker = !("window" in globalThis);
    // Handles whose methods return promises ended with Chrome 107; the next thing that tells came with 110.
    const synchronous = "createSyncAccessHandle" in FileSystemFileHandle.prototype && "toSorted" in Array.prototype;
    if (inWorker && !synchronous) throw new Error("there are no synchronous access handles");
    return new OpfsStore(folder);
  }

  private constructor(private readonly folder: FileSystemDirectoryHandle) {}

  async list(): Promise<FileRecord[]> {
    const keys = (await namesIn(this.folder)).filter((name) => name.endsWith(".log")).map((name) => name.slice(0, -4));
    return (await Promise.all(keys.map((key) => this.record(key)))).filter((record) => record !== undefined);
  }

  async record(key: string): Promise<FileRecord | undefined> {
    const read = async (): Promise<FileRecord | undefined> => {
      const log = await (await this.folder.getFileHandle(`${key}.log`)).getFile();
      const lines = (await log.slice(-TAIL_BYTES).text()).split("\n");
      const record = lines.reverse().map(parseRecord).find((record) => record !== undefined);
      const { size } = await (await this.folder.getFileHandle(`${key}.gguf`)).getFile();
      return record && Math.max(0, ...record.done.map(([, end]) => end)) <= size ? record : undefined;
    };
    // A file that is written to cannot be read at that moment.
    return again(read, "NotReadableError").catch(ignoreMissing);
  }

  async open(key: string, mode: "read" | "write", record?: FileRecord): Promise<StoredFile> {
    const done = record?.done ?? [];
    if (mode === "read") return new ReadFile(await this.#reader(key), done);
    const data = await openForWriting(this.folder, `${key}.gguf`);
    const log = await openForWriting(this.folder, `${key}.log`);
    if (!data || !log) throw new KingletError("ENGINE_CRASHED", "the browser took its file handles away");
    return new WrittenFile(data, log, done);
  }

  async blob(key: string): Promise<Blob> {
    return (await this.folder.getFileHandle(`${key}.gguf`)).getFile();
  }

  async remove(key: string): Promise<void> {
    await removeFile(this.folder, `${key}.log`);
    await removeFile(this.folder, `${key}.gguf`);
  }

  /** Bytes without a record count for nothing. */
  async sweep(unlocked: (key: string, body: () => Promise<void>) => Promise<void>): Promise<void> {
    for (const name of await namesIn(this.folder)) {
      const key = name.replace(/\.\w+$/, "");
      if (name.endsWith(".gguf")) await unlocked(key, async () => void ((await this.record(key)) ?? (await this.remove(key))));
    }
  }

  /** A handle reads forty times faster than a File; where only one may be open, and is, the File has to do. */
  async #reader(key: string): Promise<SyncHandle | File> {
    const file = (await this.folder.getFileHandle(`${key}.gguf`)) as SyncFile;
    try {
      return await file.createSyncAccessHandle!({ mode: "read-only" });
    } catch {
      return file.getFile();
    }
  }
}

class ReadFile implements StoredFile {
  #buffer = new Uint8Array(0);

  constructor(private readonly source: SyncHandle | File, readonly done: Range[]) {}

  read(at: number, length: number): Uint8Array | Promise<Uint8Array> {
    const { source } = this;
    if (source instanceof Blob) return source.slice(at, at + length).arrayBuffer().then((bytes) => filled(new Uint8Array(bytes)));
    if (this.#buffer.length < length) this.#buffer = new Uint8Array(length);
    return filled(this.#buffer.subarray(0, source.read(this.#buffer.subarray(0, length), { at })));
  }

  write(): never {
    throw new Error("the file is open for reading");
  }

  save = this.write;

  close(): void {
    if (!(this.source instanceof Blob)) this.source.close();
  }
}

class WrittenFile implements StoredFile {
  #buffer = new Uint8Array(0);

  constructor(private readonly data: SyncHandle, private readonly log: SyncHandle, readonly done: Range[]) {
    if (done.length > 0) return;
    // The log first: no record may speak of bytes that are gone.
    log.truncate(0);
    log.flush();
    data.truncate(0);
  }

  /** A disk that is too small refuses to extend the file; what browsers say of their quota is made up to hide the disk. */
  reserve(size: number): number {
    const before = this.data.getSize();
    if (before >= size || this.#fits(size)) return size;
    let [fits, exceeds] = [before, size];
    while (exceeds - fits > RESERVE_STEP_BYTES) {
      const middle = Math.floor((fits + exceeds) / 2);
      if (this.#fits(middle)) fits = middle;
      else exceeds = middle;
    }
    this.data.truncate(before);
    return fits;
  }

  write(at: number, bytes: Uint8Array): void {
    writeAll(this.data, bytes, at);
  }

  #fits(size: number): boolean {
    try {
      this.data.truncate(size);
      return true;
    } catch (e) {
      if (e instanceof DOMException && e.name === "QuotaExceededError") return false;
      throw e;
    }
  }

  read(at: number, length: number): Uint8Array {
    if (this.#buffer.length < length) this.#buffer = new Uint8Array(length);
    return filled(this.#buffer.subarray(0, this.data.read(this.#buffer.subarray(0, length), { at })));
  }

  save(record: FileRecord): void {
    this.data.flush();
    // Behind whatever a crash may have left of a line.
    writeAll(this.log, new TextEncoder().encode(`\n${JSON.stringify(record)}\n`), this.log.getSize());
    this.log.flush();
  }

  close(): void {
    this.data.close();
    this.log.close();
  }
}

function filled(bytes: Uint8Array): Uint8Array {
  if (bytes.length === 0) throw new KingletError("CORRUPT_FILE", "the stored file is shorter than its record says; load it again");
  return bytes;
}

/** As long as somebody else has the file. */
async function again<T>(act: () => Promise<T>, busy = "NoModificationAllowedError"): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await act();
    } catch (e) {
      if (!(e instanceof DOMException && e.name === busy) || tries === TRIES) throw e;
      await new Promise((resolve) => setTimeout(resolve, TRY_MS));
    }
  }
}

function ignoreMissing(e: unknown): undefined {
  if (e instanceof DOMException && e.name === "NotFoundError") return undefined;
  throw e;
}
