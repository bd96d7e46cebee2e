// What the wasm reads from: any run of chunks, forward only, straight into the wasm heap.

import { KingletError, type ErrorData } from "./errors.js";

export interface ChunkReader {
  /** Known once the first chunk is there. */
  readonly size: number | undefined;
  /** `null` at the end. */
  next(): Promise<Uint8Array | null>;
}

/** How far back a read may go: a header's reader looks a little ahead. */
const LOOK_BACK = 1 << 20;

/** Implements `JsSource` of src/source/web.rs. */
export class ForwardSource {
  /** Bytes that have arrived. */
  arrived = 0;
  failure: unknown;
  #kept: { start: number; bytes: Uint8Array }[] = [];
  #ended = false;

  constructor(
    private readonly chunks: ChunkReader,
    private readonly heap: () => WebAssembly.Memory,
    private readonly onArrival: () => void,
  ) {}

  get size(): number | undefined {
    return this.#ended ? this.arrived : this.chunks.size;
  }

  /** Resolves once the size is known or cannot be: with the first chunk. */
  async open(): Promise<void> {
    if (this.arrived === 0 && !this.#ended) await this.#receive();
  }

  /** Copies bytes to `address` of the wasm heap; resolves to how many there were, fewer than `length` only at the end. */
  async readInto(offset: number, address: number, length: number): Promise<number> {
    const first = this.#kept[0]?.start ?? this.arrived;
    if (offset < first) throw this.#fail(new KingletError("CORRUPT_FILE", `the model's data at byte ${offset} was passed already; its tensors are not in order`));
    let position = offset;
    const end = offset + length;
    for (const { start, bytes } of this.#kept) {
      if (position >= start && position < start + bytes.length) position += this.#copy(bytes, position - start, address + position - offset, end - position);
    }
    while (position < end) {
      const start = this.arrived;
      const bytes = await this.#receive();
      if (!bytes) break;
      if (position < start + bytes.length) position += this.#copy(bytes, position - start, address + position - offset, end - position);
    }
    return position - offset;
  }

  #copy(bytes: Uint8Array, from: number, address: number, length: number): number {
    const piece = bytes.subarray(from, from + length);
    // A new view each time: the heap moves when it grows.
    new Uint8Array(this.heap().buffer, address, piece.length).set(piece);
    return piece.length;
  }

  async #receive(): Promise<Uint8Array | null> {
    let bytes: Uint8Array | null;
    try {
      bytes = await this.chunks.next();
    } catch (e) {
      throw this.#fail(e);
    }
    if (!bytes) {
      this.#ended = true;
      return null;
    }
    this.#kept.push({ start: this.arrived, bytes });
    this.arrived += bytes.length;
    while (this.arrived - (this.#kept[1]?.start ?? 0) >= LOOK_BACK) this.#kept.shift();
    this.onArrival();
    return bytes;
  }

  /** Remembered, because only a message comes back out of the wasm. */
  #fail(error: unknown): unknown {
    this.failure ??= error;
    return error;
  }
}

/** A Blob in pieces, the next one being read while the wasm works on this one. */
export class BlobReader implements ChunkReader {
  static readonly PIECE = 4 << 20;
  readonly size: number;
  #position = 0;
  #ahead: Promise<ArrayBuffer> | undefined;

  constructor(private readonly blob: Blob) {
    this.size = blob.size;
  }

  async next(): Promise<Uint8Array | null> {
    const reading = this.#ahead ?? this.#read();
    if (!reading) return null;
    this.#ahead = undefined;
    let piece: ArrayBuffer;
    try {
      piece = await reading;
    } catch (e) {
      throw new KingletError("DOWNLOAD_FAILED", `reading the file failed: ${e instanceof Error ? e.message : String(e)}; it may have been changed or removed, choose it again`);
    }
    this.#ahead = this.#read();
    this.#ahead?.catch(() => {}); // seen when its turn comes
    return new Uint8Array(piece);
  }

  #read(): Promise<ArrayBuffer> | undefined {
    const start = this.#position;
    if (start >= this.size) return undefined;
    this.#position = Math.min(start + BlobReader.PIECE, this.size);
    return this.blob.slice(start, this.#position).arrayBuffer();
  }
}

/** Chunks that the page hands over (`feed.ts`), one asked for ahead. */
export class PortReader implements ChunkReader {
  #arrived: (Uint8Array | null | ErrorData)[] = [];
  #wake: (() => void) | undefined;
  #done = false;

  constructor(private readonly port: MessagePort, readonly size: number | undefined) {
    port.onmessage = ({ data }) => {
      this.#arrived.push(data);
      this.#wake?.();
    };
    port.postMessage("pull");
  }

  async next(): Promise<Uint8Array | null> {
    if (this.#done) return null;
    if (this.#arrived.length === 0) await new Promise<void>((resolve) => (this.#wake = resolve));
    const chunk = this.#arrived.shift() as Uint8Array | null | ErrorData;
    if (chunk instanceof Uint8Array) {
      this.port.postMessage("pull");
      return chunk;
    }
    this.#done = true;
    if (chunk) throw KingletError.from(chunk);
    return null;
  }
}
