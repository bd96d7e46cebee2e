// Stores that keep values, not files: a model is a run of pieces, each stored when it is whole.

import { KingletError } from "../errors.js";
import { Ranges, type Range } from "../ranges.js";
import type { FileRecord, Store, StoredFile, StoreKind } from "./store.js";

export const PIECE_BYTES = 4 << 20;

/** Values by key. */
export interface Pieces {
  records(): Promise<FileRecord[]>;
  record(key: string): Promise<FileRecord | undefined>;
  save(key: string, record: FileRecord): Promise<void>;
  piece(key: string, index: number): Promise<Blob | undefined>;
  put(key: string, index: number, bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  /** The record first. */
  remove(key: string): Promise<void>;
}

export class PieceStore implements Store {
  constructor(readonly kind: StoreKind, private readonly pieces: Pieces) {}

  list(): Promise<FileRecord[]> {
    return this.pieces.records();
  }

  record(key: string): Promise<FileRecord | undefined> {
    return this.pieces.record(key);
  }

  async open(key: string, _mode: "read" | "write", record?: FileRecord): Promise<StoredFile> {
    if (!record?.done.length) await this.pieces.remove(key);
    return new PieceFile(this.pieces, key, record);
  }

  async blob(key: string, { size = 0 }: FileRecord): Promise<Blob> {
    const parts: Blob[] = [];
    for (let index = 0; index * PIECE_BYTES < size; index++) parts.push(await stored(this.pieces, key, index));
    return new Blob(parts);
  }

  remove(key: string): Promise<void> {
    return this.pieces.remove(key);
  }
}

class PieceFile implements StoredFile {
  readonly done: Range[];
  /** Whole and stored. */
  #stored = new Set<number>();
  /** Still to be filled. */
  #open = new Map<number, { bytes: Uint8Array<ArrayBuffer>; filled: Ranges }>();
  #size: number | undefined;
  /** The piece that was read last. */
  #last: { index: number; bytes: Uint8Array } | undefined;

  constructor(private readonly pieces: Pieces, private readonly key: string, record: FileRecord | undefined) {
    this.#size = record?.size;
    const ranges = new Ranges(record?.done);
    for (const [start, end] of ranges.list) {
      for (let index = Math.ceil(start / PIECE_BYTES); index * PIECE_BYTES < end; index++) {
        if (this.#endOf(index) <= end) this.#stored.add(index);
      }
    }
    this.done = this.#whole();
  }

  async write(at: number, bytes: Uint8Array): Promise<void> {
    for (let from = 0; from < bytes.length; ) {
      const index = Math.floor((at + from) / PIECE_BYTES);
      const offset = at + from - index * PIECE_BYTES;
      const part = bytes.subarray(from, from + PIECE_BYTES - offset);
      let piece = this.#open.get(index);
      if (!piece) this.#open.set(index, (piece = { bytes: new Uint8Array(PIECE_BYTES), filled: new Ranges() }));
      piece.bytes.set(part, offset);
      piece.filled.add(offset, offset + part.length);
      if (piece.filled.bytes === PIECE_BYTES) await this.#put(index, piece.bytes);
      from += part.length;
    }
  }

  async read(at: number, length: number): Promise<Uint8Array> {
    const index = Math.floor(at / PIECE_BYTES);
    const offset = at - index * PIECE_BYTES;
    const open = this.#open.get(index)?.bytes;
    if (!open && this.#last?.index !== index) {
      const blob = await stored(this.pieces, this.key, index);
      this.#last = { index, bytes: new Uint8Array(await blob.arrayBuffer()) };
    }
    return (open ?? this.#last!.bytes).subarray(offset, offset + length);
  }

  async save(record: FileRecord): Promise<void> {
    this.#size = record.size;
    // The last piece is whole before it is full.
    for (const [index, { bytes, filled }] of this.#open) {
      const length = this.#endOf(index) - index * PIECE_BYTES;
      if (filled.endFrom(0) === length) await this.#put(index, bytes.slice(0, length));
    }
    await this.pieces.save(this.key, { ...record, done: this.#whole() });
  }

  close(): void {}

  async #put(index: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    await this.pieces.put(this.key, index, bytes);
    this.#stored.add(index);
    this.#open.delete(index);
  }

  #endOf(index: number): number {
    return Math.min((index + 1) * PIECE_BYTES, this.#size ?? Infinity);
  }

  #whole(): Range[] {
    return new Ranges([...this.#stored].map((index): Range => [index * PIECE_BYTES, this.#endOf(index)])).list;
  }
}

async function stored(pieces: Pieces, key: string, index: number): Promise<Blob> {
  const blob = await pieces.piece(key, index);
  if (!blob) throw new KingletError("CORRUPT_FILE", "the browser has thrown a piece of the stored model away; load it again");
  return blob;
}
