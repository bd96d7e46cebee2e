// Does what the core decides: asks the local model and the user, takes the lock, sends, and tells whoever asked.
//
// The order of actions is the core's: while the ledger is being written, what follows waits.

import { KingletError } from "../errors.js";
import type { Auth } from "./auth.js";
import { guarded, type Action, type Core, type Shown } from "./core.js";
import { diagnose, send } from "./egress.js";
import { runLocal } from "./local.js";
import type { Question } from "./question.js";
import type { Store } from "./store.js";
import type { Answer, DecisionRecord, Destination, LocalModel, Preview, RouterNotice, RouterOptions } from "./types.js";

/** What the shell tells the router. */
export interface ShellEvents {
  notice(notice: RouterNotice): void;
  granted(destination: Destination): void;
  /** Over; nothing of it follows. May change the answer. */
  over(question: Question, record: DecisionRecord, end: Answer | KingletError): void;
}

const LEDGER = "ledger";

export class Shell {
  local: LocalModel | undefined;
  #questions = new Map<number, Question>();
  #actions: Action[] = [];
  #acting = false;
  #writing: Promise<void> | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #mismatch = "";
  #drift = false;

  constructor(
    private readonly core: Core,
    private readonly store: Store,
    private readonly auth: Auth,
    private readonly consent: RouterOptions["consent"],
    private readonly events: ShellEvents,
  ) {}

  ask(question: Question, request: string): void {
    this.#questions.set(question.id, question);
    try {
      this.step((now) => this.core.ask(now, question.id, request));
    } catch (e) {
      this.#questions.delete(question.id);
      throw e;
    }
  }

  step(event: (now: number) => string): void {
    this.#actions.push(...(JSON.parse(guarded(() => event(Date.now()))) as Action[]));
    this.#act();
    this.#wind();
  }

