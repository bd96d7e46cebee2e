// The page's end of one worker: starts it, sends, and tells a crash from an answer.

import { KingletError, type ErrorData } from "./errors.js";
import { Outbox } from "./mail.js";
import { PoolHost } from "./pool-host.js";
import { checkPrefix } from "./request.js";
import type { Call, FromWorker, PoolStart, Reply, ToWorker, WasmUrls } from "./protocol.js";
import { resolveUrl } from "./address.js";
import type { Model } from "./model.js";
import type { EngineEvent, EngineInfo, EngineOptions, Progress } from "./types.js";

export interface HostEvents {
  onProgress(progress: Progress): void;
  onEvent(event: EngineEvent): void;
  /** Another backend took over, after loading. */
  onInfo(info: EngineInfo): void;
  /** Of a run: started, tokens, done, embedded, aborted, rejected. */
  onRun(message: Extract<FromWorker, { type: "started" | "tokens" | "done" | "embedded" | "aborted" | "rejected" }>): void;
  /** The wasm trapped or the worker died; the host is closed. */
  onCrash(error: KingletError): void;
}

export const NO_SCRIPT = "its script could not be loaded; check that worker.js is served beside index.js, or pass { worker }";

export class Host {
  readonly info: Promise<EngineInfo>;
  #worker: Worker;
  #outbox: Outbox;
  #pool: PoolHost | undefined;
  /** Where the worker's was said to be. */
  #script: URL | undefined;
  #closeModel: () => void;
  #settleLoad!: { resolve(info: EngineInfo): void; reject(error: KingletError): void };
  #calls = new Map<number, { resolve(value: Reply): void; reject(error: KingletError): void }>();
  #nextCall = 1;
  #loaded = false;
  /** Why it is closed. */
  #closed: KingletError | undefined;

  constructor(private readonly model: Model, options: EngineOptions, private readonly events: HostEvents) {
    const { transfer, close, ...parts } = model.open();
    this.#closeModel = close;
    this.info = new Promise((resolve, reject) => (this.#settleLoad = { resolve, reject }));
    this.#worker = startWorker(options.worker);
    this.#outbox = new Outbox(this.#worker);
    this.#script = typeof options.worker === "function" || options.worker === undefined ? undefined : resolveUrl(options.worker, "worker");
    this.#worker.onmessage = ({ data }: MessageEvent<FromWorker>) => this.#receive(data);
    this.#worker.onmessageerror = () => this.#crash("a message could not be read");
    this.#worker.onerror = (e) => {
      e.preventDefault();
      this.#crash(e.message || NO_SCRIPT);
    };
    const { threads, contextLength, kvCache, chatTemplate, backend = "auto", prefix, testing } = options;
    const load: ToWorker = { type: "load", ...parts, posted: this.#outbox.posted, wasm: wasmUrls(options.wasmUrl), threads, contextLength, kvCache, chatTemplate, backend, prefix: prefix && checkPrefix(prefix), testing };
    this.#outbox.post(load, transfer);
  }

  send(message: ToWorker, transfer: Transferable[] = []): void {
    if (!this.#closed) this.#outbox.post(message, transfer);
  }

  call(call: Call, transfer?: Transferable[]): Promise<Reply> {
    if (this.#closed) return Promise.reject(this.#closed);
    const id = this.#nextCall++;
    return new Promise((resolve, reject) => {
      this.#calls.set(id, { resolve, reject });
      this.send({ type: "call", id, call }, transfer);
    });
  }

  /** Ends the worker at once, whatever it is doing; its memory goes with it. */
  close(error: KingletError): void {
    if (this.#closed) return;
    this.#closed = error;
    this.#worker.onmessage = this.#worker.onerror = this.#worker.onmessageerror = null;
    this.#worker.terminate();
    this.#pool?.close();
    this.#closeModel();
    this.#settleLoad.reject(error);
    for (const call of this.#calls.values()) call.reject(error);
    this.#calls.clear();
  }

  #receive(message: FromWorker): void {
    switch (message.type) {
      case "progress":
        return this.events.onProgress(message.progress);
      case "event":
        return this.events.onEvent(message.event);
      case "persist":
        return persist();
      case "reopen":
        return this.#reopen();
      case "threads":
        return this.#startThreads(message.pool);
      case "spooled":
        return this.model.keep(message.blob);
      case "loaded":
        this.#loaded = true;
        this.#closeModel();
        if (message.reason) this.#changed(message.reason);
        return this.#settleLoad.resolve(message.info);
      case "backend-changed":
        this.#closeModel();
        this.events.onInfo(message.info);
        return this.#changed(message.reason);
      case "failed":
        return this.close(KingletError.from(message.error));
      case "crashed":
        return this.#crash(message.message);
      case "result":
        this.#calls.get(message.id)?.resolve(message.value);
        return void this.#calls.delete(message.id);
      case "refused":
        this.#calls.get(message.id)?.reject(KingletError.from(message.error));
        return void this.#calls.delete(message.id);
      default:
        return this.events.onRun(message);
    }
  }

  #reopen(): void {
    this.#closeModel();
    try {
      const { transfer, close, ...parts } = this.model.open();
      this.#closeModel = close;
      this.#outbox.post({ type: "parts", ...parts }, transfer);
    } catch (e) {
      const error = e instanceof KingletError ? e.toData() : { code: "DOWNLOAD_FAILED" as const, message: String(e) };
      this.send({ type: "unreadable", error });
    }
  }

  #startThreads(pool: PoolStart): void {
    this.#pool = new PoolHost(pool, this.#script);
    this.#pool.started.then(
      () => this.send({ type: "threads" }),
      (e) => this.send({ type: "threads", failure: e instanceof Error ? e.message : String(e) }),
    );
  }

  #changed(reason: ErrorData): void {
    this.events.onEvent({ type: "backend-changed", from: "webgpu", to: "cpu", reason: KingletError.from(reason) });
  }

  #crash(reason: string): void {
    const what = this.#loaded ? "the engine crashed" : "the engine crashed while it loaded the model";
    const advice = this.#loaded ? "the next request starts a fresh one" : "a smaller model or contextLength needs less memory";
    const error = new KingletError("ENGINE_CRASHED", `${what}: ${reason}; ${advice}`, { reason });
    this.close(error);
    this.events.onCrash(error);
  }
}

/** Workers cannot ask. Whether the browser grants it, and when, changes nothing for the download. */
export function persist(): void {
  navigator.storage?.persist?.().catch(() => {});
}

export function startWorker(worker: EngineOptions["worker"]): Worker {
  if (typeof worker === "function") return worker();
  if (worker !== undefined) return new Worker(resolveUrl(worker, "worker"), { type: "module", name: "kinglet" });
  return new Worker(new URL("./worker.js", import.meta.url), { type: "module", name: "kinglet" });
}

export function wasmUrls(option: EngineOptions["wasmUrl"]): WasmUrls {
  if (option === undefined) return {};
  const href = (url: string | URL | undefined) => (url === undefined ? undefined : resolveUrl(url, "wasmUrl").href);
  if (typeof option === "string" || option instanceof URL) return { simd: href(option), relaxed: href(option) };
  return { simd: href(option.simd), relaxed: href(option.relaxed), threads: href(option.threads), grammar: href(option.grammar) };
}
