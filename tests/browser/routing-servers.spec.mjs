// The proxy of pkg/docs/routing-servers.md as it stands there: in front of the server that misbehaves, behind a page with the
// Content-Security-Policy of the same document.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { request as httpRequest } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { after, before, describe, test } from "node:test";
import { answerOf, startFaultServer } from "./lib/fault-server.mjs";
import { openPackage } from "./lib/package.mjs";
import { ROOT } from "./lib/server.mjs";

const document = readFileSync(join(ROOT, "pkg/docs/routing-servers.md"), "utf8");
const blocks = [...document.matchAll(/^```mjs\n\/\/ (\w+\.mjs)(.*?)^```$/gms)].map(([, name, code]) => ({ name, code: `//${code}` }));
const policy = /^Content-Security-Policy: (.*)$/m.exec(document)?.[1] ?? "";
const [KEY, MODEL] = ["the-key-of-the-proxy", "large"];

/** @type {Awaited<ReturnType<typeof openPackage>>} */
let it;
/** @type {Awaited<ReturnType<typeof startFaultServer>>} */
let upstream;
const folder = mkdtempSync(join(tmpdir(), "kinglet-proxy-"));
/** @type {import("node:child_process").ChildProcess[]} */
const proxies = [];
before(async () => {
  assert.deepEqual(blocks.map(({ name }) => name), ["proxy.mjs", "server.mjs"]);
  for (const { name, code } of blocks) writeFileSync(join(folder, name), code);
  [it, upstream] = await Promise.all([openPackage(), startFaultServer({ token: KEY })]);
  it.route("/guarded", (_, response) => response.setHeader("Content-Security-Policy", policy).setHeader("Content-Type", "text/html").end("<!doctype html><title>guarded</title>"));
  await it.page.goto(`${it.site.base}/guarded`);
});
after(() => {
  it.close();
  upstream.close();
  for (const proxy of proxies) proxy.kill();
  rmSync(folder, { recursive: true });
});

/** server.mjs in front of `url`. */
async function startProxy(/** @type {string} */ url, key = KEY) {
  const child = spawn(process.execPath, [join(folder, "server.mjs")], { env: { ...process.env, UPSTREAM: url, KEY: key, MODEL, PORT: "0" } });
  proxies.push(child);
  const base = await new Promise((resolve, reject) => {
    child.stdout.once("data", (line) => resolve(String(line).trim()));
    child.once("exit", (code) => reject(new Error(`the proxy ended with ${code}`)));
  });
  return base;
}

/** Asks through the page's own origin, where /api/chat is the proxy, as a web server in front would do it. */
async function through(/** @type {string} */ url, { key = KEY, model = MODEL, abortAfter = 0 } = {}) {
  const base = await startProxy(url, key);
  it.route("/api/chat", (request, response) => {
    const { method, headers } = request;
    const onward = httpRequest(`${base}/api/chat`, { method, headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.on("error", () => response.destroy()).pipe(response);
    });
    onward.on("error", () => response.destroy());
    response.on("close", () => onward.destroy());
    request.pipe(onward);
  });
  const got = await it.page.evaluate(async ({ model, abortAfter }) => {
    const { createRouter } = await import(/** @type {string} */ ("/pkg/dist/router.js"));
    const router = await createRouter({ cloud: { url: "/api/chat", model }, mode: "only-cloud", storage: null, name: crypto.randomUUID(), net: { backoffMs: 50, firstMs: 3_000 }, consent: () => "once" });
    const question = router.ask("Hello");
    let abortedAt = 0;
    if (abortAfter > 0) setTimeout(() => ((abortedAt = performance.timeOrigin + performance.now()), question.abort()), abortAfter);
    const end = await question.answer.then((answer) => ({ text: answer.text, record: answer.record }), ({ code, details }) => ({ code, record: details.record }));
    return { ...end, abortedAt };
  }, { model, abortAfter });
  return { ...got, outcomes: got.record.attempts.map((/** @type {{ outcome: string }} */ { outcome }) => outcome) };
}

