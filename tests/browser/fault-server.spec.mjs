// The server of faults does on the wire what its scripts say: seen by raw sockets, without a browser.
import assert from "node:assert/strict";
import { connect } from "node:net";
import { after, before, describe, test } from "node:test";
import { answerOf, startFaultServer } from "./lib/fault-server.mjs";
import { expected, FAULTS, TOKENS } from "./lib/fault-scripts.mjs";

const SLOW = 300;
/** @type {Awaited<ReturnType<typeof startFaultServer>>} */
let server;
before(async () => void (server = await startFaultServer({ slowMs: SLOW })));
after(() => server.close());

/**
 * What one request brings: the head, the body without its chunks' lengths, when things came, and how it ended.
 * @param {string} url
 * @param {object} [how]
 * @param {string} [how.method]
 * @param {string} [how.body]
 * @param {number} [how.closeAfter] milliseconds
 */
function ask(url, { method = "POST", body = '{"messages":[{"role":"user","content":"Hi"}]}', closeAfter } = {}) {
  const { port, pathname } = new URL(url);
  return new Promise((/** @type {(got: Got) => void} */ resolve) => {
    const start = performance.now();
    /** @type {Buffer[]} */
    const parts = [];
    let [headAt, bodyAt] = [Infinity, Infinity];
    const done = (/** @type {string} */ end) => {
      const raw = Buffer.concat(parts);
      const split = raw.indexOf("\r\n\r\n");
      const head = raw.subarray(0, Math.max(split, 0)).toString();
      const { body, complete } = dechunk(raw.subarray(split + 4), split < 0 || !/chunked/i.test(head));
      resolve({ status: Number(/^HTTP\/1.1 (\d+)/.exec(head)?.[1] ?? 0), head, body, headAt, bodyAt, end: end === "end" ? (complete ? "whole" : "cut") : end });
    };
    const socket = connect(Number(port), "127.0.0.1");
    socket.write(`${method} ${pathname} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
    socket.on("data", (part) => {
      parts.push(part);
      headAt = Math.min(headAt, performance.now() - start);
      if (bodyAt === Infinity && Buffer.concat(parts).includes("data:")) bodyAt = performance.now() - start;
    });
    socket.on("end", () => done("end"));
    socket.on("error", (error) => done(/** @type {NodeJS.ErrnoException} */ (error).code ?? "error"));
    if (closeAfter !== undefined) setTimeout(() => (socket.destroy(), done("closed")), closeAfter);
  });
}
/** @typedef {{ status: number, head: string, body: Buffer, headAt: number, bodyAt: number, end: string }} Got */

function dechunk(/** @type {Buffer} */ raw, plain = false) {
  if (plain) return { body: raw, complete: true };
  const parts = [];
  for (let at = 0; ; ) {
    const line = raw.indexOf("\r\n", at);
    const size = line < 0 ? NaN : Number.parseInt(raw.subarray(at, line).toString(), 16);
    if (size === 0) return { body: Buffer.concat(parts), complete: true };
    if (Number.isNaN(size)) return { body: Buffer.concat(parts), complete: false };
    parts.push(raw.subarray(line + 2, line + 2 + size));
    at = line + 2 + size + 2;
  }
}

/** The text of a stream's events; of those with one number, of the first. */
function textOf(/** @type {Buffer} */ body) {
  const texts = body.toString().replace(/(id: \d+\ndata: .*\n\n)\1/g, "$1").split("\n\n").map((event) => event.split("\n").find((line) => line.startsWith("data:"))?.slice(5).trim());
  return texts.map((data) => {
    try {
      return JSON.parse(data ?? "").choices?.[0]?.delta?.content ?? "";
    } catch {
      return "";
    }
  }).join("");
}

const SEEDS = [1, 2, 3, 4, 5, 6];
const DONE = "data: [DONE]\n\n";
/** @type {Record<string, (got: Got, answer: string) => void>} What only this fault does. */
const LOOKS = {
  refused: (got) => assert.equal(got.end, "ECONNREFUSED"),
  "reset before headers": (got) => assert.deepEqual([got.end, got.head], ["ECONNRESET", ""]),
  "slow headers": (got) => assert.ok(got.headAt >= SLOW && got.end === "whole", `${got.headAt} ms`),
  "401 then ok": (got) => assert.equal(got.status, 401),
  "429 with seconds": (got) => (assert.equal(got.status, 429), assert.match(got.head, /^Retry-After: [01]\r?$/im)),
  "429 with a date": (got) => (assert.equal(got.status, 429), assert.match(got.head, /^Retry-After: \w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT\r?$/im)),
  "429 absurd": (got) => (assert.equal(got.status, 429), assert.match(got.head, /^Retry-After: (86400|9{20}|Fri, 31 Dec 2100 .*)\r?$/im)),
  "503 storm": (got) => assert.equal(got.status, 503),
  "HTML 200": (got) => (assert.equal(got.status, 200), assert.match(got.body.toString(), /^\s*<!DOCTYPE html>/)),
  "JSON 200": (got, answer) => assert.equal(JSON.parse(got.body.toString()).choices[0].message.content, answer),
  "no content type": (got) => assert.ok(!/content-type/i.test(got.head) && got.body.toString().endsWith(DONE)),
  "first event stalls": (got) => assert.ok(got.headAt < SLOW && got.bodyAt >= SLOW && got.end === "whole", `${got.headAt} ${got.bodyAt}`),
  "comments only": (got) => assert.match(got.body.toString(), /^(: keep-alive\n\n)+$/),
  "cut inside a token": (got) => assert.ok(!got.body.toString().endsWith("\n\n") && !got.body.includes("finish_reason\":\"stop")),
  "cut inside a character": (got) => assert.ok((got.body.at(-1) ?? 0) >= 0xc0),
  "end without [DONE]": (got) => assert.ok(got.body.includes('"usage"') && !got.body.includes("[DONE]") && got.end === "whole"),
  "error event mid-stream": (got) => assert.match(got.body.toString(), /\n\n(event: error|data: \{"error")[^]*\n\ndata: \{"id"/),
  "one malformed JSON": (got, answer) => (assert.ok(got.body.includes('[{"delta\n\n')), assert.equal(textOf(got.body), answer)),
  "three malformed JSON": (got) => assert.ok(got.body.includes("data: oops\n\ndata: [1,\n\n")),
  "bytes one by one": (got, answer) => assert.equal(textOf(got.body), answer),
  "a 2 MB event": (got) => assert.ok(Math.max(...got.body.toString().split("\n\n").map((event) => event.length)) > 2e6),
  "duplicated events": (got) => assert.match(got.body.toString(), /(id: \d+\ndata: .*\n\n)\1/),
  "wrong finish": (got) => assert.ok(got.body.includes('"finish_reason":"banana"') && got.body.toString().endsWith(DONE)),
  "usage missing": (got) => assert.ok(!got.body.includes('"usage"') && got.body.toString().endsWith(DONE)),
  "trickle after [DONE]": (got) => assert.ok(got.body.toString().split("[DONE]\n\n")[1]?.startsWith("data:")),
  "CORS refusal": (got) => assert.ok(got.status === 200 && !/access-control-allow-origin/i.test(got.head)),
};

describe("each fault on the wire", () => {
  for (const [name, heals] of FAULTS) {
    test(name, async () => {
      // Enough for every variant of a fault.
      const seeds = name.startsWith("cut") ? [...SEEDS, ...SEEDS.map((seed) => seed + 10)] : heals === "answers" && name !== "JSON 200" ? SEEDS.slice(0, 2) : SEEDS;
      /** @type {Set<string>} */
      const ends = new Set();
      await Promise.all(seeds.map(async (seed) => {
        const at = await server.fault(name, seed, 1);
        const endless = name === "comments only" || name === "trickle after [DONE]";
        const got = await ask(at.url, { closeAfter: endless ? 700 : undefined });
        ends.add(got.end);
        const answer = expected(name, answerOf(at.path, 1));
        (LOOKS[name] ?? (() => assert.equal(got.status, Number(name))))(got, answer);
        if (heals === "answers" && name !== "JSON 200") assert.ok(textOf(got.body).startsWith(answer));
        if (!name.startsWith("cut") && name !== "CORS refusal" && got.status) assert.match(got.head, /^access-control-expose-headers: retry-after\r?$/im);
        await at.heal();
        const healed = await ask(at.url);
        const attempt = name === "refused" ? 1 : 2;
        assert.equal(textOf(healed.body), answerOf(at.path, attempt));
        assert.ok(healed.end === "whole" && healed.body.toString().endsWith(DONE));
        assert.equal(server.posts(at.path).length, attempt);
      }));
      // The ways to break off: all of them occur.
      if (name.startsWith("cut")) assert.deepEqual([...ends].sort(), ["ECONNRESET", "cut", "whole"]);
    });
  }
});

describe("the books", () => {
  test("bodies byte for byte, tokens that were billed, connections", async () => {
    const opened = server.connections.opened;
    const at = await server.fault("402", 70, 1);
    const body = '{"messages": [{"role":"user","content":"caf\u00e9 CANARY-1"}] }';
    await ask(at.url, { body });
    await ask(at.url, { body });
    assert.equal(server.connections.opened, opened + 2);
    const [refused, answered] = server.posts(at.path);
    assert.deepEqual([refused.body, answered.body], [body, body]);
    assert.deepEqual([refused.billed, answered.billed], [undefined, TOKENS]);
  });

  test("the same seed brings the same pieces", async () => {
    const at = await server.fault("cut inside a token", 71, 1e6);
    const again = await server.fault("cut inside a token", 71, 1e6 - 1);
    assert.deepEqual([(await ask(at.url)).end, (await ask(at.url)).end], [(await ask(again.url)).end, (await ask(again.url)).end]);
  });

  test("a client that goes is seen to go, at once", async () => {
    const at = await server.fault("endless", 72);
    const start = performance.timeOrigin + performance.now();
    await ask(at.url, { closeAfter: 200 });
    await new Promise((resolve) => setTimeout(resolve, 50));
    const [entry] = server.posts(at.path);
    const took = (entry.closedAt ?? Infinity) - start;
    assert.ok(entry.endedAt === undefined && took >= 190 && took < 260, `${took} ms`);
  });

  test("the echo says what it was asked", async () => {
    const at = await server.fault("echo", 73);
    assert.equal(textOf((await ask(at.url)).body), "Hi");
  });

  test("preflights are answered, and refused where the script says so", async () => {
    const heads = new Set();
    for (const seed of SEEDS) {
      const at = await server.fault("CORS refusal", seed + 80, 1);
      const preflight = await ask(at.url, { method: "OPTIONS", body: "" });
      heads.add(/access-control-allow-headers: authorization, content-type/i.test(preflight.head));
      assert.equal(server.posts(at.path).length, 0);
    }
    assert.deepEqual([...heads].sort(), [false, true]);
  });

  test("a wrong token gets 401, a path that is none 404", async () => {
    const guarded = await startFaultServer({ token: "right" });
    const at = await guarded.fault("none", 1);
    const status = async (/** @type {string} */ token) => (await fetch(at.url, { method: "POST", body: "{}", headers: { Authorization: `Bearer ${token}` } })).status;
    assert.deepEqual([await status("wrong"), await status("right")], [401, 200]);
    assert.equal((await fetch(new URL("/fault/none", at.url), { method: "POST" })).status, 404);
    guarded.close();
  });
});
