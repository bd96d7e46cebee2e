// The binary with threads: whether there may be some, and their memory.

import type { Wasm } from "./device.js";
import { sharesMemory } from "./mail.js";
import init, { Engine, inspect, level, shared, trap, trap_helper, use_threads } from "#wasm/threads";

/** One function with an `i32.atomic.load`, and a shared memory. */
const ATOMICS = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 5, 4, 1, 3, 1, 1, 10, 11, 1, 9, 0, 65, 0, 254, 16, 2, 0, 26, 11]);
/** Unless more are asked for: beyond that memory is what a token waits for. */
const MOST_THREADS = 8;
/** Of wasm32, and what is tried where a device does not grant so much address space. */
const MOST_PAGES = 65536;
const FEWEST_PAGES = 4096;
const PAGE_BYTES = 65536;

/** How many threads there may be: one where the page is not isolated, or the browser has no shared memory. */
export function allowedThreads(wanted?: number): number {
  if (!sharesMemory() || !WebAssembly.validate(ATOMICS)) return 1;
  return wanted ?? Math.min(navigator.hardwareConcurrency || 1, MOST_THREADS);
}

/** Undefined where not even a small one can be had. */
export function sharedMemory(): { memory: WebAssembly.Memory; maximum: number } | undefined {
  for (let maximum = MOST_PAGES; maximum >= FEWEST_PAGES; maximum /= 2) {
    try {
      return { memory: new WebAssembly.Memory({ initial: SHARED_PAGES, maximum, shared: true }), maximum };
    } catch {
      // Half of it, then.
    }
  }
  return undefined;
}

export async function loadThreads(compiled: Promise<WebAssembly.Module>, { memory, maximum }: NonNullable<ReturnType<typeof sharedMemory>>, threads: number): Promise<Wasm> {
  const module = await compiled;
  await init({ module_or_path: module, memory });
  let started: Promise<void> | undefined;
  return {
    Engine, inspect, simd: level(), memory, trap,
    trapHelper: trap_helper,
    heapLimit: maximum < MOST_PAGES ? maximum * PAGE_BYTES : undefined,
    async startThreads(start) {
      await (started ??= start({ module, memory, shared: shared(), threads }));
      use_threads(threads);
    },
  };
}