describe("the documented proxy for Node.js", () => {
  test("adds the key, and passes answers on as they come", async () => {
    const at = await upstream.fault("none", 1);
    const got = await through(at.url);
    assert.equal(got.text, answerOf(at.path, 1));
    const [{ headers, body }] = upstream.posts(at.path);
    assert.equal(headers.authorization, `Bearer ${KEY}`);
    assert.deepEqual(JSON.parse(body).messages, [{ role: "user", content: "Hello" }]);
    const seen = it.seen.find(({ path }) => path === "/api/chat");
    assert.equal(seen?.headers.authorization, undefined);
  });

  for (const [name, seed, outcomes] of /** @type {[string, number, string[]][]} */ ([
    ["429 with seconds", 1, ["http-429", "ok"]],
    ["500", 1, ["http-500", "ok"]],
    ["reset before headers", 1, ["http-502", "ok"]],
  ])) {
    test(`${name}: tried again`, async () => {
      const at = await upstream.fault(name, seed, 1);
      const got = await through(at.url);
      assert.equal(got.text, answerOf(at.path, 2));
      assert.deepEqual(got.outcomes, outcomes);
      });
  }

  test("what breaks off in front of it, breaks off behind it", async () => {
    for (const seed of [1, 2, 3, 4, 5, 6]) {
      const at = await upstream.fault("cut inside a token", seed, 1);
      const got = await through(at.url);
      assert.equal(got.text, answerOf(at.path, 2), JSON.stringify(got));
      assert.ok(["cut", "network"].includes(got.outcomes[0]), got.outcomes.join());
      }
  });

  test("a wrong key is the server's 401", async () => {
    const at = await upstream.fault("none", 2);
    const got = await through(at.url, { key: "of yesterday" });
    assert.deepEqual(got.outcomes, ["http-401"]);
  });

  test("who leaves stops paying: the socket upstream closes", async () => {
    const at = await upstream.fault("endless", 3);
    const got = await through(at.url, { abortAfter: 400 });
    assert.equal(got.code, "ABORTED");
    await new Promise((resolve) => setTimeout(resolve, 300));
    const [{ closedAt = Infinity }] = upstream.posts(at.path);
    assert.ok(closedAt - got.abortedAt < 250, `${closedAt - got.abortedAt} ms`);
  });

  test("other models, longer answers, other sites and other paths are refused", async () => {
    const at = await upstream.fault("none", 4);
    const got = await through(at.url, { model: "larger" });
    assert.deepEqual(got.outcomes, ["http-400"]);
    const base = await startProxy(at.url);
    const status = async (/** @type {object} */ body, site = "same-origin", path = "/api/chat") => (await fetch(base + path, { method: "POST", headers: { "Sec-Fetch-Site": site }, body: JSON.stringify(body) })).status;
    assert.deepEqual(await Promise.all([status({ model: MODEL, max_tokens: 1e6 }), status({ model: MODEL }), status({ model: MODEL, max_tokens: 9 }, "cross-site"), status({}, "same-origin", "/")]), [400, 400, 403, 404]);
    assert.equal(upstream.posts(at.path).length, 0);
  });
});

describe("the same as a fetch handler, as workers run it", () => {
  test("passes the stream on, and lets go of it", async () => {
    const { default: proxy } = await import(pathToFileURL(join(folder, "proxy.mjs")).href);
    const ask = (/** @type {string} */ url) => proxy.fetch(new Request("https://page.example/api/chat", {
      method: "POST", headers: { "sec-fetch-site": "same-origin" }, body: JSON.stringify({ model: MODEL, max_tokens: 64, messages: [] }),
    }), { UPSTREAM: url, KEY, MODEL });
    const at = await upstream.fault("none", 5);
    const whole = await ask(at.url);
    assert.match(whole.headers.get("content-type"), /event-stream/);
    assert.ok((await whole.text()).endsWith("data: [DONE]\n\n"));
    const endless = await upstream.fault("endless", 6);
    const reader = (await ask(endless.url)).body.getReader();
    await reader.read();
    await reader.cancel();
    await new Promise((resolve) => setTimeout(resolve, 200));
    assert.ok(upstream.posts(endless.path)[0].closedAt);
  });
});

test("under the documented policy the engine and the router run, and nothing else can be reached", async () => {
  assert.match(policy, /connect-src 'self'$/);
  const at = await upstream.fault("none", 7);
  const got = await it.page.evaluate(async (url) => {
    const { createEngine } = await import(/** @type {string} */ ("/pkg/dist/index.js"));
    const engine = await createEngine({});
    const { choices } = await engine.chat.completions.create({ messages: [{ role: "user", content: "Hello" }], temperature: 0, max_tokens: 4 });
    const elsewhere = await fetch(url, { method: "POST", body: "{}" }).then(() => "reached", String);
    return { text: choices[0].message.content, elsewhere };
  }, at.url);
  assert.ok(got.text.length > 3);
  assert.match(got.elsewhere, /Failed to fetch/);
  assert.equal(upstream.posts(at.path).length, 0);
});
