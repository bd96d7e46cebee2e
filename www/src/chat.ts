// A conversation with a model: asks, keeps what was said, shows it. Knows no page but the log that it is given.

import type { KingletError } from "kinglet";
import { answer, type Question, type Result } from "./answer.js";
import { toRequest, type Conversation, type Excerpt, type Message } from "./conversation.js";
import type { History } from "./history.js";
import type { AnswerView, Log } from "./log.js";
import { OpenConversation } from "./open-conversation.js";

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

export class Chat {
  readonly #open: OpenConversation;
  #abort: AbortController | undefined;
  #streaming = false;
  #running: Promise<void> = Promise.resolve();
  #late: Message[] = [];

  constructor(private readonly log: Log, private readonly history: History, private readonly host: ChatHost) {
    this.#open = new OpenConversation(log, history, { stop: () => this.stop(), busy: () => this.busy, ended: () => this.#running, shading: () => host.shading() });
  }

  get conversation(): Conversation {
    return this.#open.now;
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

  /** Another conversation, or a new one. The one before is kept. */
  open(conversation?: Conversation): void {
    this.#open.open(conversation);
  }

  /** One that was kept, and may be open elsewhere. `wanted` is asked when that is known. */
  reopen(conversation: Conversation, wanted?: () => boolean): Promise<void> {
    return this.#open.reopen(conversation, wanted);
  }

  /** The page was left, and is back. */
  return(): Promise<void> {
    return this.#open.return();
  }

  redraw(): void {
    this.#open.redraw();
  }

  /** What was said so far stays to be read, but is not sent any more. */
  startAfresh(text: string): void {
    const { messages } = this.conversation;
    if (messages.length === 0) return;
    // A question that waits already is the new model's.
    const start = this.busy ? messages.length - 2 : messages.length;
    if (start <= 0) return;
    Object.assign(this.conversation, { start, startText: text });
    if (this.busy) this.log.addBreak(text, 2);
    else this.redraw();
    this.#open.changed();
  }

  /** With an excerpt, `text` is only what is shown. */
  async ask(text: string, excerpt?: Excerpt): Promise<void> {
    if (this.busy) return;
    const { messages } = this.conversation;
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
    this.conversation.messages.push(...this.#late.splice(0));
    this.redraw();
    this.#open.changed();
  }

  /** The answer in this place goes on where it was cut off; one that is not the last, or came from a server, is asked for more. */
  async resume(index: number): Promise<void> {
    const { messages, start = 0 } = this.conversation;
    const message = messages[index]!;
    if (this.busy) return;
    if (index < messages.length - 1 || index < start || message.source === "cloud") return this.ask(GO_ON);
    // A model is at its best where its tokens end: words begin with their space.
    message.text = message.text.trimEnd();
    this.log.removeTurns(1);
    await this.#answer(undefined, message);
  }

  #cut(index: number): void {
    const { messages, start = 0 } = this.conversation;
    messages.splice(index);
    if (start > index) delete this.conversation.start;
    this.redraw();
  }

  /** To the last question, of which `asked` is the text where it is new; or more of an answer that was `begun`. */
  #answer(asked: string | undefined, begun?: Message): Promise<void> {
    return (this.#running = this.#run(asked, begun));
  }

  async #run(asked: string | undefined, begun: Message | undefined): Promise<void> {
    const abort = (this.#abort = new AbortController());
    const conversation = this.conversation;
    const { messages } = conversation;
    const shading = this.host.shading();
    // Marked as cut until it is whole, so that a page that goes away leaves it so.
    const message: Message = begun ?? { from: "assistant", text: "", source: "local", cut: true };
    if (!begun) messages.push(message);
    const view = this.log.addAnswer(messages.length - 1, shading);
    view.begin();
    if (begun) view.update(begun.text, begun.tokens);
    this.host.onBusy(true);
    this.#open.changed();
    try {
      const { engine, options } = this.host;
      const upTo = messages.length - (begun ? 0 : 1);
      const question: Question = {
        get messages() {
          return toRequest(messages.slice(conversation.start ?? 0, upTo));
        },
        engine: () => engine.call(this.host), options: () => options.call(this.host), router: begun ? undefined : this.host.router(), confidence: shading, signal: abort.signal,
        ...(begun ? { begun: { text: begun.text, tokens: begun.tokens } } : {}),
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
    if (conversation === this.conversation) this.#open.changed();
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
    if (conversation === this.conversation) this.#open.changed();
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
      if (conversation === this.conversation) this.log.removeTurns(gone);
    }
    if (!quiet) this.host.onError(error, message.text ? undefined : asked);
  }
}
