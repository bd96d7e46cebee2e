// The router's core in its binary: events in, actions out.

import init, { check, Router } from "#wasm/router";
import { KingletError } from "../errors.js";
import { resolveUrl } from "../model.js";
import type { MadeFor, Signals } from "../openai.js";
import type { LocalEnd } from "./local.js";
import type { AskEvent, DecisionRecord, Destination, Explanation, Preview } from "./types.js";

/** What `fetch` needs, but for the token. */
export interface SealedRequest {
  url: string;
  method: string;
  headers: [string, string][];
  body: string;
  credentials: "omit";
  referrerPolicy: "no-referrer";
  redirect: "error";
  cache: "no-store";
}

/** `Shown` of src/router/machine/event.rs. */
export type Shown =
  | Exclude<AskEvent, { type: "consent" }>
  | { type: "failed"; blockedBy: string; message: string; record: DecisionRecord }
  | { type: "aborted"; record: DecisionRecord };

/** `Action` there; what the shell does for each stands in src/router/machine/mod.rs. */
export type Action =
  | { type: "startLocal"; ask: number }
  | { type: "stopLocal"; ask: number }
  | { type: "lockLedger" }
  | { type: "storeLedger"; state: string }
  | { type: "askConsent"; ask: number; preview: Preview }
  | { type: "storeConsent"; destination: Destination }
  | { type: "refreshToken"; ask: number }
  | { type: "send"; ask: number; attempt: number; request: SealedRequest }
  | { type: "cancel"; ask: number; attempt: number }
  | { type: "show"; ask: number; shown: Shown };

/** Dollars, and how the calibration fares (`Report` of src/router/judge.rs). */
export interface Status {
  spent: number;
  unsure: number;
  calibration: Explanation["calibration"];
}

/** A method for each event of src/router/machine/event.rs; the answer is the list of actions as JSON. `now`: `Date.now()`. */
export class Core {
  constructor(private readonly router: Router) {}

  /** `request`: as JSON. */
  ask(now: number, ask: number, request: string): string {
    return this.router.step(now, `{"type":"ask","ask":${ask},"request":${request}}`);
  }

  abort = (now: number, ask: number) => this.#step(now, { type: "abort", ask });
  local_token = (now: number, ask: number, text: string) => this.#step(now, { type: "localToken", ask, text });
  local_check = (now: number, ask: number, k: number, features: Signals) => this.#step(now, { type: "localCheck", ask, k, features });
  local_done = (now: number, ask: number, end: LocalEnd, madeFor?: MadeFor) => this.#step(now, { type: "localDone", ask, end, madeFor });
  local_failed = (now: number, ask: number) => this.#step(now, { type: "localFailed", ask });
  consent = (now: number, ask: number, decision: string) => this.#step(now, { type: "consent", ask, decision });
  revoke = (host: string, model: string) => this.#step(0, { type: "revoke", host, model });
  ledger = (now: number, state?: string) => this.#step(now, { type: "ledger", state });
  response = (now: number, ask: number, attempt: number, status: number, contentType?: string, retryAfter?: string) =>
    this.#step(now, { type: "response", ask, attempt, status, contentType, retryAfter });
  body = (now: number, ask: number, attempt: number, bytes: Uint8Array) => this.router.body(now, ask, attempt, bytes);
  body_end = (now: number, ask: number, attempt: number) => this.#step(now, { type: "bodyEnd", ask, attempt });
  network_error = (now: number, ask: number, attempt: number) => this.#step(now, { type: "networkError", ask, attempt });
  token_refreshed = (now: number, ask: number, ok: boolean) => this.#step(now, { type: "tokenRefreshed", ask, ok });
  auth_changed = () => this.#step(0, { type: "authChanged" });
  online = (now: number, online: boolean) => this.#step(now, { type: "online", online });
  tick = (now: number) => this.#step(now, { type: "tick" });

  deadline = () => this.router.deadline();
  /** An `Explanation` as JSON. */
  explain = (now: number, request: string) => this.router.step(now, `{"type":"explain","request":${request}}`);
  status = () => JSON.parse(this.router.status()) as Status;
  free = () => this.router.free();

  #step(now: number, event: { type: string; [field: string]: unknown }): string {
    return this.router.step(now, JSON.stringify(event));
  }
}

let loading: Promise<unknown> | undefined;

/** Once for all routers of the page; after a failure anew. */
async function load(url: string | URL | undefined): Promise<void> {
  const address = resolveUrl(url ?? new URL("../wasm/router/kinglet_bg.wasm", import.meta.url), "wasmUrl");
  loading ??= fetchBinary(address).then((module_or_path) => init({ module_or_path }));
  try {
    await loading;
  } catch (e) {
    loading = undefined;
    if (e instanceof KingletError) throw e;
    throw new KingletError("DOWNLOAD_FAILED", `the router's binary at ${address.href} cannot be used: ${String(e)}; check that wasm/ is served beside dist/, or pass { wasmUrl }`, {}, e);
  }
}

async function fetchBinary(url: URL): Promise<WebAssembly.Module> {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`HTTP status ${response.status}`);
  return WebAssembly.compile(await response.arrayBuffer());
}

export async function openCore(config: object, calibration: string | undefined, wasmUrl: string | URL | undefined): Promise<Core> {
  await load(wasmUrl);
  return guarded(() => new Core(new Router(JSON.stringify(config), calibration)));
}

/** What the core refuses is a string; everything else is a crash. */
export function guarded<T>(call: () => T): T {
  try {
    return call();
  } catch (e) {
    if (typeof e === "string") throw new KingletError("BAD_REQUEST", e);
    throw new KingletError("ENGINE_CRASHED", `the router crashed: ${String(e)}; create a new one`, {}, e);
  }
}

export function checkToken(token: string): void {
  guarded(() => check(token));
}
