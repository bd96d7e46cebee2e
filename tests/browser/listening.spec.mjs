// How soon a worker in the middle of an answer hears the page, and that it does not look into its event loop all the time.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { launchFirefox } from "./lib/browser.mjs";
import { openPackage } from "./lib/package.mjs";
import { ISOLATED } from "./lib/server.mjs";

/** @typedef {Awaited<ReturnType<typeof openPackage>>} Opened */

/** @type {[string, Record<string, string>, (() => Promise<unknown>)?][]} */
const pages = [["in an isolated page", ISOLATED], ["in a page that is not isolated", {}], ["in an isolated page of Firefox", ISOLATED, launchFirefox]];

for (const [name, headers, start] of pages) {
  const isolated = headers === ISOLATED;
  describe(name, () => {
    /** @type {Opened} */
    let it;
    before(async () => void (it = await openPackage(start, headers)));
    after(() => it.close());

    test("calls are answered between two tokens, an abort ends the answer", async (t) => {
      const { median, early, tokens, next } = await it.page.evaluate(async () => {
        const engine = await createEngine({ model: url, backend: "cpu", threads: 1, contextLength: 4096 });
        const controller = new AbortController();
        let ended = false;
        const answer = failure(engine.completions.create({ prompt: "", max_tokens: 4000, temperature: 0, ignore_eos: true }, { signal: controller.signal })).then(() => (ended = true));
        const times = [];
        for (let i = 0; i < 15; i++) {
          await new Promise((resolve) => setTimeout(resolve, 5 + (i % 4)));
          const asked = performance.now();
          await (i % 2 ? engine.memory() : engine.tokenize("Once upon a time"));
          times.push(performance.now() - asked);
        }
        const early = !ended;
        controller.abort();
        await answer;
        while (!engine.stats()) await new Promise((resolve) => setTimeout(resolve, 1));
        const tokens = engine.stats()?.completionTokens;
        const next = await greedy(engine, { max_tokens: 3 });
        await engine.dispose();
        return { median: times.sort((a, b) => a - b)[7], early, tokens, next: next.choices[0].token_ids.length };
      });
      t.diagnostic(`a call takes ${median.toFixed(1)} ms; ${tokens} tokens at the abort`);
      assert.ok(early, "the answer had ended before the calls were answered");
      assert.ok(tokens && tokens < 4000, `${tokens} tokens in spite of the abort`);
      assert.equal(next, 3);
    });

    for (const threads of isolated ? [1, 2] : []) {
      test(`the page's messages are heard although no time passes, with ${threads} thread(s)`, async () => {
        const { early, told, tokens } = await it.page.evaluate(async (threads) => {
          // Its worker never finds that it has not looked for long.
          const engine = await createEngine({ model: url, backend: "cpu", threads, contextLength: 4096, worker: patched("performance.now = () => 0;") });
          const pause = () => new Promise((resolve) => setTimeout(resolve, 30));
          const controller = new AbortController();
          let ended = false;
          const answer = failure(engine.completions.create({ prompt: "", max_tokens: 4000, temperature: 0, ignore_eos: true }, { signal: controller.signal })).then(() => (ended = true));
          await pause();
          const told = await engine.detokenize(await engine.tokenize("a ball"));
          const early = !ended;
          await pause();
          controller.abort();
          await answer;
          while (!engine.stats()) await new Promise((resolve) => setTimeout(resolve, 1));
          await engine.dispose();
          return { early, told, tokens: engine.stats()?.completionTokens };
        }, threads);
        assert.ok(early, "a call was answered after the end");
        assert.equal(told.trim(), "a ball");
        assert.ok(tokens && tokens < 4000, `${tokens} tokens in spite of the abort`);
      });
    }

    test("its event loop is looked into every 50 ms where messages are counted, else every 4", { skip: start && "needs the worker's own globals" }, async (t) => {
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
