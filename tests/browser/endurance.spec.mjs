// Nothing grows: thousands of requests on one engine, engines made and disposed of one after the other.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch } from "./lib/browser.mjs";
import { openPackage } from "./lib/package.mjs";

const SOAK = process.env.KINGLET_SOAK !== undefined;
const REQUESTS = SOAK ? 10_000 : 1000;
const CYCLES = SOAK ? 100 : 20;
const MB = 2 ** 20;

/** @type {Awaited<ReturnType<typeof openPackage>>} */
let at;
// Chromium measures at its next collection of garbage, which it else waits ten seconds and more for.
const EAGER = ["--enable-blink-features=ForceEagerMeasureMemory"];
before(async () => void (at = await openPackage(() => launch(EAGER))));
after(() => at.close());

/** Of the page and its workers, after a collection of garbage, in bytes: JavaScript's heap and WebAssembly's. */
const memory = () => at.page.evaluate(async () => (await /** @type {any} */ (performance).measureUserAgentSpecificMemory()).bytes);

for (const threads of [1, 2]) test(`${REQUESTS} requests on one engine, ${threads} thread(s)`, async () => {
  await at.page.evaluate(async (threads) => {
    Object.assign(globalThis, { engine: await createEngine({ backend: "cpu", threads }) });
  }, threads);
  // A thread of a pool that waits for work says nothing of its memory, and Chromium waits a minute for it.
  const measured = () => (threads === 1 ? memory() : 0);
  const ask = (/** @type {number} */ from, /** @type {number} */ to) => at.page.evaluate(async ({ from, to }) => {
    let tokens = 0;
    for (let i = from; i < to; i++) {
      const options = { temperature: i % 3, seed: i, max_tokens: 1 + (i % 12), stop: i % 5 ? undefined : ["e"], logprobs: i % 7 === 0, top_logprobs: i % 7 === 0 ? 5 : undefined };
      const messages = [{ role: /** @type {const} */ ("user"), content: `Question ${i}: ${"why? ".repeat(i % 20)}` }];
      if (i % 2) {
        for await (const chunk of await engine.chat.completions.create({ ...options, messages, stream: true })) tokens += chunk.choices[0]?.token_ids.length ?? 0;
      } else if (i % 10 === 4) {
        // Given up in the middle.
        const controller = new AbortController();
        const asked = engine.chat.completions.create({ ...options, max_tokens: 200, ignore_eos: true, messages }, { signal: controller.signal });
        setTimeout(() => controller.abort(), i % 8);
        await asked.catch(() => {});
      } else {
        tokens += (await engine.chat.completions.create({ ...options, messages })).usage.completion_tokens;
      }
    }
    return { tokens, heap: (await engine.memory()).heap };
  }, { from, to });
  // What the first ones make for good: caches, compiled code.
  const warm = REQUESTS / 4;
  const early = await ask(0, warm);
  const before = await measured();
  const late = await ask(warm, REQUESTS);
  const after = await measured();
  console.log(`${REQUESTS} requests, ${threads} thread(s), ${early.tokens + late.tokens} tokens: wasm heap ${(early.heap / MB).toFixed(1)} then ${(late.heap / MB).toFixed(1)} MB${threads === 1 ? `, page and workers ${(before / MB).toFixed(1)} then ${(after / MB).toFixed(1)} MB` : ""}`);
  await at.page.evaluate(() => engine.dispose());
  // An abort comes after a different token on every machine, so the highest mark may move by a page or two; what grows
  // by so much as 700 bytes a request does not pass (for the 10,000 of a soak: 70).
  assert.ok(late.heap <= early.heap + MB / 2, `the wasm heap: ${early.heap} then ${late.heap} bytes`);
  assert.ok(after <= before + MB, `${before} then ${after} bytes`);
});

test(`${CYCLES} engines, one after the other`, async () => {
  const cycle = (/** @type {number} */ n) => at.page.evaluate(async (n) => {
    for (let i = 0; i < n; i++) {
      const one = await createEngine({ backend: "cpu" });
      await one.chat.completions.create({ messages: [{ role: "user", content: "Hello" }], max_tokens: 4 });
      await one.dispose();
    }
  }, n);
  await cycle(3);
  await at.workersLeft();
  const before = await memory();
  await cycle(CYCLES);
  await at.workersLeft();
  const after = await memory();
  console.log(`${CYCLES} engines: page and workers ${(before / MB).toFixed(1)} then ${(after / MB).toFixed(1)} MB`);
  assert.ok(after < before + MB, `${before} then ${after} bytes`);
});
