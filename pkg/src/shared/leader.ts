// The tab that holds the engine: it answers its own questions and the other tabs'.

import { KingletError } from "../errors.js";
import type { Engine } from "../types.js";
import type { Call, Failure, Message, Piece, Value } from "./protocol.js";

/** What a tab holds as long as it is there. */
export function tabLock(name: string, tab: string): string {
  return `${name}/${tab}`;
}

export class Leader {
  readonly #running = new Map<string, AbortController>();
  readonly #watched = new Set<string>();

  constructor(private readonly name: string, readonly id: string, readonly engine: Engine, private readonly post: (message: Message) => void) {
    this.announce();
  }

  announce(): void {
    this.post({ type: "leader", leader: this.id, info: this.engine.info });
  }

  hear(message: Message): void {
    if (message.type === "hello") this.announce();
    if (message.type === "call" && message.to === this.id) void this.#serve(message.from, message.id, message.call);
    if (message.type === "abort" && message.to === this.id) this.#running.get(`${message.from}/${message.id}`)?.abort();
  }

  /** Nobody waits for the answers to a tab that was closed. */
  async #watch(tab: string): Promise<void> {
    if (this.#watched.has(tab)) return;
    this.#watched.add(tab);
    await navigator.locks.request(tabLock(this.name, tab), () => {
      for (const [key, controller] of this.#running) if (key.startsWith(`${tab}/`)) controller.abort();
    });
    this.#watched.delete(tab);
  }

  async #serve(to: string, id: number, call: Call): Promise<void> {
    if (to !== this.id) void this.#watch(to);
    const key = `${to}/${id}`;
    const controller = new AbortController();
    this.#running.set(key, controller);
    try {
      const value = await this.#answer(call, controller.signal, (piece) => this.post({ type: "piece", to, id, piece }));
      this.post({ type: "done", to, id, value, stats: this.engine.stats() });
    } catch (e) {
      this.post({ type: "failed", to, id, error: failure(e) });
    } finally {
      this.#running.delete(key);
    }
  }

  async #answer(call: Call, signal: AbortSignal, tell: (piece: Piece) => void): Promise<Value> {
    const { engine } = this;
    switch (call.method) {
      case "embeddings":
        return engine.embeddings.create(call.body, { signal });
      case "tokenize":
        return engine.tokenize(call.argument);
      case "detokenize":
        return engine.detokenize(call.argument);
      case "memory":
        return engine.memory();
      default: {
        const { create } = call.method === "chat" ? engine.chat.completions : engine.completions;
        const reply = await (create as (body: object, options: object) => Promise<unknown>)({ ...call.body, stream: call.stream }, { signal });
        if (!call.stream) return reply as Value;
        for await (const piece of reply as AsyncIterable<Piece>) tell(piece);
        return undefined;
      }
    }
  }
}

function failure(e: unknown): Failure {
  if (e instanceof KingletError) return { ...e.toData(), text: e.text, ids: e.ids };
  return { code: "ENGINE_CRASHED", message: String(e) };
}
