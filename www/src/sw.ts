/// <reference lib="webworker" />
// The page's one service worker. It keeps the built files, so that the page opens without a network, and adds the headers that
// isolate it, so that threads work on hosts that set none. Models are not its business: they lie in the private file system.

/** Made by build.mjs: the files beside this one, each with its SHA-256, and a version that all of them come to. */
declare const FILES: Record<string, string>;
declare const VERSION: string;

const worker = self as unknown as ServiceWorkerGlobalScope;
const { scope } = worker.registration;
/** Of this page only: others may live on the same origin. */
const PREFIX = `kinglet-page ${scope} `;
const CACHE = PREFIX + VERSION;
/** v128.const twice, i32x4.relaxed_dot: a browser that validates it never takes the binary for plain SIMD. */
const RELAXED = WebAssembly.validate(new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 20, 1, 18, 0, 65, 0, 253, 15, 65, 0, 253, 15, 65, 0, 253, 15, 253, 0x93, 0x02, 11,
]));
/** The page uses no forms; its threads and its pool need relaxed SIMD. */
const kept = Object.entries(FILES).filter(([path]) => !path.includes("wasm/grammar/") && !(RELAXED && path.includes("wasm/simd/")));

const addressOf = (path: string) => new URL(path, scope).href;
const keyOf = (path: string) => `${addressOf(path)}?sha256=${FILES[path]}`;

worker.addEventListener("install", (event) => {
  // The first one takes the page at once, for isolation, and keeps the files when the page has loaded. A later one keeps them
  // first, and waits until the person wants the new version.
  event.waitUntil(worker.registration.active ? keepAll() : worker.skipWaiting());
});

worker.addEventListener("activate", (event) => {
  event.waitUntil(Promise.all([worker.clients.claim(), forgetOthers()]));
});

worker.addEventListener("message", (event) => {
  if (event.data === "take over") event.waitUntil(worker.skipWaiting());
  if (event.data === "keep") {
    const tell = (answer: object) => event.source?.postMessage(answer);
    event.waitUntil(keepAll().then((bytes) => tell({ kept: true, bytes }), (error: unknown) => tell({ kept: false, why: String(error) })));
  }
});

worker.addEventListener("fetch", (event) => {
  const { request } = event;
  const { origin, pathname, href } = new URL(request.url);
  if (request.method !== "GET" || origin !== worker.location.origin || !href.startsWith(scope)) return;
  const path = decodeURIComponent(pathname.slice(new URL(scope).pathname.length)) || "index.html";
  if (path in FILES) event.respondWith(fromCache(path, request));
  else if (request.mode === "navigate") event.respondWith(fetch(request).then(isolated));
});

async function fromCache(path: string, request: Request): Promise<Response> {
  const cache = await caches.open(CACHE);
  const found = await cache.match(keyOf(path));
  if (!found) return isolated(await fetch(request));
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.get("range") ?? "");
  return isolated(range ? await part(found, Number(range[1]), range[2]) : found);
}

async function part(whole: Response, start: number, last: string | undefined): Promise<Response> {
  const blob = await whole.blob();
  const end = last ? Math.min(Number(last) + 1, blob.size) : blob.size;
  if (start >= end) return new Response(null, { status: 416, headers: { "Content-Range": `bytes */${blob.size}` } });
  const headers = new Headers(whole.headers);
  headers.set("Content-Range", `bytes ${start}-${end - 1}/${blob.size}`);
  headers.set("Content-Length", String(end - start));
  return new Response(blob.slice(start, end), { status: 206, headers });
}

/** Resolves to their bytes. What another version kept already is not downloaded again. Rejects unless every file is the very one. */
async function keepAll(): Promise<number> {
  const cache = await caches.open(CACHE);
  const others = (await caches.keys()).filter((name) => name.startsWith(PREFIX) && name !== CACHE);
  let bytes = 0;
  for (const [path, sha256] of kept) {
    const key = keyOf(path);
    let found = await cache.match(key);
    for (const name of others) if (!found) found = await (await caches.open(name)).match(key);
    if (!found) {
      found = await fetch(addressOf(path), { cache: "no-cache" });
      if (!found.ok) throw new Error(`${path}: status ${found.status}`);
      const digest = await crypto.subtle.digest("SHA-256", await found.clone().arrayBuffer());
      if (hex(digest) !== sha256) throw new Error(`${path} is of another version`);
    }
    bytes += Number(found.headers.get("content-length") ?? 0);
    if (!(await cache.match(key))) await cache.put(key, found);
  }
  return bytes;
}

async function forgetOthers(): Promise<void> {
  const names = await caches.keys();
  await Promise.all(names.filter((name) => name.startsWith(PREFIX) && name !== CACHE).map((name) => caches.delete(name)));
}

function isolated(response: Response): Response {
  if (response.status === 0 || response.redirected) return response;
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  headers.set("Cross-Origin-Resource-Policy", "same-origin");
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}

const hex = (digest: ArrayBuffer) => [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
