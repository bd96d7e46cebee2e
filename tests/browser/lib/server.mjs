// A static server for tests: folders under prefixes, ranges, and a hook for misbehaviour. `cargo xtask serve` is the one for people.
import { createReadStream, statSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

/** The repository's root. */
export const ROOT = fileURLToPath(new URL("../../../", import.meta.url));
/** Real data that lies beside the repository, not in it. */
export const DATA = join(ROOT, "../shared/data");

const TYPES = {
  ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".mjs": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8", ".json": "application/json", ".wasm": "application/wasm", ".svg": "image/svg+xml",
};

/** What makes a page cross-origin isolated, and lets it load what such a page may. */
export const ISOLATED = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cross-Origin-Resource-Policy": "same-origin",
};

/**
 * Serves on a free port of this machine.
 * @param {Record<string, string>} mounts URL prefix, ending in "/", to folder; the longest prefix wins
 * @param {(request: import("node:http").IncomingMessage, response: import("node:http").ServerResponse) => boolean | void} [hook]
 *   sees every request first; true means that it has answered
 * @param {Record<string, string>} [headers] of every response
 */
export async function serve(mounts, hook, headers = ISOLATED) {
  const prefixes = Object.keys(mounts).sort((a, b) => b.length - a.length);
  /** @type {string[]} */
  const requests = [];
  const server = createServer((request, response) => {
    requests.push(`${request.method} ${request.url}`);
    for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
    // Chromium's cache would turn a request to resume into others of its own.
    response.setHeader("Cache-Control", "no-store");
    if (hook?.(request, response)) return;
    const path = normalize(decodeURIComponent(new URL(request.url ?? "/", "http://localhost").pathname));
    const prefix = prefixes.find((prefix) => path.startsWith(prefix));
    if (!prefix) return void response.writeHead(404).end();
    sendFile(request, response, join(mounts[prefix], path.slice(prefix.length)));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(undefined)));
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  return {
    base: `http://localhost:${port}`,
    /** Every request so far, as "METHOD /path". */
    requests,
    close() {
      server.closeAllConnections();
      server.close();
    },
  };
}

/** Sends a file, or the part of it that the request's Range header names. */
export function sendFile(request, response, file) {
  let stat = statSync(file, { throwIfNoEntry: false });
  if (stat?.isDirectory()) stat = statSync((file = join(file, "index.html")), { throwIfNoEntry: false });
  if (!stat?.isFile()) return void response.writeHead(404).end();
  response.setHeader("Content-Type", TYPES[extname(file)] ?? "application/octet-stream");
  response.setHeader("Accept-Ranges", "bytes");
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
  if (!range) {
    response.writeHead(200, { "Content-Length": stat.size });
    return void (request.method === "HEAD" ? response.end() : createReadStream(file).pipe(response));
  }
  const start = Number(range[1]);
  const end = range[2] ? Math.min(Number(range[2]), stat.size - 1) : stat.size - 1;
  if (start > end) return void response.writeHead(416, { "Content-Range": `bytes */${stat.size}` }).end();
  response.writeHead(206, { "Content-Range": `bytes ${start}-${end}/${stat.size}`, "Content-Length": end - start + 1 });
  createReadStream(file, { start, end }).pipe(response);
}
