// Threads in real Chromium: a pool of workers over one memory, the same answers, and how they end.
import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { launchFirefox } from "./lib/browser.mjs";
import { status } from "./lib/hub.mjs";
import { GOLDEN, openPackage, PACKAGE } from "./lib/package.mjs";
import { ISOLATED } from "./lib/server.mjs";

const PROMPT = "Once upon a time there was a girl who had a red ball and a blue hat. ".repeat(6);
const SOAK = process.env.KINGLET_SOAK !== undefined;
const LINUX = { skip: process.platform !== "linux" && "reads /proc" };

/** @type {Awaited<ReturnType<typeof openPackage>>} */
let it;
const binaries = () => it.seen.filter(({ path }) => path.endsWith(".wasm")).map(({ path }) => path);

describe("in an isolated page", () => {
  before(async () => void (it = await openPackage()));
  after(() => it.close());
  beforeEach(() => it.open());

  for (const threads of [2, 3]) {
    test(`${threads} threads answer with the tokens of one`, async () => {
      const { several, one } = await it.page.evaluate(async ({ threads, prompt }) => {
        const answers = async (/** @type {number} */ threads) => {
          const engine = await createEngine({ model: url, backend: "cpu", threads, contextLength: 640 });
          const story = await greedy(engine, { max_tokens: 200 });
          const long = await greedy(engine, { prompt, max_tokens: 60, ignore_eos: true, logprobs: 3 });
          const { heap } = await engine.memory();
          await engine.dispose();
          return { info: engine.info, story: story.choices[0].token_ids, long: long.choices[0], heap };
        };
        return { several: await answers(threads), one: await answers(1) };
      }, { threads, prompt: PROMPT });
      assert.deepEqual(binaries(), ["/pkg/wasm/threads/kinglet_bg.wasm", "/pkg/wasm/relaxed/kinglet_bg.wasm"]);
      assert.equal(several.info.threads, threads);
      assert.equal(one.info.threads, 1);
      assert.deepEqual(several.story, GOLDEN.ids);
      // To the last bit of their probabilities.
      assert.deepEqual(several.long, one.long);
      assert.ok(several.heap < 64 << 20, `a model of 1.2 MB takes ${several.heap} bytes`);
    });
  }

  test("there is a thread for each core unless fewer are asked for", async () => {
    const { threads, cores, wrong } = await it.page.evaluate(async () => {
      const engine = await createEngine({ model: url, backend: "cpu" });
      const wrong = await failure(createEngine({ model: url, threads: 0 }));
      return { threads: engine.info.threads, cores: navigator.hardwareConcurrency, wrong };
    });
    assert.equal(threads, Math.min(cores, 8));
    assert.equal(wrong.code, "BAD_REQUEST");
    assert.match(wrong.message, /threads/);
  });

  test("requests are aborted, engines disposed of, and no thread is left", LINUX, async () => {
    const { texts, next } = await it.page.evaluate(async () => {
      const engines = await Promise.all([3, 2].map((threads) => createEngine({ model: url, backend: "cpu", threads, contextLength: 640 })));
      const texts = [];
      for (let i = 0; i < 10; i++) {
        const stream = await engines[0].completions.create({ prompt: "", temperature: 0, max_tokens: 400, ignore_eos: true, stream: true });
        let text = "";
        for await (const chunk of stream) if ((text += chunk.choices[0].text).length > 7 * i) break;
        texts.push(text);
      }
      const next = await Promise.all(engines.map((engine) => greedy(engine, { max_tokens: 200 })));
      Object.assign(globalThis, { engines });
      return { texts, next: next.map((reply) => reply.choices[0].token_ids) };
    });
    for (const text of texts) assert.ok(GOLDEN.text.trim().startsWith(text.trim()) || text.length > GOLDEN.text.length, text);
    for (const ids of next) assert.deepEqual(ids, GOLDEN.ids);
    await it.workerThreadsLeft(5);
    await it.page.evaluate(() => /** @type {any} */ (globalThis).engines[0].dispose());
    await it.workerThreadsLeft(2);
    // In the middle of an answer, the threads at work.
    await it.page.evaluate(async () => {
      const [, engine] = /** @type {any} */ (globalThis).engines;
      const pending = failure(greedy(engine, { max_tokens: 500, ignore_eos: true }));
      await engine.tokenize("x");
      await engine.dispose();
      await pending;
    });
    await it.workerThreadsLeft(0);
  });

  test("a long series of answers, ended at random points, has one thread's tokens", { timeout: 1_200_000 }, async () => {
    const { compared, ended } = await it.page.evaluate(async ({ least, story }) => {
      const engines = await Promise.all([3, 1].map((threads) => createEngine({ model: url, backend: "cpu", threads, contextLength: 512 })));
      let state = 5;
      const below = (/** @type {number} */ n) => ((state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0) >>> 8) % n;
      let [compared, ended] = [0, 0];
      while (compared < least) {
        const prompt = story.slice(0, below(story.length));
        const request = /** @type {const} */ ({ prompt, temperature: 1, seed: below(1 << 20), max_tokens: 1 + below(200), ignore_eos: true, cache_prompt: below(2) === 0, stream: true });
        const end = below(2) === 0 ? below(200) : Infinity;
        const said = await Promise.all(engines.map(async (engine) => {
          const ids = [];
          for await (const { choices: [choice] } of await engine.completions.create(request)) {
            ids.push(...(choice?.token_ids ?? []));
            if (ids.length > end) break;
          }
          return ids;
        }));
        const [length, longest] = said.map((ids) => ids.length).sort((a, b) => a - b);
        if (length === 0 || (longest <= end && longest !== length)) throw new Error(`${said[0].length} tokens, not ${said[1].length}: ${JSON.stringify(request)}`);
        const differs = said[0].slice(0, length).findIndex((id, i) => id !== said[1][i]);
        if (differs >= 0) throw new Error(`token ${differs} differs: ${JSON.stringify(request)}`);
        compared += length;
        ended += Number(length > end);
      }
      return { compared, ended };
    }, { least: SOAK ? 100_000 : 2000, story: PROMPT });
    console.log(`${compared} tokens compared, ${ended} answers ended early`);
    assert.ok(ended > 0);
  });

  for (const where of ["a thread of the pool", "the engine's own thread"]) {
    test(`a trap in ${where} ends all threads, and the next request starts afresh`, LINUX, async () => {
      const got = await it.page.evaluate(async (helper) => {
        const events = [];
        const spied = spy();
        const engine = await createEngine({ model: url, backend: "cpu", threads: 3, contextLength: 640, worker: spied.start, onEvent: (event) => events.push(event.type) });
        const stream = await engine.completions.create({ prompt: "", temperature: 0, max_tokens: 500, ignore_eos: true, stream: true });
        const queued = failure(greedy(engine));
        let text = "";
        const crash = await failure((async () => {
          for await (const chunk of stream) {
            text += chunk.choices[0].text;
            if (text.length > 20) spied.trap(helper);
          }
        })());
        const next = await greedy(engine, { max_tokens: 200 });
        return { crash, text, queued: await queued, next: next.choices[0].token_ids, threads: engine.info.threads, events };
      }, where === "a thread of the pool");
      assert.equal(got.crash.code, "ENGINE_CRASHED");
      assert.match(got.crash.message, where === "a thread of the pool" ? /a thread of the pool crashed.*unreachable/s : /unreachable/);
      assert.equal(got.crash.text, got.text);
      assert.equal(got.queued.code, "ENGINE_CRASHED");
      assert.deepEqual(got.next, GOLDEN.ids);
      assert.equal(got.threads, 3);
      assert.deepEqual(got.events, ["engine-crashed", "engine-restarted"]);
      await it.workerThreadsLeft(3);
    });
  }

  test("where the pool's script is missing, one thread answers, and an event says why", async () => {
    it.route("/pkg/dist/pool.js", status(404));
    const { info, ids, events } = await it.page.evaluate(async () => {
      const events = [];
      const engine = await createEngine({ model: url, backend: "cpu", threads: 2, onEvent: (event) => events.push(event) });
      return { info: engine.info, ids: (await greedy(engine, { max_tokens: 100 })).choices[0].token_ids, events };
    });
    it.unroute("/pkg/dist/pool.js");
    assert.equal(info.threads, 1);
    assert.deepEqual(ids, GOLDEN.ids.slice(0, 100));
    assert.deepEqual(events.map((event) => event.type), ["threads-unavailable"]);
    assert.match(events[0].reason, /pool\.js/);
  });

  test("a device that grants less memory is taken at that", async () => {
    const { info, ids, refused } = await it.page.evaluate(async () => {
      const worker = patched(`
        const { Memory } = WebAssembly;
        WebAssembly.Memory = function (limits) {
          if (limits.maximum > 8192) throw new RangeError("could not allocate memory");
          return new Memory(limits);
        };`);
      const engine = await createEngine({ model: url, backend: "cpu", threads: 2, worker });
      const { token_ids } = (await greedy(engine, { max_tokens: 100 })).choices[0];
      return { info: engine.info, ids: token_ids, refused: await failure(createEngine({ model: url, backend: "cpu", threads: 2, worker, contextLength: 500_000 })) };
    });
    assert.equal(info.threads, 2);
    assert.deepEqual(ids, GOLDEN.ids.slice(0, 100));
    assert.equal(refused.code, "OUT_OF_MEMORY");
    assert.ok(refused.details.availableBytes < 512 << 20, JSON.stringify(refused.details));
  });
});

