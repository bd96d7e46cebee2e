// Which model is loaded, one at a time. A new one ends the loading or running of the old one and frees its memory first. Knows no page.

import { createEngine, type Engine, type EngineOptions, type KingletError, type Progress } from "kinglet";
import { catalog } from "kinglet/catalog";
import { guard, TooLarge } from "./guard.js";

/** Of the package's own model: with it the engine can tell a calibration's file. */
declare const EMBEDDED_SHA256: string;

/** Where a model comes from. `url`: whatever `createEngine` takes as a name: an address, a name of the catalogue, "hf:...", "local:...". */
export type Source = ({ kind: "embedded" } | { kind: "file"; files: File[] } | { kind: "url"; url: string }) & {
  /** The person was told that it may be too much, and wants it. */
  force?: boolean;
};

export const EMBEDDED: Source = { kind: "embedded" };

export interface Watcher {
  /** It is looked at before anything is loaded. */
  onChecking(source: Source): void;
  /** It is too much for this device; what ran goes on. */
  onRefused(source: Source, error: TooLarge): void;
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
  #checking = new AbortController();
  #checked: Promise<void> = Promise.resolve();
  #loading: Promise<Engine> | undefined;
  #abort = new AbortController();
  /** The last source that worked. */
  #proven: Source | undefined;

  /**
   * @param hub where the catalogue's files come from, if not from the Hugging Face Hub
   * @param chatTemplate as `createEngine` takes it
   */
  constructor(watcher: Watcher, private readonly hub?: string, private readonly chatTemplate?: EngineOptions["chatTemplate"]) {
    this.#watcher = watcher;
  }

  load(source: Source): void {
    this.#checking.abort();
    const { signal } = (this.#checking = new AbortController());
    this.#watcher.onChecking(source);
    this.#checked = guard(source, this.hub, signal).then(
      () => signal.aborted || this.#replace(source),
      (error: unknown) => {
        if (signal.aborted) return;
        if (!(error instanceof TooLarge)) return this.#replace(source);
        this.#watcher.onRefused(source, error);
        if (!this.#loading) this.#replace(EMBEDDED);
      },
    ).then(() => {});
  }

  /** Ends the looking or loading; what was downloaded is kept. The model before comes back. */
  cancel(): void {
    this.#checking.abort();
    if (this.#loading) this.#abort.abort();
    else this.#replace(EMBEDDED);
  }

  /** The engine of the newest source, once it is loaded. */
  async engine(): Promise<Engine> {
    for (;;) {
      const checked = this.#checked;
      await checked;
      const loading = this.#loading;
      if (checked !== this.#checked) continue;
      if (!loading) throw new Error("no model was chosen");
      try {
        return await loading;
      } catch (error) {
        if (this.#loading === loading && checked === this.#checked) throw error; // else the fallback, or a newer choice, is loading by now
      }
    }
  }

  #replace(source: Source): void {
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
        if (worthIt) this.#replace(fallback);
      },
    );
  }

  async #start(source: Source, previous: Promise<Engine> | undefined, signal: AbortSignal): Promise<Engine> {
    this.#watcher.onLoading(source);
    await previous?.then((engine) => engine.dispose()).catch(() => {}); // whatever became of it is no longer of interest
    signal.throwIfAborted();
    let ready = false;
    const engine = await createEngine({
      model: modelOf(source),
      ...(source.kind === "embedded" ? { sha256: EMBEDDED_SHA256 } : {}),
      ...(this.hub ? { hub: this.hub } : {}),
      ...(this.chatTemplate ? { chatTemplate: this.chatTemplate } : {}),
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

/** As `createEngine` and `inspect` take it. */
export function modelOf(source: Source): string | File | File[] | undefined {
  return source.kind === "file" ? parts(source.files) : source.kind === "url" ? source.url : undefined;
}

/** The parts of a split file go in order. */
function parts(files: File[]): File | File[] {
  const sorted = [...files].sort((a, b) => a.name.localeCompare(b.name));
  return sorted.length === 1 ? sorted[0]! : sorted;
}

/** Of the catalogue, where it is one of its names or files. */
export function catalogued(name: string) {
  const [id, quantization] = name.toLowerCase().split(":");
  for (const model of catalog) {
    const named = model.id === id && (quantization === undefined ? model.files[0] : model.files.find((file) => file.quantization.toLowerCase() === quantization));
    const file = named || model.files.find(({ repository, file }) => name === `hf:${repository}/${file}`);
    if (file) return { model, file };
  }
  return undefined;
}

export function nameOf(source: Source, engine?: Engine): string {
  const known = source.kind === "url" ? catalogued(source.url) : undefined;
  if (known) return known.model.name;
  if (engine?.info.name) return engine.info.name;
  if (source.kind === "file") return source.files[0]?.name ?? "file";
  if (source.kind === "url") return decodeURIComponent(source.url.split(/[?#]/)[0]!.split(/[/:]/).pop() ?? "") || source.url;
  return "built-in model";
}

export const codeOf = (error: unknown): KingletError["code"] | undefined => (error as Partial<KingletError> | null)?.code;
