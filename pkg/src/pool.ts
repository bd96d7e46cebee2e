// A thread of the pool: from its start on it is in the wasm, and hears no message any more.

import type { ToPool } from "./protocol.js";
import init, { help, last_words } from "#wasm/threads";

/** Kernels need little; the memory is the model's. */
const STACK_BYTES = 256 << 10;
/** `LastWords::MOST` of src/backend/cpu/pool.rs. */
const WORDS_BYTES = 252;

let lastWords: string | undefined;
Object.assign(globalThis, {
  kingletPanic: (message: string) => (lastWords = message),
  kingletHeapFull: (bytes: number) => (lastWords = `out of memory, ${bytes} more bytes were needed`),
});

self.onmessage = async ({ data: { module, memory, thread } }: MessageEvent<ToPool>) => {
  await init({ module_or_path: module, memory, thread_stack_size: STACK_BYTES });
  const place = last_words();
  (self as unknown as { postMessage(message: "ready"): void }).postMessage("ready");
  try {
    help(thread);
  } catch (e) {
    // The engine waits for this thread's piece, in the wasm: only memory reaches it there. Bytes first, then their number.
    const words = new TextEncoder().encode(lastWords ?? String(e)).subarray(0, WORDS_BYTES);
    new Uint8Array(memory.buffer, place + 4).set(words);
    Atomics.store(new Int32Array(memory.buffer), place / 4, words.length);
  }
};
