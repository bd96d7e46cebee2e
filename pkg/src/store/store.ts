// One interface for the places that keep models: the origin's private file system, the Cache API, the page's memory.

import type { FileIdentity } from "../identity.js";
import type { Range } from "../ranges.js";

export type StoreKind = "opfs" | "cache-api" | "memory";

/** What is known of a file; it lies beside it, and says nothing that is not true of the bytes on the disk. */
export interface FileRecord {
  /** Counts up when older packages could not read it. */
  version: 1;
  /** Under which it is asked for: `hf:...`, a URL, `local:...`. */
  name: string;
  /** Of the server's file; `null` where the bytes came from the page. */
  identity: FileIdentity | null;
  size?: number;
  done: Range[];
  /** All bytes are there, and have been hashed as they lie on the disk. */
  complete: boolean;
  /** Of a complete file. */
  sha256?: string;
  /** Of all parts, one after the other, in the record of a split model's first. */
  whole?: string;
  /** The digest was known beforehand. */
  verified?: boolean;
  /** Milliseconds since 1970: of the first byte, and of the last change. */
  created: number;
  changed: number;
}

export interface Store {
  readonly kind: StoreKind;
  list(): Promise<FileRecord[]>;
  /** The last one that was saved whole. */
  record(key: string): Promise<FileRecord | undefined>;
  /** By one writer at a time, who holds the file's lock; any number may read. `record`: of what is there already. */
  open(key: string, mode: "read" | "write", record?: FileRecord): Promise<StoredFile>;
  /** A complete file. It is not read for that. */
  blob(key: string, record: FileRecord): Promise<Blob>;
  /** The record first: what is left when that is interrupted counts for nothing. */
  remove(key: string): Promise<void>;
  /** Removes what interrupted removals left; `unlocked` runs its body where nobody is at work. */
  sweep?(unlocked: (key: string, body: () => Promise<void>) => Promise<void>): Promise<void>;
}

export interface StoredFile {
  /** The bytes that the store has, however it was left. */
  readonly done: Range[];
  /** Sets space aside for so many bytes in all; returns how many of them there is space for. Not every store can tell. */
  reserve?(size: number): number;
  write(at: number, bytes: Uint8Array): void | Promise<void>;
  /** At most `length` bytes, at least one; they are good until the next call. */
  read(at: number, length: number): Uint8Array | Promise<Uint8Array>;
  /** After this the bytes that `record.done` names survive a crash, and so does the record. */
  save(record: FileRecord): void | Promise<void>;
  close(): void | Promise<void>;
}

/** What an unreadable or foreign record is: nothing. */
export function parseRecord(text: string): FileRecord | undefined {
  try {
    const record = JSON.parse(text) as FileRecord;
    return record.version === 1 && typeof record.name === "string" && Array.isArray(record.done) ? record : undefined;
  } catch {
    return undefined;
  }
}
