// One engine for all tabs of an origin: the tab that Web Locks elects holds it in its worker, the others ask over a channel.
// When that tab closes, the next one loads the model and goes on with what was asked.

import { createEngine } from "../engine.js";
import { aborted, badRequest, KingletError } from "../errors.js";
import { ChunkStream } from "../stream.js";
import type { Create, EmbeddingRequest, EmbeddingResponse, Engine, EngineInfo, EngineOptions, MemoryUse, RequestOptions, Stats } from "../types.js";
import { Leader, tabLock } from "./leader.js";
import { Replay } from "./replay.js";
import type { Call, Message, Piece, Value } from "./protocol.js";

/** As of `createEngine`, and a name. */
export interface SharedEngineOptions extends EngineOptions {
  /** Tabs that give the same name share an engine; they should give the same options. Default "default". */
  name?: string;
}

interface Pending {
  call: Call;
  replay: Replay;
  onPiece(piece: Piece): void;
  onDone(value: Value): void;
  onFailed(error: KingletError): void;
}

/**
 * As `createEngine`; resolves when this tab or another has loaded the model. Adapters cannot be loaded into a shared engine. Rejects with
 * BAD_REQUEST where the browser has no Web Locks (a page that is not served over https or from localhost).
 */
export async function createSharedEngine({ name = "default", ...options }: SharedEngineOptions = {}): Promise<Engine> {
  if (!globalThis.navigator?.locks || !globalThis.BroadcastChannel) throw badRequest("a shared engine", "needs Web Locks and BroadcastChannel, in a page over https or from localhost");
  if (options.model instanceof ReadableStream) throw badRequest("model", "must be something that every tab can read: no stream");
  const engine = new SharedEngine(`kinglet-engine/${name}`, options);
  try {
    await engine.ready;
  } catch (e) {
    await engine.dispose();
    throw e;
  }
  return engine;
}

