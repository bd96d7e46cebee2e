// The binaries' glue, made by wasm-bindgen from src/api (in wasm/, which is generated). Declared here, so that the
// TypeScript can be checked without a build of the crate.

interface EngineGlue {
  /** Reads the model again, onto the CPU; a running request goes on there with the next `step`. */
  fall_back(sources: object[], progress: (done: number, total: number) => void): Promise<void>;
  /** On the CPU, between two steps. */
  load_draft(sources: object[], progress: (done: number, total: number) => void): Promise<void>;
  /** One chunk of the prompt, or one token: `Step` of src/session/types.rs. */
  step(): Promise<unknown>;
  /** `constraint`: a `Guide` of grammar.ts. */
  start(request: string, constraint?: object): void;
  vocabulary(): Uint8Array;
  end_ids(): Uint32Array;
  tool_format(): unknown;
  /** The tokens that prompts have in common which begin with the request's messages. */
  prefix_of(request: string): Uint32Array;
  /** One chunk of them; true: all are read. */
  read_prefix(tokens: Uint32Array): Promise<boolean>;
  /** `undefined` where the backend keeps no such bytes. */
  save_prefix(model: string, tokens: Uint32Array): Uint8Array<ArrayBuffer> | undefined;
  load_prefix(model: string, tokens: Uint32Array, bytes: Uint8Array): void;
  abort(): unknown;
  load_adapter(id: number, weights: Uint8Array, config?: string): void;
  unload_adapter(id: number): void;
  tokenize(text: string): Uint32Array;
  detokenize(ids: Uint32Array): string;
  embed(text: string): Promise<unknown>;
  embed_tokens(ids: Uint32Array): Promise<unknown>;
  token_bytes(id: number): Uint8Array;
  /** A `MadeFor` of src/router/artifact.rs. */
  made_for(options: string, model: string): unknown;
  info(): unknown;
  tuning(): unknown;
  memory(): unknown;
  free(): void;
}

interface LoadGlue {
  load(sources: object[], options: string, progress: (done: number, total: number) => void): Promise<EngineGlue>;
}

interface InitGlue {
  (options: { module_or_path: WebAssembly.Module | Promise<WebAssembly.Module>; memory?: WebAssembly.Memory; thread_stack_size?: number }): Promise<{ memory: WebAssembly.Memory }>;
}

/** Pages of the memory that the binary with threads begins with; build.mjs reads it out of the glue. */
declare const SHARED_PAGES: number;

declare module "#wasm/threads" {
  export * from "#wasm/relaxed";
  export { default } from "#wasm/relaxed";
  /** src/api/pool.rs */
  export function help(thread: number): void;
  export function shared(): number;
  export function trap_helper(): void;
  export function use_threads(threads: number): void;
}

declare module "#wasm/relaxed" {
  export const Engine: LoadGlue;
  /** A `Report` of src/model/inspect.rs as JSON. */
  export function inspect(sources: object[], question: string): Promise<string>;
  export function trap(): void;
  export function level(): "simd" | "relaxed";
  const init: InitGlue;
  export default init;
}

declare module "#wasm/grammar" {
  /** src/api/grammar.rs; errors are strings. */
  export class Vocabulary {
    constructor(packed: Uint8Array, ends: Uint32Array);
    guide(spec: string): Guide;
  }
  export class Guide {
    mask(left: number): Uint32Array | undefined;
    forced(): Uint8Array;
    commit(token: number, left: number): number;
    free(): void;
  }
  const init: (options: { module_or_path: Promise<WebAssembly.Module> }) => Promise<unknown>;
  export default init;
}

declare module "#wasm/router" {
  /** src/api/router.rs. `now`: `Date.now()`; actions come back as JSON; errors are strings. */
  export class Router {
    constructor(config: string, calibration?: string);
    step(now: number, event: string): string;
    body(now: number, ask: number, attempt: number, bytes: Uint8Array): string;
    deadline(): number | undefined;
    status(): string;
    free(): void;
  }
  export function check(token: string): void;
  const init: (options: { module_or_path: WebAssembly.Module }) => Promise<unknown>;
  export default init;
}
