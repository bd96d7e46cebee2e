// What the wasm reads from: any run of chunks, forward only, straight into the wasm heap.

import { errorData, KingletError, type ErrorData } from "./errors.js";

export interface ChunkReader {
  /** Known once the first chunk is there. */
  readonly size: number | undefined;
  /** `null` at the end. A chunk is good until the next call. */
  next(): Promise<Uint8Array | null>;
}

/** Implements `JsSource` of src/source/web.rs. */
export class ForwardSource {
  /** Bytes that have arrived. */
  arrived = 0;
  failure: unknown;
  /** What has arrived and not been read. */
  #rest: Uint8Array | undefined;
  #ended = false;

  constructor(
    private readonly chunks: ChunkReader,
    readonly sha256: string | undefined,
    private readonly heap: () => WebAssembly.Memory,
    private readonly onArrival: () => void,
  ) {}

  get size(): number | undefined {
    return this.#ended ? this.arrived : this.chunks.size;
  }

  /** Resolves once the size is known or cannot be: with the first chunk. */
  async open(): Promise<void> {
    if (this.arrived === 0) await this.#receive();
  }

  /** Copies the next bytes to `address` of the wasm heap; resolves to how many there were, fewer than `length` only at the end. */
  async readInto(address: number, length: number): Promise<number> {
    let done = 0;
    while (done < length && (this.#rest || (await this.#receive()))) {
      const piece = this.#rest!.subarray(0, length - done);
      // A new view each time: the heap moves when it grows.
      new Uint8Array(this.heap().buffer, address + done, piece.length).set(piece);
      done += piece.length;
      this.#rest = piece.length < this.#rest!.length ? this.#rest!.subarray(piece.length) : undefined;
    }
    return done;
  }

  async #receive(): Promise<boolean> {
    if (this.#ended) return false;
    try {
      const chunk = await this.chunks.next();
      if (!chunk) {
        this.#ended = true;
        return false;
      }
      this.#rest = chunk;
      this.arrived += chunk.length;
    } catch (e) {
      // Remembered, because only a message comes back out of the wasm.
      this.failure ??= errorData(e) ? e : new KingletError("DOWNLOAD_FAILED", `reading the model failed: ${e instanceof Error ? e.message : String(e)}`, {}, e);
      throw e;
    }
    this.onArrival();
    return true;
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
