// The engine: one worker, one queue. Requests run one after the other; a crash costs the pending ones, not the engine.

import { Adapters } from "./adapters.js";
import { aborted, badRequest, KingletError } from "./errors.js";
import { createChat, createCompletions } from "./chat.js";
import { createEmbeddings } from "./embeddings.js";
import { Host } from "./host.js";
import { resolveModel, type Model } from "./model.js";
import { checkPrefix } from "./request.js";
import type { Embedded, EngineRequest, Finish, FromWorker, Token } from "./protocol.js";
import type { AdapterOptions, AdapterSource, Engine, EngineInfo, EngineOptions, MemoryUse, Stats } from "./types.js";

/** What a run tells whoever asked for it. After `onEnd` or `onError` nothing follows. */
export interface RunListener {
  onStart(): void;
  onTokens(tokens: Token[]): void;
  onEnd(finish: Finish): void;
  /** In place of `onEnd`, where embeddings were asked for. */
  onEmbedded?(embeddings: Embedded[]): void;
  onError(error: KingletError): void;
}

/** What `chat.ts` needs of an engine. */
export interface Runner {
  readonly info: EngineInfo;
  report(option: string): void;
  run(request: EngineRequest, listener: RunListener, signal: AbortSignal): void;
}

interface Job {
  id: number;
  request: EngineRequest;
  listener: RunListener;
  settled: boolean;
  unlisten(): void;
}

type RunMessage = Extract<FromWorker, { type: "started" | "tokens" | "done" | "embedded" | "aborted" | "rejected" }>;

/** Loads a model into a worker. Resolves when it can be asked; rejects with a `KingletError` that says what to do. */
export async function createEngine(options: EngineOptions = {}): Promise<Engine> {
  checkOptions(options);
  if (options.signal?.aborted) throw aborted(options.signal);
  const engine = new QueuedEngine(resolveModel(options), options);
  await engine.load();
  return engine;
}

/** That may be asked for. */
const MOST_THREADS = 64;

function checkOptions(options: EngineOptions): void {
  if (typeof Worker === "undefined" && typeof options.worker !== "function") {
    throw new KingletError("BAD_REQUEST", "there is no Worker here: an engine runs in a browser. On a server import the package, and create the engine in the browser; in a service worker, create it in a page");
  }
  const { backend = "auto", kvCache = "f16", chatTemplate = "file", contextLength, threads, prefix } = options;
  if (!["auto", "webgpu", "cpu"].includes(backend)) throw badRequest("backend", 'must be "auto", "webgpu" or "cpu"');
  if (!["f16", "int8"].includes(kvCache)) throw badRequest("kvCache", 'must be "f16" or "int8"');
  if (typeof chatTemplate !== "string") throw badRequest("chatTemplate", 'must be "file", "family", a family\'s name or a template\'s text');
  if (threads !== undefined && !(Number.isSafeInteger(threads) && threads > 0 && threads <= MOST_THREADS)) {
    throw badRequest("threads", `must be an integer from 1 to ${MOST_THREADS}`);
  }
  if (prefix !== undefined) checkPrefix(prefix);
  if (contextLength !== undefined && !(Number.isSafeInteger(contextLength) && contextLength > 0)) {
    throw badRequest("contextLength", "must be a positive integer");
  }
}

class QueuedEngine implements Engine, Runner {
  info!: EngineInfo;
  readonly chat = { completions: { create: createChat(this) } };
  readonly completions = { create: createCompletions(this) };
  readonly embeddings = { create: createEmbeddings(this) };
  #host: Host | undefined;
  #adapters = new Adapters(() => this.#running());
  /** The host's model and adapters are loaded. */
  #ready: Promise<void> = Promise.resolve();
  #disposed = false;
  #queue: Job[] = [];
  #current: Job | undefined;
  #nextId = 1;
  #stats: Stats | undefined;

  constructor(private readonly model: Model, private readonly options: EngineOptions) {}

  async load(): Promise<void> {
    const { signal } = this.options;
    const host = this.#start();
    const abort = () => host.close(aborted(signal));
    signal?.addEventListener("abort", abort, { once: true });
    try {
      this.info = await host.info;
    } catch (e) {
      void this.model.dispose();
      throw e;
    } finally {
      signal?.removeEventListener("abort", abort);
    }
    this.#progress("ready");
  }

