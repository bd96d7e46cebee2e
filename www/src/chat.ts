// A conversation with a model: asks, keeps what was said, shows it. Knows no page but the log that it is given.

import type { KingletError } from "kinglet";
import { answer, type Question, type Result } from "./answer.js";
import { Claims } from "./claims.js";
import { newConversation, toRequest, type Conversation, type Excerpt, type Message } from "./conversation.js";
import type { History } from "./history.js";
import type { AnswerView, Log } from "./log.js";

export interface ChatHost extends Pick<Question, "engine" | "options"> {
  /** Where it is switched on. */
  router(): Question["router"];
  /** The person wants to see how sure the model is of each token. */
  shading(): boolean;
  /** What stands below an answer, and who gave it. */
  describe(result: Result, text: string): { note: string; by?: string };
  onBusy(busy: boolean): void;
  onPace(tokens: number, ms: number): void;
  onResult(result: Result): void;
  /** The question is given back where nothing came of it. */
  onError(error: unknown, question: string | undefined): void;
}

const GO_ON = "Please go on.";
const ELSEWHERE = "Open in another tab: what you ask here goes on as a copy";
const COPY = "A copy from here on: the conversation itself is open in another tab";

export class Chat {
  #conversation = newConversation();
  #abort: AbortController | undefined;
  #streaming = false;
  #running: Promise<void> = Promise.resolve();
  #late: Message[] = [];
  readonly #claims = new Claims();
  /** The conversation belongs to this page; another's is followed until something is said here. */
  #mine = true;
  /** The one before is written as far as it came. */
  #left: Promise<void> = Promise.resolve();

