// The conversation that is open: one page writes it, any other follows it, and goes on as a copy. Knows no page but the log that
// it is given.

import { Claims } from "./claims.js";
import { newConversation, type Conversation } from "./conversation.js";
import type { History } from "./history.js";
import type { Log } from "./log.js";

const ELSEWHERE = "Open in another tab: what you ask here goes on as a copy";
const COPY = "A copy from here on: the conversation itself is open in another tab";

export interface OpenHost {
  /** Ends the answer. */
  stop(): void;
  busy(): boolean;
  /** The answer that was under way last is over, and what was said is with `changed` or the history. */
  ended(): Promise<void>;
  shading(): boolean;
}

export class OpenConversation {
  now = newConversation();
  readonly #claims = new Claims();
  /** It belongs to this page; another's is followed until something is said here. */
  #mine = true;
  /** It was another page's, and nothing has been said here since: the last of what that one left may still be on its way. */
  #takenOver = false;
  /** The one before is written as far as it came. */
  #left: Promise<void> = Promise.resolve();

  constructor(private readonly log: Log, private readonly history: History, private readonly host: OpenHost) {
    void this.#claims.claim(this.now.id);
    history.watch((id) => {
      if (id === this.now.id && this.#follows()) void this.#follow(id);
    });
  }

  /** Another conversation, which no other page has, or a new one. The one before is kept. */
  open(conversation: Conversation = newConversation()): void {
    void this.#claims.claim(conversation.id);
    this.#show(conversation, true);
    this.history.keep(conversation);
  }

  /** One that was kept, and may be open elsewhere. `wanted` is asked when that is known. */
  async reopen({ id }: Conversation, wanted = () => true): Promise<void> {
    if (id === this.now.id && this.host.busy()) return;
    await this.#left;
    const mine = await this.#claims.claim(id);
    const conversation = await this.history.read(id);
    if (conversation && wanted()) {
      this.#show(conversation, mine);
      this.history.remember(conversation);
    } else if (mine && id !== this.now.id) this.#claims.release(id);
  }

  #show(conversation: Conversation, mine: boolean): void {
    this.host.stop();
    const before = this.now.id;
    this.now = conversation;
    this.#mine = mine;
    this.#takenOver = false;
    this.redraw();
    this.#claims.cancel();
    if (!mine) this.#claims.waitFor(conversation.id, () => void this.#follow(conversation.id, true));
    // What was under way is written first.
    this.#left = this.host.ended().then(() => this.history.flush()).then(() => {
      if (before !== this.now.id) this.#claims.release(before);
    });
  }

  #follows(): boolean {
    return !this.#mine || this.#takenOver;
  }

  /** Shows what another page has written; with `over` that one has closed it, and it is this page's. */
  async #follow(id: string, over = false): Promise<void> {
    const fresh = await this.history.read(id);
    if (!this.#follows() || this.now.id !== id) return over ? this.#claims.release(id) : undefined;
    const old = this.now;
    if (fresh) this.now = fresh;
    if (over) this.#mine = this.#takenOver = true;
    if (!fresh || fresh.start !== old.start) this.redraw();
    else this.log.change(old.messages, fresh.messages, this.host.shading());
    this.log.elsewhere(this.#mine ? undefined : ELSEWHERE);
  }

  /** The page was left, and is back: meanwhile another may have gone on. */
  async return(): Promise<void> {
    this.#claims.lost();
    this.#mine = await this.#claims.claim(this.now.id);
    await this.reopen(this.now);
  }

  redraw(): void {
    const { messages, start = 0, startText = "" } = this.now;
    this.log.show(messages, start, startText, this.host.shading());
    if (!this.#mine) this.log.elsewhere(ELSEWHERE);
  }

  /** Something was said here. */
  changed(): void {
    if (!this.#mine) this.#copy();
    this.#takenOver = false;
    this.now.changed = Date.now();
    this.history.keep(this.now);
  }

  /** The other page's stays as that one has it. */
  #copy(): void {
    this.#claims.cancel();
    this.now.id = crypto.randomUUID();
    this.#mine = true;
    void this.#claims.claim(this.now.id);
    this.log.elsewhere(COPY);
  }
}
