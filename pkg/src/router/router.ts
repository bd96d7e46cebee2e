// The router: questions in, answers out, with what all of them share.

import { badRequest } from "../errors.js";
import type { RequestOptions } from "../openai.js";
import { resolveUrl } from "../model.js";
import { Auth } from "./auth.js";
import { createChat } from "./chat.js";
import { guarded, openCore, type Core } from "./core.js";
import { parameters } from "./local.js";
import { WaitingRoom } from "./outbox.js";
import { Question } from "./question.js";
import { Shell } from "./shell.js";
import { Totals } from "./stats.js";
import { Store } from "./store.js";
import type { AskRequest, Destination, Explanation, LocalModel, Router, RouterNotice, RouterOptions, RouterStats } from "./types.js";

const CONSENTS = "consents";
const OPTIONS = new Set([
  "local", "cloud", "mode", "policy", "calibration", "privacy", "consent", "budget", "net", "name", "storage", "outbox", "onEvent", "onRecord", "wasmUrl",
]);

/** Rejects with BAD_REQUEST, naming the setting to change. */
export async function createRouter(options: RouterOptions): Promise<Router> {
  const unknown = Object.keys(options).find((name) => !OPTIONS.has(name));
  if (unknown) throw badRequest(unknown, `is no option of a router; there are ${[...OPTIONS].join(", ")}`);
  checkLocal(options.local);
  const { calibration, mode, policy, privacy, budget, net, cloud } = options;
  const where = cloud && { ...cloud, url: resolveUrl(cloud.url, "cloud.url").href, auth: undefined, authHeader: undefined };
  const name = options.name ?? (where ? new URL(where.url).host : "local");
  const notice = (notice: RouterNotice) => apart(() => options.onEvent?.(notice));
  const store = new Store(name, options.storage, (error) => notice({ type: "storage-failed", error }));
  const grants = await readGrants(store);
  const [seed = 0] = crypto.getRandomValues(new Uint32Array(1));
  const config = { tab: crypto.randomUUID(), seed, cloud: where, mode, policy, privacy, budget, net, granted: grants };
  const file = typeof calibration === "object" ? JSON.stringify(calibration) : calibration;
  const core = await openCore(config, file, options.wasmUrl);
  // It is the core that knows a provider's key.
  return new LocalFirst(core, store, new Auth(cloud), grants, options, notice);
}

class LocalFirst implements Router {
  readonly chat;
  readonly outbox: WaitingRoom;
  readonly #shell: Shell;
  readonly #totals = new Totals();
  readonly #channel: BroadcastChannel | undefined;
  readonly #network = new AbortController();
  #next = 1;
  #disposed = false;

