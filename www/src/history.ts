// Conversations on this device, in IndexedDB. Writes of one conversation are put together and follow one another. Each is written
// by one page only, see `claims.ts`.

import { createStore, del, entries, get, set, update, type UseStore } from "idb-keyval";
import type { Conversation } from "./conversation.js";

/** How long a change may wait for others. A page that is left calls `flush`. */
const DELAY_MS = 400;
const CURRENT = "current";
/** In sessionStorage: the one that this tab had open, which a reload brings back. */
const OPEN = "kinglet-open";
/** In localStorage, behind it the conversation's id: what was not yet written when its page went away. Nothing that is asynchronous is sure to end then. */
const LEFT = "kinglet-left/";

export class History {
  readonly #database: UseStore;
  #waiting: Conversation | undefined;
  #writing: Conversation | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #last: Promise<void> = Promise.resolve();
  /** Tells the other pages what was written. */
  readonly #channel: BroadcastChannel;

  /** @param onError hears once and for all that nothing can be kept (private windows, a full disk). */
  constructor(private readonly onError: (error: unknown) => void, name = "kinglet-conversations") {
    this.#database = createStore(name, "conversations");
    this.#channel = new BroadcastChannel(name);
  }

  /** `changed` is told the id of what another page wrote, or left unwritten: that may arrive after its locks are free. */
  watch(changed: (id: string) => void): void {
    this.#channel.addEventListener("message", ({ data }) => changed(data as string));
    addEventListener("storage", ({ key, newValue }) => {
      if (key?.startsWith(LEFT) && newValue) changed(key.slice(LEFT.length));
    });
  }

  /** The one that this tab had open, or any tab last, if there is one. */
  async last(): Promise<Conversation | undefined> {
    try {
      await this.#takeUpLeft();
      const id = sessionStorage.getItem(OPEN) ?? (await get<string>(CURRENT, this.#database));
      return id === undefined ? undefined : await get<Conversation>(id, this.#database);
    } catch (error) {
      this.onError(error);
      return undefined;
    }
  }

  /** Where the page that left it wrote it after all, and went on, the newer one stays. */
  async #takeUpLeft(): Promise<void> {
    for (const key of Object.keys(localStorage).filter((key) => key.startsWith(LEFT))) {
      const left = JSON.parse(localStorage.getItem(key) ?? "null") as Conversation | null; // another page was quicker
      if (left) await update<Conversation>(left.id, (stored) => (stored && stored.changed > left.changed ? stored : left), this.#database);
      localStorage.removeItem(key);
    }
  }

  /** As it was left by whichever page had it. */
  async read(id: string): Promise<Conversation | undefined> {
    try {
      await this.#last;
      await this.#takeUpLeft();
      return await get<Conversation>(id, this.#database);
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

  /** This tab has it open. */
  remember({ id }: Conversation): void {
    try {
      sessionStorage.setItem(OPEN, id);
    } catch {
      // Then a reload brings the last one that was written.
    }
  }

  /** Soon. One without messages is only remembered as the open one. */
  keep(conversation: Conversation): void {
    this.remember(conversation);
    if (this.#waiting && this.#waiting.id !== conversation.id) void this.flush();
    this.#waiting = conversation;
    this.#timer ??= setTimeout(() => void this.flush(), DELAY_MS);
  }

  /** One that is not open any more, if it was not removed meanwhile. */
  async update(conversation: Conversation): Promise<void> {
    await this.flush();
    try {
      if (await get(conversation.id, this.#database)) await set(conversation.id, structuredClone(conversation), this.#database);
      this.#channel.postMessage(conversation.id);
    } catch (error) {
      this.onError(error);
    }
  }

  /** The page goes away, perhaps for good. */
  leave(): void {
    const unwritten = this.#waiting ?? this.#writing;
    if (!unwritten || unwritten.messages.length === 0) return;
    const key = LEFT + unwritten.id;
    try {
      localStorage.setItem(key, JSON.stringify(unwritten));
    } catch {
      // Too long for it: then as far as it was written.
    }
    void this.flush().then(() => localStorage.removeItem(key)); // it did not go away after all
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
    this.#last = Promise.all(writes).then(() => this.#channel.postMessage(id), this.onError).finally(() => {
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
