// Conversations on this device, in IndexedDB. Writes of one conversation are put together and follow one another.

import { createStore, del, entries, get, set, type UseStore } from "idb-keyval";
import type { Conversation } from "./conversation.js";

/** How long a change may wait for others. A page that is left calls `flush`. */
const DELAY_MS = 400;
const CURRENT = "current";
/** In localStorage: what was not yet written when the page went away. Nothing that is asynchronous is sure to end then. */
const LEFT = "kinglet-left";

export class History {
  readonly #database: UseStore;
  #waiting: Conversation | undefined;
  #writing: Conversation | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #last: Promise<void> = Promise.resolve();

  /** @param onError hears once and for all that nothing can be kept (private windows, a full disk). */
  constructor(private readonly onError: (error: unknown) => void, name = "kinglet-conversations") {
    this.#database = createStore(name, "conversations");
  }

  /** The one that was open last, if there is one. */
  async last(): Promise<Conversation | undefined> {
    try {
      const left = localStorage.getItem(LEFT);
      if (left !== null) {
        localStorage.removeItem(LEFT);
        const conversation = JSON.parse(left) as Conversation;
        this.keep(conversation);
        return conversation;
      }
      const id = await get<string>(CURRENT, this.#database);
      return id === undefined ? undefined : await get<Conversation>(id, this.#database);
    } catch (error) {
      this.onError(error);
      return undefined;
    }
  }

  /** The newest first. */
  async list(): Promise<Conversation[]> {
    await this.flush();
    const all = await entries<string, Conversation | string>(this.#database);
    return all.map(([, value]) => value).filter((value) => typeof value !== "string").sort((a, b) => b.changed - a.changed);
  }

  /** Soon. One without messages is only remembered as the open one. */
  keep(conversation: Conversation): void {
    if (this.#waiting && this.#waiting.id !== conversation.id) void this.flush();
    this.#waiting = conversation;
    this.#timer ??= setTimeout(() => void this.flush(), DELAY_MS);
  }

  /** One that is not open any more, if it was not removed meanwhile. */
  async update(conversation: Conversation): Promise<void> {
    await this.flush();
    try {
      if (await get(conversation.id, this.#database)) await set(conversation.id, structuredClone(conversation), this.#database);
    } catch (error) {
      this.onError(error);
    }
  }

  /** The page goes away, perhaps for good. */
  leave(): void {
    const unwritten = this.#waiting ?? this.#writing;
    if (!unwritten || unwritten.messages.length === 0) return;
    try {
      localStorage.setItem(LEFT, JSON.stringify(unwritten));
    } catch {
      // Too long for it: then as far as it was written.
    }
    void this.flush().then(() => localStorage.removeItem(LEFT)); // it did not go away after all
  }

  /** Now. */
  flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const conversation = this.#waiting;
    this.#waiting = undefined;
    if (!conversation) return this.#last;
    const { id, messages } = conversation;
    const writes = [set(CURRENT, id, this.#database), ...(messages.length > 0 ? [set(id, structuredClone(conversation), this.#database)] : [])];
    this.#writing = conversation;
    this.#last = Promise.all(writes).then(() => {}, this.onError).finally(() => {
      if (this.#writing === conversation) this.#writing = undefined;
    });
    return this.#last;
  }

  async remove(id: string): Promise<void> {
    if (this.#waiting?.id === id) this.#waiting = undefined;
    await this.#last;
    await del(id, this.#database);
  }

  async removeAll(): Promise<void> {
    this.#waiting = undefined;
    await this.#last;
    for (const [key] of await entries(this.#database)) await del(key, this.#database);
  }
}
