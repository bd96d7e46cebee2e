// Which model is loaded, one at a time. A new one ends the loading or running of the old one and frees its memory first.

import { createEngine, type Engine, type KingletError, type Progress } from "kinglet";

/** Where a model comes from. */
export type Source = { kind: "embedded" } | { kind: "file"; files: File[] } | { kind: "url"; url: string };

export const EMBEDDED: Source = { kind: "embedded" };

export interface Watcher {
  onLoading(source: Source): void;
  onProgress(source: Source, progress: Progress): void;
  onReady(source: Source, engine: Engine): void;
  /** `fallback` is what is loaded instead, if there is something. */
  onFailed(source: Source, error: unknown, fallback: Source | undefined): void;
  /** The engine crashed and was restarted, and the like. */
  onEvent(message: string): void;
  /** It runs elsewhere now: `engine.info` says where. */
  onMoved(source: Source): void;
}

export class Models {
  #watcher: Watcher;
  #loading: Promise<Engine> | undefined;
  #abort = new AbortController();
  /** The last source that worked. */
  #proven: Source | undefined;

  constructor(watcher: Watcher) {
    this.#watcher = watcher;
  }

  load(source: Source): void {
    this.#abort.abort();
    this.#abort = new AbortController();
    const loading = this.#start(source, this.#loading, this.#abort.signal);
    this.#loading = loading;
    loading.then(
      (engine) => {
        if (this.#loading !== loading) return;
        this.#proven = source;
        this.#watcher.onReady(source, engine);
      },
      (error: unknown) => {
        if (this.#loading !== loading) return;
        const fallback = [this.#proven, EMBEDDED].find((other) => other && other !== source);
        const worthIt = fallback && source.kind !== "embedded";
        this.#proven = undefined;
        this.#watcher.onFailed(source, error, worthIt ? fallback : undefined);
        if (worthIt) this.load(fallback);
      },
    );
  }

  /** The engine of the newest source, once it is loaded. */
  async engine(): Promise<Engine> {
    for (;;) {
      const loading = this.#loading;
      if (!loading) throw new Error("no model was chosen");
      try {
        return await loading;
      } catch (error) {
        if (this.#loading === loading) throw error; // else the fallback, or a newer choice, is loading by now
      }
    }
  }

  async #start(source: Source, previous: Promise<Engine> | undefined, signal: AbortSignal): Promise<Engine> {
    this.#watcher.onLoading(source);
    await previous?.then((engine) => engine.dispose()).catch(() => {}); // whatever became of it is no longer of interest
    signal.throwIfAborted();
    let ready = false;
    const engine = await createEngine({
      model: source.kind === "file" ? parts(source.files) : source.kind === "url" ? source.url : undefined,
      signal,
      onProgress: (progress) => {
        if (!signal.aborted) this.#watcher.onProgress(source, progress);
      },
      onEvent: (event) => {
        if (event.type === "engine-restarted") this.#watcher.onEvent("The engine was restarted.");
        if (event.type === "download-resumed") this.#watcher.onEvent("The connection was cut; the download goes on where it stopped.");
        if (event.type === "backend-changed" && ready) {
          this.#watcher.onEvent("The GPU failed; the CPU goes on.");
          this.#watcher.onMoved(source);
        }
      },
    });
    ready = true;
    return engine;
  }
}

/** The parts of a split file go in order. */
function parts(files: File[]): File | File[] {
  const sorted = [...files].sort((a, b) => a.name.localeCompare(b.name));
  return sorted.length === 1 ? sorted[0]! : sorted;
}

export function nameOf(source: Source, engine?: Engine): string {
  if (engine?.info.name) return engine.info.name;
  if (source.kind === "file") return source.files[0]?.name ?? "file";
  if (source.kind === "url") return decodeURIComponent(source.url.split(/[?#]/)[0]!.split("/").pop() ?? "") || source.url;
  return "built-in model";
}

export const codeOf = (error: unknown): KingletError["code"] | undefined => (error as Partial<KingletError> | null)?.code;