/** @type {[string, Record<string, string>, number, (() => Promise<unknown>)?][]} */
const pages = [
  ["in a page that is not isolated", {}, 1],
  ["in Firefox", ISOLATED, 2, launchFirefox],
  ["with credentialless embedding and a strict Content-Security-Policy", {
    ...ISOLATED,
    "Cross-Origin-Embedder-Policy": "credentialless",
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'",
  }, 2],
];
for (const [name, headers, threads, start] of pages) {
  describe(name, () => {
    before(async () => void (it = await openPackage(start, headers)));
    after(() => it.close());

    test(`2 threads are ${threads}`, async () => {
      const { info, ids, isolated, events } = await it.page.evaluate(async () => {
        const events = [];
        const engine = await createEngine({ model: url, backend: "cpu", threads: 2, contextLength: 256, onEvent: (event) => events.push(event) });
        return { info: engine.info, ids: [...(await greedy(engine, { max_tokens: 200 })).choices[0].token_ids], isolated: crossOriginIsolated, events };
      });
      assert.equal(isolated, threads > 1);
      assert.equal(info.threads, threads);
      assert.deepEqual(binaries(), [`/pkg/wasm/${threads > 1 ? "threads" : "relaxed"}/kinglet_bg.wasm`]);
      assert.deepEqual(ids, GOLDEN.ids);
      assert.deepEqual(events, []);
    });
  });
}

