// Models in the page's memory, as Blobs, which a browser may move to the disk by itself. They end with the page; the
// workers of its engines reach them through a port.

import type { Pieces } from "./pieces.js";
import type { FileRecord } from "./store.js";

interface Entry {
  record: FileRecord | undefined;
  pieces: Map<number, Blob>;
}

export class MemoryPieces implements Pieces {
  #entries = new Map<string, Entry>();

  async records(): Promise<FileRecord[]> {
    return [...this.#entries.values()].flatMap(({ record }) => record ?? []);
  }

  async record(key: string): Promise<FileRecord | undefined> {
    return this.#entries.get(key)?.record;
  }

  async save(key: string, record: FileRecord): Promise<void> {
    this.#entry(key).record = record;
  }

  async piece(key: string, index: number): Promise<Blob | undefined> {
    return this.#entries.get(key)?.pieces.get(index);
  }

  async put(key: string, index: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    this.#entry(key).pieces.set(index, new Blob([bytes]));
  }

  async remove(key: string): Promise<void> {
    this.#entries.delete(key);
  }

  #entry(key: string): Entry {
    const entry = this.#entries.get(key) ?? { record: undefined, pieces: new Map() };
    this.#entries.set(key, entry);
    return entry;
  }
}

/** The page's own. */
export const memory: Pieces = new MemoryPieces();

type Question = { id: number; method: keyof Pieces; args: unknown[] };

/** For the page: a port for one worker, which ends with it. */
export function memoryPort(): MessagePort {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = async ({ data: { id, method, args } }: MessageEvent<Question>) => {
    const answer = memory[method] as (...args: unknown[]) => Promise<unknown>;
    port1.postMessage({ id, value: await answer.apply(memory, args) });
  };
  return port2;
}

/** For the worker: the page's memory. */
export function remoteMemory(port: MessagePort): Pieces {
  const waiting = new Map<number, (value: unknown) => void>();
  let next = 0;
  port.onmessage = ({ data: { id, value } }) => {
    waiting.get(id)?.(value);
    waiting.delete(id);
  };
  const ask = (method: keyof Pieces) => (...args: unknown[]) =>
    new Promise<never>((resolve) => {
      waiting.set(++next, resolve as (value: unknown) => void);
      port.postMessage({ id: next, method, args } satisfies Question);
    });
  return { records: ask("records"), record: ask("record"), save: ask("save"), piece: ask("piece"), put: ask("put"), remove: ask("remove") };
}
