// An OpenAI-compatible server of chat completions that misbehaves as it is told, over real sockets, and keeps books.
import { createServer } from "node:http";
import { FAULTS, randomOf, scriptOf, slug, TOKENS } from "./fault-scripts.mjs";

/**
 * One request that arrived.
 * @typedef {object} Seen
 * @property {string} path
 * @property {string} method
 * @property {import("node:http").IncomingHttpHeaders} headers
 * @property {string} body as it came
 * @property {number} connection counted from 1
 * @property {number} attempt of its path, counted from 1; preflights count where they are refused
 * @property {number} at when it was complete, in milliseconds since 1970
 * @property {number} [endedAt] when the script had come to its end
 * @property {number} [closedAt] when the answer was over, be it because the client closed the socket
 * @property {{ input: number, output: number }} [billed] tokens
 */

const REFUSED = "refused";
const NAMES = new Map([...FAULTS.map(([name]) => name), "none", "echo", "endless"].filter((name) => name !== REFUSED).map((name) => [slug(name), name]));
const CORS = { "Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": "Retry-After" };
const PREFLIGHT = { ...CORS, "Access-Control-Allow-Methods": "POST", "Access-Control-Allow-Headers": "authorization, content-type" };
const now = () => performance.timeOrigin + performance.now();

/** What the nth attempt at a path says. */
export const answerOf = (/** @type {string} */ path, /** @type {number} */ attempt) =>
  `Attempt ${attempt} at ${path.split("/").slice(2, 5).join(" ")} says: Paris – die Hauptstadt, naïvely “the capital” 🗼 of France.`;

/** The times so often that a fault is there for good. */
export const ALWAYS = 1e6;

/**
 * Serves POST /fault/NAME/SEED/TIMES/v1/chat/completions: the first TIMES attempts at a path meet the fault of this name
 * (`slug` of one of FAULTS, or "none", "echo", "endless"), later ones are answered. The same seed, the same bytes in
 * the same pieces.
 * @param {object} [how]
 * @param {number} [how.slowMs] how long slow headers and a stalled first event take; longer than the client waits
 * @param {string} [how.token] what `Authorization: Bearer` must say; other requests get 401
 */
export async function startFaultServer({ slowMs = 25_000, token } = {}) {
  /** @type {Seen[]} */
  const seen = [];
  /** @type {Map<string, number>} */
  const attempts = new Map();
  const connections = { opened: 0, open: 0 };
  /** @type {WeakMap<import("node:net").Socket, number>} */
  const numbers = new WeakMap();

  const listener = (/** @type {import("node:http").IncomingMessage} */ request, /** @type {import("node:http").ServerResponse} */ response) => {
    /** @type {Buffer[]} */
    const parts = [];
    request.on("data", (part) => parts.push(part));
    request.on("end", () => void answer(request, response, Buffer.concat(parts).toString()));
    request.on("error", () => {});
    response.on("error", () => {});
  };
  /** @type {import("node:http").Server[]} */
  const servers = [];
  const listen = async (port = 0) => {
    const server = createServer({ noDelay: true }, listener);
    server.on("connection", (socket) => {
      numbers.set(socket, ++connections.opened);
      connections.open++;
      socket.on("close", () => connections.open--);
      socket.on("error", () => {});
    });
    await new Promise((resolve, reject) => server.once("error", reject).listen(port, "127.0.0.1", () => resolve(undefined)));
    servers.push(server);
    return /** @type {import("node:net").AddressInfo} */ (server.address()).port;
  };

  async function answer(request, response, body) {
    const { pathname: path } = new URL(request.url, "http://localhost");
    const [, , code, seed, times] = path.split("/");
    const name = NAMES.get(code);
    if (!path.startsWith("/fault/") || name === undefined || !/^\d+$/.test(seed) || !/^\d+$/.test(times)) return void response.writeHead(404, CORS).end();
    const count = attempts.get(path) ?? 0;
    const faulty = count < Number(times);
    const random = randomOf(Number(seed) * 1_000 + count);
    const text = name === "echo" ? JSON.parse(body || "{}").messages?.at(-1)?.content ?? "" : answerOf(path, count + 1);
    const script = scriptOf(faulty || name === "echo" ? name : "none", { random, text, slowMs });
    const preflight = request.method === "OPTIONS";
    // A preflight is an attempt where it is the last that the client gets to send.
    const counts = !preflight || script.cors === "none";
    if (counts) attempts.set(path, count + 1);
    /** @type {Seen} */
    const entry = { path, method: request.method, headers: request.headers, body, connection: numbers.get(request.socket) ?? 0, attempt: count + (counts ? 1 : 0), at: now() };
    seen.push(entry);
    response.once("close", () => (entry.closedAt = now()));
    if (preflight) return void response.writeHead(204, script.cors === "none" ? {} : PREFLIGHT).end();
    if (token !== undefined && request.headers.authorization !== `Bearer ${token}`) return void response.writeHead(401, CORS).end();
    if (script.billed) entry.billed = { ...TOKENS };
    await play(script, response, () => (entry.endedAt = now()));
  }

  const port = await listen();
  return {
    /**
     * Where the first `times` attempts meet the fault.
     * @param {string} name @param {number} seed @param {number} [times]
     */
    async fault(name, seed, times = ALWAYS) {
      const path = (/** @type {string} */ name, /** @type {number} */ times) => `/fault/${slug(name)}/${seed}/${times}/v1/chat/completions`;
      if (name !== REFUSED) return { url: `http://localhost:${port}${path(name, times)}`, path: path(name, times), heal: async () => {} };
      // Nobody listens at a port that was free just now, until it is healed.
      const free = await listen();
      servers.pop()?.close();
      return { url: `http://localhost:${free}${path("none", 0)}`, path: path("none", 0), heal: async () => void (await listen(free)) };
    },
    /** Every request so far, preflights too. */
    seen,
    connections,
    /** Requests for answers at a path. */
    posts: (/** @type {string} */ path) => seen.filter((entry) => entry.path === path && entry.method === "POST"),
    close() {
      for (const server of servers) {
        server.closeAllConnections();
        server.close();
      }
    },
  };
}

/**
 * @param {import("./fault-scripts.mjs").Script} script
 * @param {import("node:http").ServerResponse} response
 * @param {() => void} ended
 */
async function play(script, response, ended) {
  const { socket } = response;
  for (const step of script.steps) {
    if (step.after > 0) await new Promise((resolve) => setTimeout(resolve, step.after));
    if (!socket || socket.destroyed) return;
    if (step.head) {
      const { status, type, retryAfter } = step.head;
      const headers = { ...(script.cors ? {} : CORS), ...(type ? { "Content-Type": type } : {}), ...(retryAfter ? { "Retry-After": retryAfter } : {}) };
      response.writeHead(status, headers).flushHeaders();
    }
    // Every piece in a packet of its own, as far as the system lets it.
    if (step.bytes?.length) {
      const { bytes } = step;
      await new Promise((resolve) => response.write(bytes, resolve));
    }
    if (step.end === "whole") response.end(ended);
    if (step.end === "cut") socket.end(ended);
    if (step.end === "reset") {
      ended();
      socket.resetAndDestroy();
    }
  }
}
