// The one place that sends. What it sends was sealed by the core: agreed to, scanned, and paid for.

import type { SealedRequest } from "./core.js";

export function send(request: SealedRequest, token: Record<string, string>, signal: AbortSignal): Promise<Response> {
  const { url, headers, ...init } = request;
  return fetch(url, { ...init, headers: { ...Object.fromEntries(headers), ...token }, signal });
}

const PROBE_MS = 1000;

/**
 * Why a server on the user's own machine or network cannot be reached, where that can be found out: a browser says
 * "Failed to fetch" for all of it. Undefined elsewhere: nothing is asked of a server on the internet.
 */
export async function diagnose(url: string, signal: AbortSignal): Promise<string | undefined> {
  const { origin, hostname } = new URL(url);
  if (!isLocal(hostname)) return undefined;
  const page = globalThis.location?.origin ?? "this page";
  if (await isDenied(isLoopback(hostname) ? "loopback-network" : "local-network")) {
    return `the browser may not reach the local network from ${page}: allow "Local network access" (Chrome: the icon beside the address, Site settings) and reload`;
  }
  const refused = `does not allow ${page}: set its CORS header Access-Control-Allow-Origin (Ollama: OLLAMA_ORIGINS=${page}; vLLM: --allowed-origins '["${page}"]'), with content-type and authorization among the allowed headers`;
  const start = "start the server, and if the browser asks, allow the page to reach the local network (Safari blocks http from an https page)";
  try {
    // Without content or credentials; what comes back cannot be read, but that it comes says enough.
    await fetch(origin, { mode: "no-cors", credentials: "omit", referrerPolicy: "no-referrer", cache: "no-store", signal: AbortSignal.any([signal, AbortSignal.timeout(PROBE_MS)]) });
  } catch {
    // An isolated page is told nothing of a server that does not allow it.
    return globalThis.crossOriginIsolated ? `either nothing answers at ${origin}, or it ${refused}; ${start}` : `nothing answers at ${origin}: ${start}`;
  }
  return `${origin} answers but ${refused}`;
}

/** Whether the user said no to Chrome's prompt, which newer versions ask by kind of address. */
async function isDenied(name: string): Promise<boolean> {
  const state = (name: string) => navigator.permissions.query({ name: name as PermissionName }).then((status) => status.state, () => undefined);
  return (await Promise.all(["local-network-access", name].map(state))).includes("denied");
}

function isLoopback(host: string): boolean {
  return host === "localhost" || host.endsWith(".localhost") || host === "[::1]" || /^127\./.test(host);
}

function isLocal(host: string): boolean {
  return isLoopback(host) || host.endsWith(".local") || /^(10|192\.168|172\.(1[6-9]|2\d|3[01])|169\.254)\./.test(host) || /^\[f[cde]/.test(host);
}
