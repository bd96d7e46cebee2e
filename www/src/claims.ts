// Which of the open pages a conversation belongs to, so that only one of them writes it: Web Locks. Knows no page.

const NAME = "kinglet-conversation/";

export class Claims {
  readonly #held = new Map<string, () => void>();
  #waiting = new AbortController();

  /** Whether it is this page's from now on, or another's. Where there are no locks, as on a page without https, it always is. */
  claim(id: string): Promise<boolean> {
    if (this.#held.has(id) || !navigator.locks) return Promise.resolve(true);
    return new Promise((resolve) => {
      navigator.locks.request(NAME + id, { ifAvailable: true }, (lock) => {
        resolve(lock !== null);
        return lock ? this.#hold(id) : undefined;
      }).catch(() => resolve(true));
    });
  }

  /** Another page's: `free` is called when it has become this page's instead. One at a time is waited for. */
  waitFor(id: string, free: () => void): void {
    this.cancel();
    const { signal } = (this.#waiting = new AbortController());
    navigator.locks.request(NAME + id, { signal }, () => {
      free();
      return this.#hold(id);
    }).catch(() => {}); // not waited for any more
  }

  cancel(): void {
    this.#waiting.abort();
  }

  release(id: string): void {
    this.#held.get(id)?.();
    this.#held.delete(id);
  }

  /** The browser has taken all back, as it does where it keeps a page that was left. */
  lost(): void {
    for (const id of this.#held.keys()) this.release(id);
  }

  #hold(id: string): Promise<void> {
    return new Promise((release) => this.#held.set(id, release));
  }
}