class SharedEngine implements Engine {
  info!: EngineInfo;
  readonly ready: Promise<void>;
  readonly chat = { completions: { create: this.#create("chat") as Engine["chat"]["completions"]["create"] } };
  readonly completions = { create: this.#create("completions") as Engine["completions"]["create"] };
  readonly embeddings = {
    create: (body: EmbeddingRequest, { signal }: RequestOptions = {}) => this.#call({ method: "embeddings", body }, signal) as Promise<EmbeddingResponse>,
  };
  readonly #id = crypto.randomUUID();
  readonly #channel: BroadcastChannel;
  readonly #disposed = new AbortController();
  readonly #pending = new Map<number, Pending>();
  #leader: Leader | undefined;
  /** Of the tab that leads. */
  #leaderId: string | undefined;
  /** While it waits to lead, and while it does. */
  #standing: Promise<void> | undefined;
  #disposal: Promise<void> | undefined;
  #next = 1;
  #stats: Stats | undefined;
  #settle!: { resolve(): void; reject(error: unknown): void };

  constructor(private readonly name: string, private readonly options: EngineOptions) {
    this.ready = new Promise((resolve, reject) => (this.#settle = { resolve, reject }));
    this.#channel = new BroadcastChannel(name);
    this.#channel.onmessage = ({ data }: MessageEvent<Message>) => this.#hear(data);
    options.signal?.addEventListener("abort", () => {
      this.#settle.reject(aborted(options.signal));
      void this.dispose();
    }, { once: true });
    // As long as this tab is there; the leader notices when it is not.
    const { signal } = this.#disposed;
    void navigator.locks.request(tabLock(name, this.#id), () => ended(signal));
    this.#standing = this.#stand();
    this.#post({ type: "hello" });
  }

  tokenize(text: string): Promise<number[]> {
    return this.#call({ method: "tokenize", argument: text }) as Promise<number[]>;
  }

  detokenize(ids: readonly number[]): Promise<string> {
    return this.#call({ method: "detokenize", argument: [...ids] }) as Promise<string>;
  }

  memory(): Promise<MemoryUse> {
    return this.#call({ method: "memory" }) as Promise<MemoryUse>;
  }

  /** Of the last run that this tab asked for. */
  stats(): Stats | undefined {
    return this.#stats && { ...this.#stats };
  }

  loadAdapter = (): Promise<number> => Promise.reject(badRequest("loadAdapter", "is not for a shared engine; use createEngine"));
  unloadAdapter = (): Promise<void> => Promise.reject(badRequest("unloadAdapter", "is not for a shared engine; use createEngine"));

  dispose(): Promise<void> {
    return (this.#disposal ??= this.#dispose());
  }

  async #dispose(): Promise<void> {
    this.#disposed.abort();
    for (const id of [...this.#pending.keys()]) this.#fail(id, disposed());
    await this.#standing;
    this.#channel.close();
  }

  /** Waits to lead; leads until this tab or its engine is gone. */
  async #stand(): Promise<void> {
    const { signal } = this.#disposed;
    try {
      await navigator.locks.request(this.name, { signal }, async () => {
        const given = this.options.signal;
        const engine = await createEngine({ ...this.options, signal: given ? AbortSignal.any([given, signal]) : signal });
        try {
          this.#leader = new Leader(this.name, this.#id, engine, (message) => this.#post(message));
          this.#follow(this.#id, engine.info);
          await ended(signal);
        } finally {
          await engine.dispose();
        }
      });
    } catch (e) {
      this.#standing = undefined;
      if (signal.aborted) return;
      // This tab cannot; another may, or this one when it is next asked.
      this.#leaderId = undefined;
      this.#settle.reject(e);
      for (const id of [...this.#pending.keys()]) this.#fail(id, e instanceof KingletError ? e : new KingletError("ENGINE_CRASHED", String(e), {}, e));
    }
  }

  /** To another tab, to all of them, or to this one. */
  #post(message: Message): void {
    if (this.#disposed.signal.aborted) return;
    if ("to" in message && message.to === this.#id) queueMicrotask(() => this.#hear(message));
    else this.#channel.postMessage(message);
  }

  #hear(message: Message): void {
    if (this.#disposed.signal.aborted) return;
    this.#leader?.hear(message);
    if (message.type === "leader") return this.#follow(message.leader, message.info);
    if (!("to" in message) || message.to !== this.#id) return;
    if (message.type === "piece") this.#pending.get(message.id)?.onPiece(message.piece);
    if (message.type === "failed") this.#fail(message.id, Object.assign(KingletError.from(message.error), { text: message.error.text, ids: message.error.ids }));
    if (message.type === "done") {
      this.#stats = message.stats ?? this.#stats;
      const pending = this.#pending.get(message.id);
      this.#pending.delete(message.id);
      pending?.onDone(message.value);
    }
  }

  /** What a leader that is gone has not answered is asked of the new one. */
  #follow(leader: string, info: EngineInfo): void {
    this.info = info;
    this.#settle.resolve();
    if (this.#leaderId === leader) return;
    this.#leaderId = leader;
    for (const [id, { call, replay }] of this.#pending) {
      replay.restart();
      this.#post({ type: "call", to: leader, from: this.#id, id, call });
    }
  }

  #start(call: Call, handlers: Omit<Pending, "call" | "replay">, signal?: AbortSignal): Replay {
    if (this.#disposed.signal.aborted) throw disposed();
    if (signal?.aborted) throw aborted(signal);
    const id = this.#next++;
    const replay = new Replay();
    this.#pending.set(id, { call, replay, ...handlers });
    signal?.addEventListener("abort", () => {
      if (!this.#pending.has(id)) return;
      if (this.#leaderId) this.#post({ type: "abort", to: this.#leaderId, from: this.#id, id });
      this.#fail(id, aborted(signal));
    }, { once: true });
    if (this.#leaderId) this.#post({ type: "call", to: this.#leaderId, from: this.#id, id, call });
    this.#standing ??= this.#stand();
    return replay;
  }

  #fail(id: number, error: KingletError): void {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    if (pending) error.text ??= pending.replay.text;
    pending?.onFailed(error);
  }

  async #call(call: Call, signal?: AbortSignal): Promise<Value> {
    return new Promise((resolve, reject) => this.#start(call, { onPiece() {}, onDone: resolve, onFailed: reject }, signal));
  }

  #create(method: "chat" | "completions"): Create<Record<string, unknown>, Value, Piece> {
    return (async (given: Record<string, unknown>, { signal }: RequestOptions = {}) => {
      const { stream, seed, ...rest } = given;
      // One that is given, so that another tab's engine would choose the same tokens.
      const body = { ...rest, seed: seed ?? crypto.getRandomValues(new Uint32Array(1))[0] };
      if (stream !== true) return this.#call({ method, body, stream: false }, signal);
      return this.#stream({ method, body, stream: true }, signal);
    }) as Create<Record<string, unknown>, Value, Piece>;
  }

  /** Resolves with the first piece, as an engine does when it has accepted the request. */
  #stream(call: Call, signal: AbortSignal | undefined): Promise<ChunkStream<Piece>> {
    return new Promise((resolve, reject) => {
      const controller = new AbortController();
      if (signal?.aborted) controller.abort(signal.reason);
      signal?.addEventListener("abort", () => controller.abort(signal.reason), { once: true });
      const stream = new ChunkStream<Piece>(controller);
      const replay = this.#start(call, {
        onPiece: (piece) => {
          resolve(stream);
          try {
            const news = replay.take(piece);
            if (news) stream.push(news);
          } catch (e) {
            controller.abort();
            stream.fail(e);
          }
        },
        onDone: () => {
          resolve(stream);
          stream.end();
        },
        onFailed: (error) => {
          stream.fail(error);
          reject(error);
        },
      }, controller.signal);
    });
  }
}

function ended(signal: AbortSignal): Promise<unknown> {
  return new Promise((resolve) => (signal.aborted ? resolve(undefined) : signal.addEventListener("abort", resolve, { once: true })));
}

function disposed(): KingletError {
  return new KingletError("DISPOSED", "the engine was disposed; create a new one");
}
