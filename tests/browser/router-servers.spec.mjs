// The packed router in real Chromium against real servers: llama.cpp's with the embedded model, and LiteLLM's proxy.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { startFaultServer } from "./lib/fault-server.mjs";
import { openPackage } from "./lib/package.mjs";
import { startLiteLlm, startLlamaCpp } from "./lib/real-servers.mjs";
import { ROOT } from "./lib/server.mjs";

const PRICE = { input: 3, output: 15 };
const QUESTION = [{ role: "user", content: "Tell me a story about a bird." }];

/** @type {Awaited<ReturnType<typeof openPackage>>} */
let it;
before(async () => {
  it = await openPackage();
  await it.page.evaluate(prepare);
});
after(() => it.close());

/** Runs in the page. */
async function prepare() {
  const { createRouter } = await import(/** @type {string} */ ("/pkg/dist/router.js"));
  const engine = await createEngine({});
  // The limit is none of the request's: a cut answer is one to escalate.
  const create = (/** @type {object} */ request, /** @type {object} */ options) => engine.chat.completions.create(/** @type {any} */ ({ ...request, temperature: 0, max_tokens: 4 }), options);
  Object.assign(globalThis, {
    /** @param {Asked} asked */
    async route({ cloud, request, times = 1 }) {
      const previews = [];
      const router = await createRouter({
        local: { chat: { completions: { create } } }, cloud, mode: "auto", storage: null, name: crypto.randomUUID(),
        net: { backoffMs: 50 }, consent: (preview) => (previews.push(preview), "always"),
      });
      const asked = [];
      for (let i = 0; i < times; i++) {
        const events = /** @type {any[]} */ ([]);
        for await (const event of router.ask({ temperature: 0, ...request })) events.push(event);
        asked.push({ answer: events.at(-1).answer, events });
      }
      // The last cost is written when the answer is there already.
      let stats = router.stats();
      for (let i = 0; i < 100 && Math.abs(stats.spentUsd - stats.costUsd) > 1e-9; i++) {
        await new Promise((resolve) => setTimeout(resolve, 20));
        stats = router.stats();
      }
      router.dispose();
      return { asked, previews, stats };
    },
  });
}

/** @typedef {{ cloud: object, request: object, times?: number }} Asked */
/** @param {Asked} asked @returns {Promise<any>} */
const route = (asked) => it.page.evaluate((asked) => /** @type {any} */ (globalThis).route(asked), asked);

const usd = ({ input, output }) => (input * PRICE.input + output * PRICE.output) / 1e6;
const near = (/** @type {number} */ a, /** @type {number} */ b) => assert.ok(Math.abs(a - b) < 1e-9, `${a} is not ${b}`);

/** What every streamed answer has to be: shown first as a draft, taken back, streamed by the cloud, paid as the server says. */
function streamed({ answer, events }, stats) {
  assert.equal(answer.source, "cloud");
  assert.equal(answer.record.wantedCloud, "veto-cut");
  const kinds = events.map(({ type, source }) => source ?? type);
  assert.ok(kinds.includes("local") && kinds.indexOf("switch") < kinds.indexOf("cloud"), kinds.join());
  const text = events.filter(({ type, source }) => type === "token" && source === "cloud").map((event) => event.text);
  assert.ok(text.length > 3, `${text.length} pieces`);
  assert.equal(text.join(""), answer.text);
  near(answer.record.costUsd, usd(answer.usage));
  near(stats.spentUsd, answer.record.costUsd);
  assert.equal(answer.record.costIsBound, false);
}

/** The cloud said no once and for all: the draft stays, nothing is paid. */
function refused({ answer }, blockedBy, attempts) {
  assert.equal(answer.source, "local", JSON.stringify(answer));
  assert.equal(answer.degraded?.blockedBy, blockedBy);
  assert.deepEqual(answer.record.attempts.map(({ outcome }) => outcome), Array(attempts).fill(blockedBy));
  assert.equal(answer.record.costUsd, 0);
}

describe("llama.cpp's server", () => {
  const KEY = "a-token-of-the-day";
  /** @type {Awaited<ReturnType<typeof startLlamaCpp>>} */
  let server;
  /** @type {(auth?: string) => object} */
  const cloud = (auth = KEY) => ({ url: server.url, model: "kinglet-tiny", auth, price: PRICE, maxTokens: 48 });
  before(async () => void (server = await startLlamaCpp(join(ROOT, "models/kinglet-tiny.gguf"), 256, KEY)));
  after(() => server.close());

  test("a streamed answer, escalated with consent, is the server's, and costs what the server counted", async () => {
    const { asked, previews, stats } = await route({ cloud: cloud(), request: { messages: QUESTION } });
    assert.equal(previews.length, 1);
    const sent = await fetch(server.url, { method: "POST", headers: { "Content-Type": "application/json", Authorization: `Bearer ${KEY}` }, body: previews[0].body.replace('"stream":true', '"stream":false') });
    const whole = await sent.json();
    streamed(asked[0], stats);
    assert.equal(asked[0].answer.text, whole.choices[0].message.content);
    assert.deepEqual(asked[0].answer.usage, { input: whole.usage.prompt_tokens, output: whole.usage.completion_tokens });
    assert.equal(asked[0].answer.finish, whole.choices[0].finish_reason);
  });

  test("a prompt that is too long for it is refused once, and the draft stays", async () => {
    const content = "Tell me a story about a bird. ".repeat(40);
    const { asked } = await route({ cloud: cloud(), request: { messages: [{ role: "user", content }] } });
    refused(asked[0], "http-400", 1);
    assert.match(asked[0].answer.degraded.advice, /rejects the request/);
  });

  test("a wrong token is refused, and the endpoint stays closed", async () => {
    const { asked } = await route({ cloud: cloud("of-yesterday"), request: { messages: QUESTION }, times: 2 });
    refused(asked[0], "http-401", 1);
    assert.match(asked[0].answer.degraded.advice, /token/);
    assert.deepEqual([asked[1].answer.degraded.blockedBy, asked[1].answer.record.attempts], ["auth", []]);
  });
});