describe("where no headers can be set", () => {
  before(async () => void (it = await openPackage(undefined, {})));
  after(() => it.close());

  test("isolate.js makes the page isolated, and threads answer", async () => {
    it.route("/app.html", (_, response) => response.setHeader("Content-Type", "text/html").end('<!doctype html><script src="/isolate.js"></script>'));
    it.route("/isolate.js", (_, response) => response.setHeader("Content-Type", "text/javascript").end(readFileSync(join(PACKAGE, "dist/isolate.js"))));
    await it.page.goto(it.site.base + "/app.html");
    await it.page.waitForFunction(() => crossOriginIsolated);
    const { info, ids, part } = await it.page.evaluate(async () => {
      const { createEngine } = await import(/** @type {string} */ ("/pkg/dist/index.js"));
      const engine = await createEngine({ model: "/data/stories260K/stories260K.gguf", backend: "cpu", threads: 2, contextLength: 256 });
      const reply = await engine.completions.create({ prompt: "", temperature: 0, max_tokens: 200 });
      // Ranges still are.
      const response = await fetch("/data/stories260K/stories260K.gguf", { headers: { Range: "bytes=0-3" } });
      return { info: engine.info, ids: reply.choices[0].token_ids, part: [response.status, await response.text()] };
    });
    assert.equal(info.threads, 2);
    assert.deepEqual(ids, GOLDEN.ids);
    assert.deepEqual(part, [206, "GGUF"]);
  });
});