  constructor(private readonly core: Core, private readonly store: Store, private readonly auth: Auth, private granted: Destination[], private readonly options: RouterOptions, notice: (notice: RouterNotice) => void) {
    const again = (request: AskRequest) => this.#ask(request, {}, "listens", false);
    this.outbox = new WaitingRoom(store, options.outbox, again, (error) => notice({ type: "callback-failed", callback: "outbox.onAnswer", error }));
    this.#shell = new Shell(core, store, auth, options.consent, {
      notice,
      granted: (destination) => void this.#grant((known) => [...known, destination]),
      over: (question, record, end) => {
        const waits = question.mayWait && record.blockedBy !== null ? this.outbox.put(question.request, record.wantedCloud ?? "", record.blockedBy) : undefined;
        if (end instanceof Error) {
          this.#totals.add(record, end.code === "ABORTED" ? "aborted" : "failed");
          if (waits) end.details.outbox = waits;
        } else {
          this.#totals.add(record, end);
          if (waits) end.outbox = waits;
        }
        apart(() => options.onRecord?.(record));
      },
    });
    this.#shell.local = options.local;
    this.chat = { completions: { create: createChat(this.#asker()) } };
    this.#channel = store.channel();
    this.#channel?.addEventListener("message", ({ data }: MessageEvent<Destination>) => this.#forget(data));
    this.#watchNetwork();
  }

  ask(request: AskRequest | string, options: RequestOptions = {}): Question {
    return this.#ask(request, options, "listens", true);
  }

  explain(request: AskRequest | string): Explanation {
    const explained = guarded(() => this.core.explain(Date.now(), this.#toCore(whole(request))));
    return { ...(JSON.parse(explained) as Explanation), calibration: this.core.status().calibration };
  }

  stats(): RouterStats {
    const { spent, unsure } = this.core.status();
    return this.#totals.get(spent, unsure);
  }

  grants(): Destination[] {
    return this.granted.map((destination) => ({ ...destination }));
  }

  async revoke({ host, model }: Destination): Promise<void> {
    this.#forget({ host, model });
    this.#channel?.postMessage({ host, model });
    await this.#grant((known) => known.filter((one) => !same(one, { host, model })));
  }

  authChanged(): void {
    this.auth.changed();
    this.core.auth_changed();
  }

  setLocal(local: LocalModel | undefined): void {
    checkLocal(local);
    this.#shell.local = local;
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#shell.stop();
    this.#disposed = true;
    this.#network.abort();
    this.#channel?.close();
  }

  #ask(given: AskRequest | string, { signal }: RequestOptions, asker: Question["asker"], mayWait: boolean): Question {
    if (this.#disposed) throw badRequest("the router", "was disposed; create a new one");
    const request = whole(given);
    const id = this.#next++;
    const abort = () => this.#shell.step((now) => this.core.abort(now, id));
    const question = new Question(id, request, asker, mayWait, abort);
    this.#shell.ask(question, this.#toCore(request));
    this.#totals.asked();
    if (signal?.aborted) abort();
    else if (signal) {
      signal.addEventListener("abort", abort, { once: true });
      question.answer.catch(() => {}).finally(() => signal.removeEventListener("abort", abort));
    }
    return question;
  }

  #toCore(request: AskRequest): string {
    const { messages, mode, hold, private: label, pre } = request;
    return JSON.stringify({ messages, params: parameters(request), mode, hold, private: label, pre, local: this.#shell.local !== undefined });
  }

  #asker(): Parameters<typeof createChat>[0] {
    const { options } = this;
    const asker = options.consent ? "listens" : "nobody";
    const shell = this.#shell;
    return {
      mode: options.mode ?? "auto",
      models: {
        get local() {
          return (shell.local as { info?: { name?: string; architecture?: string } } | undefined)?.info?.name ?? "local";
        },
        cloud: options.cloud?.model ?? "",
      },
      ask: (request, how = {}) => this.#ask(request, how, asker, true),
    };
  }

  #forget(destination: Destination): void {
    this.granted = this.granted.filter((known) => !same(known, destination));
    this.core.revoke(destination.host, destination.model);
  }

  /** What other tabs were allowed stays. */
  async #grant(change: (known: Destination[]) => Destination[]): Promise<void> {
    this.granted = change(this.granted);
    await this.store.locked(CONSENTS, async () => this.store.set(CONSENTS, JSON.stringify(change(await readGrants(this.store)))));
  }

  #watchNetwork(): void {
    const { addEventListener, navigator } = globalThis;
    const tell = (online: boolean) => this.#shell.step((now) => this.core.online(now, online));
    if (navigator?.onLine === false) tell(false);
    const { signal } = this.#network;
    addEventListener?.("offline", () => tell(false), { signal });
    addEventListener?.("online", () => {
      tell(true);
      void this.outbox.flush();
    }, { signal });
  }
}

function whole(request: AskRequest | string): AskRequest {
  if (typeof request === "string") return { messages: [{ role: "user", content: request }] };
  if (typeof request !== "object" || request === null || !Array.isArray(request.messages) || request.messages.length === 0) {
    throw badRequest("messages", "must be a list of at least one message");
  }
  if (request.n !== undefined && request.n !== null && request.n !== 1) throw badRequest("n", "must be 1: a router gives one answer");
  return request;
}

/** What a listener of the page throws is the page's to hear of, and stops no answer. */
function apart(listener: () => void): void {
  try {
    listener();
  } catch (e) {
    queueMicrotask(() => {
      throw e;
    });
  }
}

function same(a: Destination, b: Destination): boolean {
  return a.host === b.host && a.model === b.model;
}

function checkLocal(local: LocalModel | undefined): void {
  if (local !== undefined && typeof local?.chat?.completions?.create !== "function") {
    throw badRequest("local", "must be an engine: it has no chat.completions.create");
  }
}

async function readGrants(store: Store): Promise<Destination[]> {
  try {
    const grants: unknown = JSON.parse((await store.get(CONSENTS)) ?? "[]");
    const valid = (grant: Partial<Destination> | null) => typeof grant?.host === "string" && typeof grant.model === "string";
    return Array.isArray(grants) ? grants.filter(valid).map(({ host, model }) => ({ host, model })) : [];
  } catch {
    return []; // asked again
  }
}
