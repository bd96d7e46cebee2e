// Brings a model onto a backend: the GPU where it can be had and trusted, else the CPU, from the same bytes; and from the
// GPU to the CPU when the device is lost.

import { modelOf } from "./address.js";
import { loadWasm, type Wasm } from "./device.js";
import { loadDraft } from "./draft.js";
import { errorData, KingletError, type ErrorCode, type ErrorData } from "./errors.js";
import { findGpu, orLoss, type Gpu } from "./gpu.js";
import { LoadProgress } from "./load-progress.js";
import { Parts } from "./parts.js";
import type { FromWorker, ModelParts, PoolStart, ToWorker } from "./protocol.js";
import { ForwardSource, type ChunkReader } from "./source.js";
import { sweep } from "./spool-file.js";
import type { Store } from "./store/store.js";
import { keep, recall, type Tuning } from "./tuning.js";
import type { EngineInfo } from "./types.js";

export type Load = Extract<ToWorker, { type: "load" }>;

/** What the page is asked and told. */
export interface Page {
  send(message: FromWorker): void;
  /** The model's parts once more. */
  reopen(): Promise<ModelParts>;
  /** Starts the workers of the threads. */
  startThreads(pool: PoolStart): Promise<void>;
}

/** What another backend may cure, while the model is loaded or later. */
const OF_THE_GPU = new Set<ErrorCode>(["NO_WEBGPU", "GPU_UNTRUSTED", "DEVICE_LOST", "OUT_OF_MEMORY"]);
export class Loader {
  wasm!: Wasm;
  engine!: Awaited<ReturnType<Wasm["Engine"]["load"]>>;
  info!: EngineInfo;
  /** There is no backend left. */
  lost = false;
  #sources: ForwardSource[] = [];
  #sha256: string | undefined;
  #draft: ModelParts | undefined;
  readonly #parts: Parts;
  readonly #progress: LoadProgress;

  constructor(private readonly message: Load, private readonly page: Page) {
    this.#progress = new LoadProgress((progress) => page.send({ type: "progress", progress }));
    this.#parts = new Parts(page.send, () => this.#arrived());
  }

  /** Resolves to why the GPU was not taken, where it might have been. Throws what `failure` makes an error of, or a crash. */
  async load(): Promise<ErrorData | undefined> {
    const { parts, store, draft, backend } = this.message;
    this.#draft = draft;
    this.#progress.compiling();
    const compiled = loadWasm(this.message.wasm, this.message.threads).then((wasm) => {
      this.wasm = wasm;
      this.#progress.compiled();
    });
    const choice = this.#choose();
    this.#open(this.#parts.open(parts, store, choice.then(isGpu, () => false)));
    const [gpu] = await Promise.all([choice, compiled, ...this.#sources.map((source) => source.open())]);

    let reason = isGpu(gpu) ? undefined : gpu;
    if (isGpu(gpu)) {
      try {
        await this.#startOnGpu(gpu);
      } catch (e) {
        reason = await this.gpuFailure(e);
        if (!reason) throw e;
        if (backend === "webgpu") throw KingletError.from(reason);
        await this.#startInstead(reason);
      }
    } else await this.#start({ backend: "cpu" });

    this.#sha256 = await this.#parts.settle();
    if (parts.some((part) => part.sha256)) this.#progress.verified(this.#sources);
    await this.#loadDraft();
    await this.#describe();
    void sweep();
    void this.#parts.sweep();
    return reason;
  }

  /** The CPU takes over. Throws the reason where it cannot, and `lost` is true. */
  async fallBack(reason: ErrorData): Promise<void> {
    this.lost = true;
    if (this.info.fallback === null) throw noFallback(reason, this.info.fallbackReason ?? "");
    await this.#instead(reason, async () => {
      await this.#reopen();
      await this.#startThreads();
      await this.engine.fall_back(this.#sources, (done, total) => this.#progress.loaded(done, total));
      await this.#parts.settle();
    });
    this.lost = false;
    await this.#loadDraft(true);
    await this.#describe();
    this.page.send({ type: "backend-changed", info: this.info, reason });
  }

  /** The model's SHA-256, which was checked or computed; empty where it is not known. */
  get digest(): string {
    return this.#sha256 ?? "";
  }

  /** Where the model is kept and under which name, if it is. */
  async kept(): Promise<{ store: Store; model: string } | undefined> {
    const [first] = this.message.parts;
    const store = await this.#parts.store;
    return store && first?.cache && { store, model: modelOf(first.cache.name).model };
  }

  /** Loading has failed, and the worker ends. */
  async giveUp(error: ErrorData | undefined): Promise<void> {
    await this.#parts.reject(error?.code);
  }

  /** What a source remembers says more than what comes back out of the wasm. */
  failure(e: unknown): ErrorData | undefined {
    return errorData(this.#sources.find((source) => source.failure)?.failure ?? e);
  }

  /** What went wrong on the GPU, and might not on the CPU; nothing for any other failure. */
  async gpuFailure(e: unknown): Promise<ErrorData | undefined> {
    const error = this.failure(e);
    return error && OF_THE_GPU.has(error.code) ? orLoss(error) : undefined;
  }

  /** The GPU to try, or why "auto" does not; nothing where the CPU is asked for. */
  async #choose(): Promise<Gpu | ErrorData | undefined> {
    const { backend, testing } = this.message;
    if (backend === "cpu") return undefined;
    try {
      const gpu = await findGpu(testing);
      if (backend === "webgpu" || testing?.software || !gpu.software) return gpu;
      return { code: "NO_WEBGPU", message: `the only adapter (${gpu.options.adapter}) is a program, slower than the CPU backend; backend: "webgpu" takes it all the same` };
    } catch (e) {
      const error = errorData(e);
      if (!error) throw e;
      if (backend === "webgpu") throw new KingletError(error.code, `${error.message}; or use backend: "auto" or "cpu"`, error.details);
      return error;
    }
  }

  async #start(how: { backend: "cpu" } | { backend: "webgpu"; gpu: Gpu["options"]; tune: boolean }): Promise<void> {
    if (how.backend === "cpu") await this.#startThreads();
    const { contextLength, kvCache, chatTemplate } = this.message;
    const options = JSON.stringify({ contextLength, kvInt8: kvCache === "int8", chatTemplate, heapLimit: this.wasm.heapLimit, ...how });
    this.engine = await this.wasm.Engine.load(this.#sources, options, (done, total) => this.#progress.loaded(done, total));
  }

  async #startThreads(): Promise<void> {
    try {
      await this.wasm.startThreads((pool) => this.page.startThreads(pool));
    } catch (e) {
      this.page.send({ type: "event", event: { type: "threads-unavailable", reason: e instanceof Error ? e.message : String(e) } });
    }
  }

