// How soon a worker in the middle of an answer hears the page, and that it does not look into its event loop all the time.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { launchFirefox } from "./lib/browser.mjs";
import { openPackage } from "./lib/package.mjs";
import { ISOLATED } from "./lib/server.mjs";
import { launchWebKit } from "./lib/webkit.mjs";

/** @typedef {Awaited<ReturnType<typeof openPackage>>} Opened */
/** @typedef {{ threads: number, timeless?: boolean }} Way timeless: its worker never finds that it has not looked for long */

/** Runs in the page: calls in the middle of an answer, and an abort. */
async function interrupt(/** @type {Way} */ { threads, timeless }) {
  const pause = (/** @type {number} */ ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const worker = timeless ? patched("performance.now = () => 0;") : undefined;
  const engine = await createEngine({ model: url, backend: "cpu", threads, contextLength: 4096, worker });
  const controller = new AbortController();
  let ended = false;
  const answer = failure(engine.completions.create({ prompt: "", max_tokens: 4000, temperature: 0, ignore_eos: true }, { signal: controller.signal })).finally(() => (ended = true));
  const times = [];
  for (let i = 0; i < 15; i++) {
    await pause(5 + (i % 4));
    const asked = performance.now();
    await (i % 2 ? engine.memory() : engine.tokenize("Once upon a time"));
    times.push(performance.now() - asked);
  }
  const early = !ended;
  controller.abort();
  const { code } = await answer;
  // Until the worker has heard of it.
  while (!engine.stats()) await pause(1);
  const tokens = engine.stats()?.completionTokens ?? NaN;
  const next = await greedy(engine, { max_tokens: 3 });
  await engine.dispose();
  return { early, code, tokens, next: next.choices[0].token_ids.length, median: times.sort((a, b) => a - b)[7], isolated: crossOriginIsolated };
}

/** @param {import("node:test").TestContext} t @param {Awaited<ReturnType<typeof interrupt>>} found */
function heard(t, { early, code, tokens, next, median }) {
  t.diagnostic(`a call takes ${median.toFixed(1)} ms; ${tokens} tokens at the abort`);
  assert.ok(early, "the answer had ended before the calls were answered");
  assert.equal(code, "ABORTED");
  assert.ok(tokens < 4000, `${tokens} tokens in spite of the abort`);
  assert.equal(next, 3);
}

/** Where messages are counted, that alone has to do. */
const ways = (/** @type {boolean} */ isolated) => /** @type {Way[]} */ ([{ threads: 1 }, ...(isolated ? [{ threads: 1, timeless: true }, { threads: 2, timeless: true }] : [])]);
const called = (/** @type {Way} */ { threads, timeless }) => `calls are answered between two tokens, and an abort ends the answer, with ${threads} thread(s)${timeless ? ", although no time passes" : ""}`;

/** @type {[string, Record<string, string>, (() => Promise<unknown>)?][]} */
const pages = [["in an isolated page", ISOLATED], ["in a page that is not isolated", {}], ["in an isolated page of Firefox", ISOLATED, launchFirefox]];

for (const [name, headers, start] of pages) {
  const isolated = headers === ISOLATED;
  describe(name, () => {
    /** @type {Opened} */
    let it;
    before(async () => void (it = await openPackage(start, headers)));
    after(() => it.close());

    for (const way of ways(isolated)) {
      test(called(way), async (t) => {
        const found = await it.page.evaluate(interrupt, way);
        assert.equal(found.isolated, isolated);
        heard(t, found);
      });
    }

    test("the event loop is looked into every 50 ms where messages are counted, else every 4", { skip: start && "needs the worker's own globals" }, async (t) => {
      await it.page.evaluate(async () => {
        const worker = patched(`
          globalThis.looks = 0;
          const { postMessage } = MessagePort.prototype;
          MessagePort.prototype.postMessage = function (...args) {
            looks++;
            return postMessage.apply(this, args);
          };`);
        Object.assign(globalThis, { engine: await createEngine({ model: url, backend: "cpu", threads: 1, contextLength: 2048, worker }) });
      });
      const worker = it.page.workers().find((worker) => worker.url().startsWith("blob:"));
      await worker?.evaluate(() => void (/** @type {any} */ (globalThis).looks = 0));
      const ms = await it.page.evaluate(async () => {
        const start = performance.now();
        await greedy(engine, { max_tokens: 1500, ignore_eos: true });
        return performance.now() - start;
      });
      const looks = await worker?.evaluate(() => /** @type {any} */ (globalThis).looks);
      t.diagnostic(`${looks} looks in ${ms.toFixed(0)} ms`);
      assert.ok(looks > 0 && looks <= ms / (isolated ? 50 : 4) + 3, `${looks} looks in ${ms} ms`);
      if (!isolated) assert.ok(looks > ms / 50, `${looks} looks in ${ms} ms`);
    });
  });
}

test("in WebKit, whose isolated pages may lack SharedArrayBuffer: " + called({ threads: 1 }), async (t) => {
  const it = await openPackage();
  const webkit = await launchWebKit();
  try {
    await webkit.goto(it.site.base + "/");
    await webkit.evaluate(`(${it.inPage})()`);
    const shared = await webkit.evaluate("typeof SharedArrayBuffer");
    const found = await webkit.evaluate(`(${interrupt})({ threads: 1, timeless: ${shared === "function"} })`);
    t.diagnostic(`${webkit.version}, SharedArrayBuffer is ${shared}`);
    assert.ok(found.isolated);
    heard(t, found);
  } finally {
    await webkit.close();
    await it.close();
  }
});
