// A thread of the pool: from its start on it is in the wasm, and hears no message any more.

import type { ToPool } from "./protocol.js";
import init, { help } from "#wasm/threads";

/** Kernels need little; the memory is the model's. */
const STACK_BYTES = 256 << 10;
/** In `Shared` of src/backend/cpu/pool.rs: the word that says how many bytes there are in the next ones, and how many there may be. */
const WORDS = 2;
const WORDS_BYTES = 252;

let lastWords: string | undefined;
Object.assign(globalThis, {
  kingletPanic: (message: string) => (lastWords = message),
  kingletHeapFull: (bytes: number) => (lastWords = `out of memory, ${bytes} more bytes were needed`),
});

const send = (message: string) => (self as unknown as { postMessage(message: string): void }).postMessage(message);

self.onmessage = async ({ data: { module, memory, shared, thread } }: MessageEvent<ToPool>) => {
  try {
    await init({ module_or_path: module, memory, thread_stack_size: STACK_BYTES });
  } catch (e) {
    return send(lastWords ?? String(e));
  }
  send("ready");
  try {
    help(thread);
  } catch (e) {
    // The engine waits for this thread's piece, in the wasm: only memory reaches it there. Bytes first, then their number.
    const words = new TextEncoder().encode(lastWords ?? String(e)).subarray(0, WORDS_BYTES);
    const place = new Int32Array(memory.buffer, shared);
    new Uint8Array(memory.buffer, shared + 4 * (WORDS + 1)).set(words);
    Atomics.store(place, WORDS, words.length);
  }
};