describe("a page on the internet and a server on the user's machine", () => {
  /** @type {Awaited<ReturnType<typeof startLlamaCpp>>} */
  let server;
  before(async () => void (server = await startLlamaCpp(join(ROOT, "models/kinglet-tiny.gguf"), 256)));
  after(() => server.close());

  /** What a page behind https hears, where the user has said this to Chrome's prompt. */
  async function ask(/** @type {string} */ setting) {
    const browser = /** @type {import("playwright-core").Browser} */ (it.page.context().browser());
    const page = await browser.newPage();
    await page.route("https://page.example/**", async (route) => {
      const { pathname } = new URL(route.request().url());
      if (pathname === "/") return route.fulfill({ contentType: "text/html", body: "<!doctype html><title>page</title>" });
      const response = await fetch(it.site.base + pathname);
      await route.fulfill({ status: response.status, contentType: response.headers.get("content-type") ?? "", body: Buffer.from(await response.arrayBuffer()) });
    });
    await page.goto("https://page.example/");
    const session = await browser.newBrowserCDPSession();
    const { targetInfos } = await session.send("Target.getTargets");
    const { browserContextId } = targetInfos.find(({ url }) => url === "https://page.example/") ?? {};
    const permission = { name: "loopback-network" };
    await session.send("Browser.setPermission", { permission, setting: /** @type {any} */ (setting), origin: "https://page.example", browserContextId });
    const heard = await page.evaluate(async (url) => {
      const { createRouter } = await import(/** @type {string} */ ("/pkg/dist/router.js"));
      const router = await createRouter({ cloud: { url, model: "kinglet-tiny", maxTokens: 8 }, mode: "only-cloud", net: { backoffMs: 10 }, consent: () => "once" });
      return router.ask({ messages: [{ role: "user", content: "Tell me a story" }], temperature: 0 }).answer.then(({ text }) => text, ({ message }) => message);
    }, server.url);
    await page.close();
    return heard;
  }

  test("it answers where the user lets the page reach the local network", async () => {
    assert.match(await ask("granted"), /^Once upon a time/);
  });

  test("an error says what to do where the user does not", async () => {
    assert.match(await ask("denied"), /may not reach the local network from https:\/\/page.example: allow "Local network access"/);
  });
});

describe("LiteLLM's proxy", () => {
  /** @type {Awaited<ReturnType<typeof startLiteLlm>>} */
  let server;
  /** @type {Awaited<ReturnType<typeof startFaultServer>>} */
  let upstream;
  const cloud = (/** @type {string} */ model, auth = server.key) => ({ url: server.url, model, auth, price: PRICE, maxTokens: 48 });
  before(async () => {
    upstream = await startFaultServer();
    const base = async (/** @type {string} */ name, /** @type {number} */ seed) => (await upstream.fault(name, seed)).url.replace("/chat/completions", "");
    server = await startLiteLlm({ CUT_UPSTREAM: await base("cut inside a token", 4), ERROR_UPSTREAM: await base("error event mid-stream", 1) });
  });
  after(() => (upstream.close(), server.close()));

  test("a streamed answer, escalated with consent, costs what the server counted", async () => {
    const { asked, previews, stats } = await route({ cloud: cloud("mock"), request: { messages: QUESTION } });
    streamed(asked[0], stats);
    assert.equal(asked[0].answer.text, "Paris is the capital of France – naïvely said 🗼.");
    assert.equal(previews.length, 1);
    assert.ok(asked[0].answer.usage.input > 5 && asked[0].answer.usage.output > 5, JSON.stringify(asked[0].answer.usage));
  });

  test("a budget of the server that is used up is a 429: tried again as the table says, then the draft stays", async () => {
    const { asked, stats } = await route({ cloud: cloud("capped"), request: { messages: QUESTION }, times: 2 });
    assert.equal(asked[0].answer.text, "One answer is all that its budget pays for.");
    refused(asked[1], "http-429", 3);
    near(stats.spentUsd, usd(asked[0].answer.usage));
  });

  test("a context that is too long is a 400, and not tried again", async () => {
    const { asked } = await route({ cloud: cloud("too-long"), request: { messages: QUESTION } });
    refused(asked[0], "http-400", 1);
  });

  test("a wrong key is refused", async () => {
    // Without a database it says 400 of a key that it does not know.
    const { asked } = await route({ cloud: cloud("mock", "of-yesterday"), request: { messages: QUESTION } });
    refused(asked[0], "http-400", 1);
  });

  for (const model of ["cut", "error"]) {
    test(`an error after the headers (${model}): what came is taken back, the draft stays`, async () => {
      const { asked: [{ answer, events }] } = await route({ cloud: cloud(model), request: { messages: QUESTION } });
      assert.equal(answer.source, "local", JSON.stringify(answer));
      assert.equal(answer.degraded.blockedBy, "http-500");
      const shown = events.reduce((shown, event) => (event.type === "token" ? shown + event.text : event.type === "switch" ? shown.slice(0, shown.length - event.retract) : shown), "");
      assert.equal(shown, answer.text);
      assert.ok(events.some(({ source }) => source === "cloud") && events.at(-2).source === "local");
      // Whatever the server billed, it did not say.
      assert.ok(answer.record.costIsBound && answer.record.costUsd > 0);
    });
  }
});