  stop(): void {
    for (const id of [...this.#questions.keys()]) this.step((now) => this.core.abort(now, id));
    clearTimeout(this.#timer);
  }

  #act(): void {
    if (this.#acting) return;
    this.#acting = true;
    try {
      for (let action; !this.#writing && (action = this.#actions.shift()); ) this.#do(action);
    } finally {
      this.#acting = false;
    }
  }

  /** One timer, for the core's next moment. */
  #wind(): void {
    clearTimeout(this.#timer);
    const at = this.core.deadline();
    // What a timer cannot hold is looked at again when it ends.
    if (at !== undefined) this.#timer = setTimeout(() => this.step((now) => this.core.tick(now)), Math.min(Math.max(at - Date.now(), 0), 2 ** 31 - 1));
  }

  #do(action: Action): void {
    if (action.type === "lockLedger") return void this.#lock();
    if (action.type === "storeLedger") return this.#write(action.state);
    if (action.type === "storeConsent") return this.events.granted(action.destination);
    const question = this.#questions.get(action.ask);
    if (!question) return;
    switch (action.type) {
      case "startLocal":
        return void this.#runLocal(question);
      case "stopLocal":
        return question.local.abort();
      case "askConsent":
        return this.#askConsent(question, action.preview);
      case "refreshToken":
        return void this.#refresh(question);
      case "send":
        return void this.#send(question, action);
      case "cancel":
        if (question.connection?.attempt === action.attempt) question.connection.controller.abort();
        return;
      case "show":
        return this.#show(question, action.shown);
    }
  }

  /** Reads the ledger, and keeps the lock until what the core makes of it is written. */
  async #lock(): Promise<void> {
    try {
      await this.store.locked(LEDGER, async () => {
        const state = await this.store.get(LEDGER);
        this.step((now) => this.core.ledger(now, state));
        await this.#writing;
      });
    } catch (e) {
      // The core gives up waiting by itself.
      this.events.notice({ type: "storage-failed", error: e });
    }
  }

  #write(state: string): void {
    this.#writing = this.store.set(LEDGER, state).then(() => {
      this.#writing = undefined;
      this.#act();
    });
  }

  async #runLocal(question: Question): Promise<void> {
    const { id, local, request } = question;
    try {
      await runLocal(this.local!, request, local.signal, {
        token: (text) => this.step((now) => this.core.local_token(now, id, text)),
        check: (tokens, signals) => this.step((now) => this.core.local_check(now, id, tokens, signals)),
        done: (end, madeFor) => {
          this.step((now) => this.core.local_done(now, id, end, madeFor));
          this.#watch();
        },
      });
    } catch (e) {
      if (local.signal.aborted) return;
      question.localError = e;
      this.events.notice({ type: "local-failed", error: e });
      this.step((now) => this.core.local_failed(now, id));
    }
  }

  /** Says aloud what has become of the calibration's promise. */
  #watch(): void {
    const state = this.core.status().calibration;
    if (!state) return;
    const differs = state.differs ?? [];
    if (differs.length > 0 && differs.join() !== this.#mismatch) this.events.notice({ type: "not-calibrated", differs });
    this.#mismatch = differs.join();
    const drift = state.drift !== null;
    if (drift !== this.#drift) this.events.notice({ type: "drift", on: drift });
    this.#drift = drift;
  }

  #askConsent(question: Question, preview: Preview): void {
    const decide = (decision: unknown) => this.step((now) => this.core.consent(now, question.id, String(decision)));
    question.push({ type: "consent", preview, decide });
    const { consent } = this;
    if (consent) {
      void (async () => consent(preview))().then(decide, (error: unknown) => {
        this.events.notice({ type: "callback-failed", callback: "consent", error });
        decide("deny");
      });
    } else if (question.asker === "nobody") decide("deny");
  }

  async #refresh(question: Question): Promise<void> {
    const ok = await this.auth.refresh().catch((error: unknown) => {
      this.events.notice({ type: "auth-failed", error });
      return false;
    });
    this.step((now) => this.core.token_refreshed(now, question.id, ok));
  }

  async #send(question: Question, { attempt, request }: Extract<Action, { type: "send" }>): Promise<void> {
    const { id } = question;
    const controller = new AbortController();
    const { signal } = controller;
    question.connection = { attempt, controller };
    let token: Record<string, string>;
    try {
      token = await this.auth.headers();
    } catch (error) {
      this.events.notice({ type: "auth-failed", error });
      // As if the server had refused it: nothing was sent, and it is asked for once more.
      return this.step((now) => this.core.response(now, id, attempt, 401));
    }
    try {
      if (signal.aborted) return;
      const response = await send(request, token, signal);
      const header = (name: string) => response.headers.get(name) ?? undefined;
      this.step((now) => this.core.response(now, id, attempt, response.status, header("content-type"), header("retry-after")));
      const reader = response.body?.getReader();
      for (let chunk; !signal.aborted && (chunk = await reader?.read()) && !chunk.done; ) {
        const { value } = chunk;
        this.step((now) => this.core.body(now, id, attempt, value));
      }
      if (!signal.aborted) this.step((now) => this.core.body_end(now, id, attempt));
    } catch (e) {
      if (e instanceof KingletError) throw e;
      if (signal.aborted) return;
      question.advice ??= await diagnose(request.url, signal);
      this.step((now) => this.core.network_error(now, id, attempt));
    }
  }

  #show(question: Question, shown: Shown): void {
    switch (shown.type) {
      case "final": {
        const { answer } = shown;
        if (answer.degraded?.blockedBy === "network" && question.advice) answer.degraded.advice = question.advice;
        return this.#over(question, answer.record, answer);
      }
      case "failed": {
        const { blockedBy, record } = shown;
        const advice = blockedBy === "network" && question.advice;
        const local = question.localError ? ` (the local model: ${(question.localError as Error).message})` : "";
        const message = `${shown.message}${advice ? `; ${advice}` : ""}${local}`;
        return this.#over(question, record, new KingletError("NO_ANSWER", message, { blockedBy, record }, question.localError));
      }
      case "aborted":
        return this.#over(question, shown.record, new KingletError("ABORTED", "aborted by the caller", { record: shown.record }));
      case "retry":
        return question.push(shown.cause === "network" && question.advice ? { ...shown, advice: question.advice } : shown);
      default:
        return question.push(shown);
    }
  }

  #over(question: Question, record: DecisionRecord, end: Answer | KingletError): void {
    this.#questions.delete(question.id);
    this.events.over(question, record, end);
    if (end instanceof KingletError) question.fail(end);
    else question.finish(end);
  }
}
