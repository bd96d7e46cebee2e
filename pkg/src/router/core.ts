// The router's core in its binary: events in, actions out.

import init, { check, Router as Core } from "#wasm/router";
import { KingletError } from "../errors.js";
import { resolveUrl } from "../model.js";
import type { AskEvent, DecisionRecord, Destination, Preview } from "./types.js";

export type { Core };

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
  return guarded(() => new Core(JSON.stringify(config), calibration));
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
