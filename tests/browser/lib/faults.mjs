// A hub on its worst days: each answer is drawn from a seeded list of faults, until the bad days are over.

/** @typedef {import("./package.mjs").Route} Route */

/** Numbers from 0 to 1, the same in each run (mulberry32). */
export function generator(/** @type {number} */ seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let x = Math.imul(state ^ (state >>> 15), state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** What any client can notice, and what only one can that knows the digest. */
export const FAULTS = /** @type {const} */ (["cut", "cut", "other range", "short range", "whole", "429", "503", "slow", "chunked", "redirect", "expired", "changed", "reset", "web page"]);
export const SILENT_FAULTS = /** @type {const} */ (["corrupted", "shifted", "truncated"]);

/**
 * @param {object} how
 * @param {Buffer[]} how.versions of the file; "changed" goes to the next one
 * @param {() => number} how.random
 * @param {boolean} how.silent faults of which the client hears only by the digest
 * @param {boolean} how.validators an ETag, or none
 * @param {number} how.badRequests so many requests meet faults
 * @param {(path: string, answer: Route) => void} how.route
 * @param {string} how.path
 * @param {string} how.elsewhere origin for redirects
 */
export function badHub({ versions, random, silent, validators, badRequests, route, path, elsewhere }) {
  const hub = { version: 0, requests: 0, resumed: 0, sent: 0, faults: /** @type {Record<string, number>} */ ({}), calm: false };
  /** Each signed address is good for one request. */
  const signed = new Set();
  const faults = [...FAULTS, ...(silent ? SILENT_FAULTS : [])];

  const answer = (request, response, /** @type {string} */ fault) => {
    if (fault === "changed") hub.version = Math.min(hub.version + 1, versions.length - 1);
    const bytes = versions[hub.version];
    const etag = validators ? `"v${hub.version}"` : undefined;
    const wanted = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
    const same = request.headers["if-range"] === undefined || request.headers["if-range"] === etag;
    const partial = wanted && same && fault !== "whole";
    const asked = partial ? Number(wanted[1]) : 0;
    if (asked > 0) hub.resumed++;
    if (asked >= bytes.length) return void response.writeHead(416).end();
    const start = partial && fault === "other range" ? Math.floor(random() * bytes.length) : asked;
    let end = partial && wanted[2] ? Math.min(Number(wanted[2]) + 1, bytes.length) : bytes.length;
    if (partial && fault === "short range") end = start + Math.ceil(random() * (end - start));
    let body = bytes.subarray(start, end);
    if (fault === "corrupted") (body = Buffer.from(body))[Math.floor(random() * body.length)] ^= 1 << (random() * 8);
    if (fault === "shifted" && start > 0) body = bytes.subarray(start - 1, end - 1);
    if (fault === "truncated" && !partial) body = body.subarray(0, Math.ceil(random() * body.length));
    response.writeHead(partial ? 206 : 200, {
      ...(etag && { ETag: etag }),
      "Content-Type": "application/octet-stream",
      ...(fault !== "chunked" && { "Content-Length": body.length }),
      ...(partial && { "Content-Range": `bytes ${start}-${end - 1}/${bytes.length}` }),
    });
    hub.sent += body.length;
    if (fault === "cut") return void response.write(body.subarray(0, Math.floor(random() * body.length)), () => setTimeout(() => response.destroy(), 30));
    if (fault !== "slow") return void response.end(body);
    let at = 0;
    const piece = Math.ceil(body.length / 8);
    const timer = setInterval(() => {
      response.write(body.subarray(at, (at += piece)));
      if (at >= body.length || response.destroyed) {
        clearInterval(timer);
        response.end();
      }
    }, 40);
  };

  route(path, (request, response) => {
    let fault = !hub.calm && hub.requests++ < badRequests ? faults[Math.floor(random() * faults.length * 1.15)] : undefined;
    // Whole files come to bad ends too.
    if (!request.headers.range && ["other range", "short range", "whole", "shifted"].includes(fault ?? "")) fault = "cut";
    if (fault) hub.faults[fault] = (hub.faults[fault] ?? 0) + 1;
    if (fault === "429" || fault === "503") return void response.writeHead(Number(fault), { "Retry-After": "0" }).end();
    if (fault === "reset") return void response.destroy();
    if (fault === "web page") return void response.setHeader("Content-Type", "text/html").end("<!doctype html>please log in");
    if (fault !== "redirect" && fault !== "expired") return answer(request, response, fault ?? "");
    const token = String(Math.floor(random() * 2 ** 40));
    if (fault === "redirect") signed.add(token);
    response.writeHead(302, { Location: `${random() < 0.5 ? elsewhere : ""}${path}.signed?token=${token}` }).end();
  });
  route(`${path}.signed`, (request, response) => {
    const token = new URL(request.url ?? "", "http://localhost").searchParams.get("token");
    if (!signed.delete(token)) return void response.writeHead(403).end();
    answer(request, response, random() < 0.5 ? "cut" : "");
  });
  return hub;
}