  /** A program that plays a GPU is not worth measuring. */
  async #startOnGpu({ options, software }: Gpu): Promise<void> {
    const tune = this.message.testing?.tune ?? !software;
    const tuning = tune ? await recall(options.adapter) : undefined;
    await this.#start({ backend: "webgpu", gpu: { ...options, tuning }, tune });
    if (tune) await keep(options.adapter, this.engine.tuning() as Tuning);
  }

  /** The GPU failed while it was loaded. */
  async #startInstead(reason: ErrorData): Promise<void> {
    await this.#instead(reason, async () => {
      const { spool } = this.#parts;
      if (spool) {
        const again = await spool.again();
        if (!again) throw new KingletError("DOWNLOAD_FAILED", `the stream cannot be read again (${spool.failure})`);
        this.#open([again]);
        await this.#start({ backend: "cpu" });
        return spool.forget();
      }
      await this.#reopen();
      await this.#start({ backend: "cpu" });
    });
  }

  async #loadDraft(late?: boolean): Promise<void> {
    if (!this.#draft) return;
    const { send } = this.page;
    if ((this.engine.info() as EngineInfo).backend === "webgpu") {
      return send({ type: "event", event: { type: "draft-unavailable", reason: "a GPU decodes several tokens ahead by itself; the draft model is for the CPU" } });
    }
    await loadDraft(this.#draft, { load: (sources, progress) => this.engine.load_draft(sources, progress), memory: () => this.wasm.memory, send, late });
  }

  async #instead(reason: ErrorData, act: () => Promise<void>): Promise<void> {
    try {
      this.#sources = [];
      await act();
    } catch (e) {
      const why = this.failure(e);
      if (!why) throw e;
      this.#sources = []; // their failure is told in this one's words
      throw noFallback(reason, why.message, why);
    }
  }

  async #describe(): Promise<void> {
    // The crate's info, and why the CPU could not hold the model.
    const { noFallback, ...info } = this.engine.info() as EngineInfo & { noFallback: string | null };
    const onGpu = info.backend === "webgpu";
    const fallbackReason = onGpu ? (noFallback ?? (await this.#unkept())) : undefined;
    const fallback = onGpu && fallbackReason === undefined ? "cpu" : null;
    this.info = { ...info, fallback, fallbackReason, sha256: this.#sha256, simd: this.wasm.simd };
  }

  /** Why a stream could not be read again; from here on it can. */
  async #unkept(): Promise<string | undefined> {
    const { spool } = this.#parts;
    const blob = await spool?.kept();
    if (blob) this.page.send({ type: "spooled", blob });
    return spool?.failure && `the model came from a stream that could not be kept: ${spool.failure}`;
  }

  async #reopen(): Promise<void> {
    const { parts, store, draft } = await this.page.reopen();
    this.#draft = draft;
    this.#open(this.#parts.open(parts, store));
  }

  #open(readers: ChunkReader[]): void {
    const { parts } = this.message;
    // What goes through a store is hashed there.
    this.#sources = readers.map((reader, i) => new ForwardSource(reader, parts[i]?.cache ? undefined : parts[i]?.sha256, () => this.wasm.memory, () => this.#arrived()));
  }

  #arrived(): void {
    this.#progress.arrived(this.#parts.arrivals(this.#sources));
  }
}

function isGpu(choice: Gpu | ErrorData | undefined): choice is Gpu {
  return choice !== undefined && "options" in choice;
}

function noFallback(reason: ErrorData, why: string, cause?: ErrorData): KingletError {
  const details = { ...reason.details, ...(cause && { cause: { code: cause.code, message: cause.message } }) };
  return new KingletError(reason.code, `${reason.message}; the CPU cannot take over: ${why}`, details);
}
