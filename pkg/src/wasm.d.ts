// The binaries' glue, made by wasm-bindgen from src/api (in wasm/, which is generated). Declared here, so that the
// TypeScript can be checked without a build of the crate.

interface EngineGlue {
  /** Reads the model again, onto the CPU; a running request goes on there with the next `step`. */
  fall_back(sources: object[], progress: (done: number, total: number) => void): Promise<void>;
  /** One chunk of the prompt, or one token: `Step` of src/session/types.rs. */
  step(): Promise<unknown>;
  start(request: string): void;
  abort(): unknown;
  load_adapter(id: number, weights: Uint8Array, config?: string): void;
  unload_adapter(id: number): void;
  tokenize(text: string): Uint32Array;
  detokenize(ids: Uint32Array): string;
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
  (options: { module_or_path: Promise<WebAssembly.Module> }): Promise<{ memory: WebAssembly.Memory }>;
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
