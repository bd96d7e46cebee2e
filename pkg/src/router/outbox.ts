// Questions that wait for the cloud: it was wanted, and could not be reached.

import { KingletError } from "../errors.js";
import type { Store } from "./store.js";
import type { Answer, Ask, AskRequest, Outbox, OutboxEntry, OutboxOptions } from "./types.js";

const KEY = "outbox";
/** What passes. All else is decided: by the user, by the privacy settings, by the budget, by the server. */
const PASSES = /^(offline|breaker|network|stalled|cut|http-(408|425|429|5\d\d))$/;
/** What a question may wait for longer. */
const WAITS = /^(auth|budget|storage)$/;

export class WaitingRoom implements Outbox {
  /** Of an outbox that is not to be persisted. */
  #own: OutboxEntry[] = [];

  constructor(
    private readonly store: Store,
    private readonly options: OutboxOptions | undefined,
    private readonly ask: (request: AskRequest) => Ask,
    private readonly onError: (error: unknown) => void,
  ) {}

  /** The id under which the question waits, if it does. */
  put(request: AskRequest, wanted: string, blockedBy: string): string | undefined {
    if (!this.options || !PASSES.test(blockedBy)) return undefined;
    const entry = { id: crypto.randomUUID(), at: Date.now(), request, wanted, blockedBy };
    void this.#change((entries) => [...entries, entry]);
    return entry.id;
  }

  list(): Promise<OutboxEntry[]> {
    return this.store.locked(KEY, () => this.#read());
  }

  remove(id: string): Promise<void> {
    return this.#change((entries) => entries.filter((entry) => entry.id !== id));
  }

  async flush(): Promise<void> {
    await this.store.ifFree("outbox-flush", async () => {
      for (const entry of await this.list()) {
        if (!(await this.#deliver(entry))) return;
      }
    });
  }

  /** False: the cloud cannot be reached now. */
  async #deliver(entry: OutboxEntry): Promise<boolean> {
    let answer: Answer;
    try {
      // It has its local answer.
      answer = await this.ask({ ...entry.request, mode: "only-cloud" }).answer;
    } catch (e) {
      const blockedBy = e instanceof KingletError ? String(e.details.blockedBy) : "";
      if (PASSES.test(blockedBy)) return false;
      if (!WAITS.test(blockedBy) && e instanceof KingletError && e.code === "NO_ANSWER") await this.remove(entry.id);
      return true;
    }
    await this.remove(entry.id);
    try {
      this.options?.onAnswer?.(entry, answer);
    } catch (e) {
      this.onError(e);
    }
    return true;
  }

  #change(change: (entries: OutboxEntry[]) => OutboxEntry[]): Promise<void> {
    return this.store.locked(KEY, async () => {
      const entries = change(await this.#read());
      if (this.options?.persist) await this.store.set(KEY, JSON.stringify(entries));
      else this.#own = entries;
    });
  }

  async #read(): Promise<OutboxEntry[]> {
    if (!this.options?.persist) return this.#own;
    const text = await this.store.get(KEY);
    try {
      const entries: unknown = JSON.parse(text ?? "[]");
      return Array.isArray(entries) ? entries : [];
    } catch {
      return [];
    }
  }
}
