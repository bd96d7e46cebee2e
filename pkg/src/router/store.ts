// What all tabs share: the ledger under its lock, consents, the outbox.
//
// IndexedDB rather than localStorage: browsers hand localStorage from process to process behind the lock's back, so that a
// tab that has just got the lock may read what the ledger was before; a transaction may not. And workers have it.

import { createStore, get, set } from "idb-keyval";
import type { RouterStorage } from "./types.js";

export class Store {
  readonly #prefix: string;
  readonly #storage: RouterStorage;
  readonly #memory = new Map<string, string>();
  /** Where there are no locks between tabs, at least this one takes turns. */
  #turn: Promise<unknown> = Promise.resolve();
  #failed = false;

  constructor(name: string, storage: RouterStorage | null | undefined, private readonly onFailure: (error: unknown) => void) {
    this.#prefix = `kinglet-router/${name}/`;
    const shared = storage === undefined ? indexed() : storage;
    this.#storage = shared ?? inMemory(this.#memory);
    if (shared === undefined) this.#fail("there is no IndexedDB here");
  }

  /** Undefined: nothing, or it cannot be read. */
  async get(key: string): Promise<string | undefined> {
    try {
      return (await this.#storage.get(this.#prefix + key)) ?? undefined;
    } catch (e) {
      this.#fail(e);
      return this.#memory.get(this.#prefix + key);
    }
  }

  async set(key: string, value: string): Promise<void> {
    this.#memory.set(this.#prefix + key, value);
    try {
      await this.#storage.set(this.#prefix + key, value);
    } catch (e) {
      this.#fail(e);
    }
  }

  /** `act` has the key to itself, in all tabs. */
  async locked<T>(key: string, act: () => Promise<T>): Promise<T> {
    const { locks } = globalThis.navigator ?? {};
    if (locks) return locks.request(this.#prefix + key, act) as Promise<T>;
    const turn = this.#turn.then(act);
    this.#turn = turn.catch(() => {});
    return turn;
  }

  /** As `locked`, but undefined where another tab has the key. */
  async ifFree<T>(key: string, act: () => Promise<T>): Promise<T | undefined> {
    const { locks } = globalThis.navigator ?? {};
    if (!locks) return act();
    return locks.request(this.#prefix + key, { ifAvailable: true }, async (lock) => (lock ? act() : undefined)) as Promise<T | undefined>;
  }

  /** Between the tabs; undefined where there is no such thing. */
  channel(): BroadcastChannel | undefined {
    return globalThis.navigator?.locks && globalThis.BroadcastChannel ? new BroadcastChannel(this.#prefix) : undefined;
  }

  /** Said once. */
  #fail(error: unknown): void {
    if (!this.#failed) this.onFailure(error);
    this.#failed = true;
  }
}

function indexed(): RouterStorage | undefined {
  if (!globalThis.indexedDB) return undefined;
  const store = createStore("kinglet-router", "values");
  return { get: (key) => get<string>(key, store), set: (key, value) => set(key, value, store) };
}

function inMemory(values: Map<string, string>): RouterStorage {
  return { get: (key) => values.get(key), set: (key, value) => void values.set(key, value) };
}
