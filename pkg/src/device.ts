// What this browser can run, and the wasm binary for it.

import { KingletError } from "./errors.js";
import type { PoolStart, WasmUrls } from "./protocol.js";
import type { EngineInfo } from "./types.js";
import { allowedThreads, loadThreads, sharedMemory } from "./threads.js";
// Both binaries without threads have the same glue; build.mjs sees to that.
import init, { Engine, inspect, level, trap } from "#wasm/relaxed";

// One function using the instructions of the level: `i8x16.popcnt` and `i32x4.relaxed_dot_i8x16_i7x16_add_s`.
const HEADER = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0];
const V128 = [65, 0, 253, 15]; // i32.const 0, i8x16.splat
const probe = (code: number[]) => new Uint8Array([...HEADER, 10, code.length + 4, 1, code.length + 2, 0, ...code, 11]);
const SIMD = probe([...V128, 253, 98]);
const RELAXED = probe([...V128, ...V128, ...V128, 253, 0x93, 0x02]);

export interface Wasm {
  Engine: typeof Engine;
  inspect: typeof inspect;
  simd: EngineInfo["simd"];
  memory: WebAssembly.Memory;
  /** Bytes, where they are fewer than wasm32 can address. */
  heapLimit?: number;
  trap(): void;
  /** In a thread of the pool, where there is one. */
  trapHelper(): void;
  /** Before the CPU backend is made: whatever threads there are. Rejects where they do not start; then there is one. */
  startThreads(start: (pool: PoolStart) => Promise<void>): Promise<void>;
}

/** Fetches and compiles the best binary this browser can run: the one with threads for more than one, where pages are isolated. */
export async function loadWasm(urls: WasmUrls, threads?: number): Promise<Wasm> {
  if (!WebAssembly.validate(SIMD)) {
    throw new KingletError("NO_SIMD", "this browser has no WebAssembly SIMD, which the engine needs; use Chrome 91, Firefox 89, Safari 16.4 or later");
  }
  const relaxed = WebAssembly.validate(RELAXED);
  const allowed = relaxed ? allowedThreads(threads) : 1;
  // Whoever says where the binaries are, and names none with threads, has none.
  const elsewhere = urls.simd ?? urls.relaxed;
  const shared = allowed > 1 && (urls.threads || !elsewhere) ? sharedMemory() : undefined;
  if (shared) return loadThreads(compileWasm(urls.threads ?? new URL("../wasm/threads/kinglet_bg.wasm", import.meta.url)), shared, allowed);
  const url = relaxed
    ? (urls.relaxed ?? new URL("../wasm/relaxed/kinglet_bg.wasm", import.meta.url))
    : (urls.simd ?? new URL("../wasm/simd/kinglet_bg.wasm", import.meta.url));
  const { memory } = await init({ module_or_path: compileWasm(url) });
  return { Engine, inspect, simd: level(), memory, trap, trapHelper: trap, startThreads: async () => {} };
}

/** While it downloads, even from a server that does not know the type of .wasm files. */
export async function compileWasm(url: string | URL, whose = "engine's"): Promise<WebAssembly.Module> {
  const failed = (why: string) =>
    new KingletError("DOWNLOAD_FAILED", `the ${whose} wasm could not be loaded from ${url}: ${why}; serve it beside the package's JavaScript, or pass { wasmUrl }`, { url: String(url) });
  let response: Response;
  try {
    response = await fetch(url, { credentials: "same-origin" });
  } catch (e) {
    throw failed(e instanceof Error ? e.message : String(e));
  }
  if (!response.ok) throw failed(`status ${response.status}`);
  try {
    if (response.headers.get("content-type")?.startsWith("application/wasm")) return await WebAssembly.compileStreaming(response);
    return await WebAssembly.compile(await response.arrayBuffer());
  } catch (e) {
    throw failed(e instanceof Error ? e.message : String(e));
  }
}