  constructor(private readonly log: Log, private readonly history: History, private readonly host: ChatHost) {
    void this.#claims.claim(this.#conversation.id);
    history.watch((id) => {
      if (!this.#mine && id === this.#conversation.id) void this.#follow(id);
    });
  }

  get conversation(): Conversation {
    return this.#conversation;
  }

  get busy(): boolean {
    return this.#abort !== undefined;
  }

  /** Ends the answer; a question that waits for the model is withdrawn. */
  stop(): void {
    this.#abort?.abort();
  }

  /** Ends the answer, but lets a question wait on for the model. */
  interrupt(): void {
    if (this.#streaming) this.stop();
  }

  /** Another conversation, which no other page has, or a new one. The one before is kept. */
  open(conversation: Conversation = newConversation()): void {
    void this.#claims.claim(conversation.id);
    this.#show(conversation, true);
    this.history.keep(conversation);
  }

  /** One that was kept, and may be open elsewhere. `wanted` is asked when that is known. */
  async reopen({ id }: Conversation, wanted = () => true): Promise<void> {
    if (id === this.#conversation.id && this.busy) return;
    await this.#left;
    const mine = await this.#claims.claim(id);
    const conversation = await this.history.read(id);
    if (conversation && wanted()) {
      this.#show(conversation, mine);
      this.history.remember(conversation);
    } else if (mine && id !== this.#conversation.id) this.#claims.release(id);
  }

  #show(conversation: Conversation, mine: boolean): void {
    this.stop();
    const before = this.#conversation.id;
    this.#conversation = conversation;
    this.#mine = mine;
    this.redraw();
    this.#claims.cancel();
    if (!mine) this.#claims.waitFor(conversation.id, () => void this.#follow(conversation.id, true));
    // What was under way is written first.
    this.#left = this.#running.then(() => this.history.flush()).then(() => {
      if (before !== this.#conversation.id) this.#claims.release(before);
    });
  }

  /** Shows what another page has written; with `over` that one has closed it, and it is this page's. */
  async #follow(id: string, over = false): Promise<void> {
    const fresh = await this.history.read(id);
    if (this.#mine || this.#conversation.id !== id) return over ? this.#claims.release(id) : undefined;
    const old = this.#conversation;
    if (fresh) this.#conversation = fresh;
    if (over) this.#mine = true;
    if (!fresh || fresh.start !== old.start) this.redraw();
    else this.log.change(old.messages, fresh.messages, this.host.shading());
    this.log.elsewhere(over ? undefined : ELSEWHERE);
  }

  /** The page was left, and is back: meanwhile another may have gone on. */
  async return(): Promise<void> {
    this.#claims.lost();
    this.#mine = await this.#claims.claim(this.#conversation.id);
    await this.reopen(this.#conversation);
  }

  redraw(): void {
    const { messages, start = 0, startText = "" } = this.#conversation;
    this.log.show(messages, start, startText, this.host.shading());
    if (!this.#mine) this.log.elsewhere(ELSEWHERE);
  }

  /** What was said so far stays to be read, but is not sent any more. */
  startAfresh(text: string): void {
    const { messages } = this.#conversation;
    if (messages.length === 0) return;
    // A question that waits already is the new model's.
    const start = this.busy ? messages.length - 2 : messages.length;
    if (start <= 0) return;
    Object.assign(this.#conversation, { start, startText: text });
    if (this.busy) this.log.addBreak(text, 2);
    else this.redraw();
    this.#changed();
  }

  /** With an excerpt, `text` is only what is shown. */
  async ask(text: string, excerpt?: Excerpt): Promise<void> {
    if (this.busy) return;
    const { messages } = this.#conversation;
    const message: Message = { from: "user", text, ...(excerpt ? { excerpt } : {}) };
    messages.push(message);
    this.log.addQuestion(message, messages.length - 1);
    await this.#answer(text);
  }

  /** The question in this place becomes another one; what came after it goes. */
  async edit(index: number, text: string): Promise<void> {
    this.stop();
    await this.#running;
    this.#cut(index);
    await this.ask(text);
  }

  /** The answer in this place is given anew; what came after it goes. */
  async retry(index: number): Promise<void> {
    if (this.busy) return;
    this.#cut(index);
    await this.#answer(undefined);
  }

  /** A server's answer to a question that had waited for the network: at the end of whatever conversation is open. */
  addLate(question: string, text: string, by: string): void {
    this.#late.push({ from: "user", text: question }, { from: "assistant", text, source: "cloud", by, note: "to an earlier question" });
    if (!this.busy) this.#takeLate();
  }

  #takeLate(): void {
    if (this.#late.length === 0) return;
    this.#conversation.messages.push(...this.#late.splice(0));
    this.redraw();
    this.#changed();
  }

  resume(): Promise<void> {
    return this.ask(GO_ON);
  }

  #cut(index: number): void {
    const { messages, start = 0 } = this.#conversation;
    messages.splice(index);
    if (start > index) delete this.#conversation.start;
    this.redraw();
  }

  /** To the last question, of which `asked` is the text where it is new. */
  #answer(asked: string | undefined): Promise<void> {
    return (this.#running = this.#run(asked));
  }

  async #run(asked: string | undefined): Promise<void> {
    const abort = (this.#abort = new AbortController());
    const conversation = this.#conversation;
    const { messages } = conversation;
    const shading = this.host.shading();
    // Marked as cut until it is whole, so that a page that goes away leaves it so.
    const message: Message = { from: "assistant", text: "", source: "local", cut: true };
    messages.push(message);
    const view = this.log.addAnswer(messages.length - 1, shading);
    view.begin();
    this.host.onBusy(true);
    this.#changed();
    try {
      const { engine, options } = this.host;
      const upTo = messages.length - 1;
      const question: Question = {
        get messages() {
          return toRequest(messages.slice(conversation.start ?? 0, upTo));
        },
        engine: () => engine.call(this.host), options: () => options.call(this.host), router: this.host.router(), confidence: shading, signal: abort.signal,
      };
      const result = await answer(question, {
        begin: () => (this.#streaming = true),
        text: (text, tokens) => this.#grow(conversation, message, view, text, tokens),
        source: (source) => ((message.source = source), view.source(source)),
        pace: (tokens, ms) => this.host.onPace(tokens, ms),
        status: (text) => view.status(text),
      });
      delete message.cut;
      Object.assign(message, this.host.describe(result, message.text), result.tokens ? { tokens: result.tokens } : {});
      view.end(message);
      this.#over(abort);
      this.host.onResult(result);
    } catch (error) {
      this.#over(abort);
      this.#failed(error, abort.signal.aborted, conversation, message, view, asked);
    }
    if (conversation === this.#conversation) this.#changed();
    else await this.history.update(conversation);
    if (this.busy) return;
    this.host.onBusy(false);
    this.#takeLate();
  }

  #grow(conversation: Conversation, message: Message, view: AnswerView, text: string, tokens: Message["tokens"]): void {
    message.text = text;
    if (tokens) message.tokens = tokens;
    else delete message.tokens;
    view.update(text, tokens);
    if (conversation === this.#conversation) this.#changed();
  }

  #over(abort: AbortController): void {
    if (this.#abort !== abort) return;
    this.#abort = undefined;
    this.#streaming = false;
  }

  #failed(error: unknown, stopped: boolean, conversation: Conversation, message: Message, view: AnswerView, asked: string | undefined): void {
    const quiet = stopped || (error as Partial<KingletError> | null)?.code === "ABORTED";
    if (message.text || quiet) {
      message.note = quiet ? "stopped" : "cut off";
      view.end(message);
    } else {
      // As if nothing had been asked.
      const gone = asked === undefined ? 1 : 2;
      conversation.messages.splice(conversation.messages.indexOf(message) + 1 - gone, gone);
      if (conversation === this.#conversation) this.log.removeTurns(gone);
    }
    if (!quiet) this.host.onError(error, message.text ? undefined : asked);
  }

  #changed(): void {
    if (!this.#mine) this.#copy();
    this.#conversation.changed = Date.now();
    this.history.keep(this.#conversation);
  }

  /** The other page's stays as that one has it. */
  #copy(): void {
    this.#claims.cancel();
    this.#conversation.id = crypto.randomUUID();
    this.#mine = true;
    void this.#claims.claim(this.#conversation.id);
    this.log.elsewhere(COPY);
  }
}