  run(request: EngineRequest, listener: RunListener, signal: AbortSignal): void {
    const job: Job = { id: this.#nextId++, request, listener, settled: false, unlisten: () => signal.removeEventListener("abort", abort) };
    const abort = () => this.#abort(job, aborted(signal));
    if (this.#disposed) return this.#fail(job, disposed());
    if (signal.aborted) return abort();
    signal.addEventListener("abort", abort, { once: true });
    this.#queue.push(job);
    void this.#pump();
  }

  report(option: string): void {
    this.options.onEvent?.({ type: "option-ignored", option });
  }

  async tokenize(text: string): Promise<number[]> {
    if (typeof text !== "string") throw badRequest("text", "must be a string");
    return (await (await this.#running()).call({ method: "tokenize", argument: text })) as number[];
  }

  async detokenize(ids: readonly number[]): Promise<string> {
    const { vocabulary } = this.info;
    const known = (id: unknown) => Number.isInteger(id) && (id as number) >= 0 && (id as number) < vocabulary;
    if (!Array.isArray(ids) || !ids.every(known)) throw badRequest("ids", `must be a list of token ids from 0 to ${vocabulary - 1}`);
    return (await (await this.#running()).call({ method: "detokenize", argument: [...ids] })) as string;
  }

  loadAdapter = (source: AdapterSource, options: AdapterOptions = {}): Promise<number> => this.#adapters.load(source, options);
  unloadAdapter = (id: number): Promise<void> => this.#adapters.unload(id);

  stats(): Stats | undefined {
    return this.#stats && { ...this.#stats };
  }

  async memory(): Promise<MemoryUse> {
    return (await (await this.#running()).call({ method: "memory" })) as MemoryUse;
  }

  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#host?.close(disposed());
    this.#failAll(disposed());
    await this.model.dispose();
  }

  #start(): Host {
    const host: Host = new Host(this.model, this.options, {
      onProgress: (progress) => this.options.onProgress?.(progress),
      onEvent: (event) => this.options.onEvent?.(event),
      onInfo: (info) => (this.info = info),
      onRun: (message) => this.#receive(message),
      onCrash: (error) => {
        if (this.#host === host) this.#host = undefined;
        this.#failAll(error);
        this.options.onEvent?.({ type: "engine-crashed", error });
      },
    });
    this.#ready = host.info.then(() => this.#adapters.restore(host));
    this.#ready.catch(() => {}); // told to whoever waits for it
    return (this.#host = host);
  }

  /** The worker, a fresh one after a crash. */
  async #running(): Promise<Host> {
    if (this.#disposed) throw disposed();
    const running = this.#host;
    const host = running ?? this.#start();
    try {
      await this.#ready;
    } catch (e) {
      if (this.#host === host && !running) this.#host = undefined;
      throw e;
    }
    if (!running) this.options.onEvent?.({ type: "engine-restarted" });
    return host;
  }

  async #pump(): Promise<void> {
    if (this.#current) return;
    const job = (this.#current = this.#queue.shift());
    if (!job) return;
    try {
      const host = await this.#running();
      if (job.settled) this.#next(job);
      else host.send({ type: "run", id: job.id, request: job.request });
    } catch (e) {
      this.#fail(job, e instanceof KingletError ? e : new KingletError("ENGINE_CRASHED", String(e), {}, e));
      this.#next(job);
    }
  }

  #next(done: Job): void {
    if (this.#current === done) this.#current = undefined;
    void this.#pump();
  }

  #receive(message: RunMessage): void {
    const job = this.#current;
    if (!job || job.id !== message.id) return;
    switch (message.type) {
      case "started":
        if (!job.settled) job.listener.onStart();
        return;
      case "tokens":
        if (!job.settled) job.listener.onTokens(message.tokens);
        return;
      case "done":
        this.#stats = message.finish.stats;
        if (!job.settled) {
          this.#settle(job);
          job.listener.onEnd(message.finish);
        }
        return this.#next(job);
      case "embedded":
        if (!job.settled) {
          this.#settle(job);
          job.listener.onEmbedded?.(message.embeddings);
        }
        return this.#next(job);
      case "aborted":
        if (message.stats) this.#stats = message.stats;
        return this.#next(job);
      case "rejected": {
        const error = KingletError.from(message.error);
        // The next request starts afresh.
        if (message.lost) {
          this.#host?.close(error);
          this.#host = undefined;
        }
        this.#fail(job, error);
        return this.#next(job);
      }
    }
  }

  /** The caller hears of it at once; the worker stops after the token it is computing. */
  #abort(job: Job, error: KingletError): void {
    this.#fail(job, error);
    const queued = this.#queue.indexOf(job);
    if (queued >= 0) this.#queue.splice(queued, 1);
    else if (this.#current === job) this.#host?.send({ type: "abort", id: job.id });
  }

  #settle(job: Job): void {
    job.settled = true;
    job.unlisten();
  }

  #fail(job: Job, error: KingletError): void {
    if (job.settled) return;
    this.#settle(job);
    job.listener.onError(error);
  }

  #failAll(error: KingletError): void {
    const jobs = [...(this.#current ? [this.#current] : []), ...this.#queue];
    this.#current = undefined;
    this.#queue = [];
    // Each its own error, for each carries its own text.
    for (const job of jobs) this.#fail(job, new KingletError(error.code, error.message, error.details));
  }

  #progress(phase: "ready"): void {
    this.options.onProgress?.({ phase, loaded: 1, total: 1 });
  }
}

function disposed(): KingletError {
  return new KingletError("DISPOSED", "the engine was disposed; create a new one");
}
