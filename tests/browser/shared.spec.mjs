// One engine for several tabs, in Chromium: who holds it, and what happens when that tab closes.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { launchWithProfile } from "./lib/browser.mjs";
import { openPackage, PACKAGE } from "./lib/package.mjs";

/** @type {Awaited<ReturnType<typeof openPackage>>} */
let at;
before(async () => void (at = await openPackage(() => launchWithProfile())));
after(() => at.close());

/** A tab that shares the engine of this name. */
async function tab(/** @type {string} */ name, /** @type {object} */ options = {}) {
  const page = await at.page.context().newPage();
  await page.goto(at.site.base + "/");
  await page.evaluate(async ({ name, options }) => {
    const { createSharedEngine } = await import(/** @type {string} */ ("/pkg/dist/shared.js"));
    const { KingletError } = await import(/** @type {string} */ ("/pkg/dist/index.js"));
    Object.assign(globalThis, {
      shared: await createSharedEngine({ name, backend: "cpu", threads: 1, ...options }),
      /** What a promise rejects with. */
      async problem(/** @type {Promise<unknown>} */ promise) {
        return promise.then(() => "nothing failed", (e) => ({ known: e instanceof KingletError, code: e.code, message: e.message, text: e.text }));
      },
    });
  }, { name, options });
  return page;
}

/** Playwright hears of workers a little later. */
async function workersAre(/** @type {number} */ count, /** @type {import("playwright-core").Page[]} */ ...tabs) {
  const now = () => tabs.reduce((sum, page) => sum + page.workers().length, 0);
  for (let i = 0; i < 50 && now() !== count; i++) await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(now(), count);
}

/** Asks in a tab. */
const ask = (/** @type {import("playwright-core").Page} */ page, /** @type {string} */ content, more = {}) => page.evaluate(async ({ content, more }) => {
  const { shared } = /** @type {any} */ (globalThis);
  const reply = await shared.chat.completions.create({ messages: [{ role: "user", content }], temperature: 0, ...more });
  return reply.choices[0].message.content;
}, { content, more });

test("three tabs have one worker, and all are answered", async () => {
  const tabs = [await tab("three"), await tab("three"), await tab("three")];
  const answers = await Promise.all(tabs.map((page) => ask(page, "Who are you?")));
  for (const answer of answers) assert.match(answer, /^I am Kinglet/);
  assert.deepEqual(tabs.map((page) => page.workers().length), [1, 0, 0]);
  const found = await tabs[2].evaluate(async () => {
    const { shared, problem } = /** @type {any} */ (globalThis);
    const ids = await shared.tokenize("Hello");
    const memory = await shared.memory();
    const raw = await shared.completions.create({ prompt: "Once upon a time", max_tokens: 5, temperature: 0 });
    return { ids, text: await shared.detokenize(ids), weights: memory.weights, raw: raw.choices[0].text, stats: shared.stats(), info: shared.info, bad: await problem(shared.chat.completions.create({ messages: [] })), adapter: await problem(shared.loadAdapter()) };
  });
  assert.equal(found.text, "Hello");
  assert.ok(found.weights > 1e6 && found.raw.length > 0 && found.info.parameters > 1e6);
  assert.equal(found.stats.completionTokens, 5);
  assert.deepEqual([found.bad.known, found.bad.code], [true, "BAD_REQUEST"]);
  assert.match(found.bad.message, /messages must be/);
  assert.match(found.adapter.message, /not for a shared engine/);
  for (const page of tabs) await page.close();
});

for (const [how, options] of Object.entries({ greedy: { temperature: 0, max_tokens: 300 }, sampled: { temperature: 1, max_tokens: 300 }, "two choices": { temperature: 1, n: 2, max_tokens: 150 } })) {
  test(`an answer goes on in the next tab when the tab with the engine closes (${how})`, async () => {
    const [first, second, third] = [await tab(`close ${how}`), await tab(`close ${how}`), await tab(`close ${how}`)];
    const answering = second.evaluate(async (options) => {
      const { shared } = /** @type {any} */ (globalThis);
      const stream = await shared.chat.completions.create({ messages: [{ role: "user", content: "Tell me a story." }], ignore_eos: true, stream: true, ...options });
      let text = "";
      let pieces = 0;
      let reason;
      for await (const chunk of stream) {
        text += chunk.choices[0]?.delta.content ?? "";
        reason = chunk.choices[0]?.finish_reason ?? reason;
        if (++pieces === 20) Object.assign(globalThis, { halfway: true });
      }
      return { text, reason, pieces };
    }, options);
    const whole = third.evaluate(async () => {
      const { shared } = /** @type {any} */ (globalThis);
      return (await shared.chat.completions.create({ messages: [{ role: "user", content: "Who are you?" }], temperature: 0 })).choices[0].message.content;
    });
    await second.waitForFunction(() => /** @type {any} */ (globalThis).halfway);
    await first.close();
    const { text, reason, pieces } = await answering;
    assert.equal(reason, "length");
    assert.ok(pieces >= 250 && pieces <= 320, `${pieces} pieces`);
    assert.match(await whole, /^I am Kinglet/);
    await workersAre(1, second, third);
    if (options.temperature === 0) {
      const undisturbed = await ask(third, "Tell me a story.", { ignore_eos: true, max_tokens: 300 });
      assert.equal(text, undisturbed);
    }
    await second.close();
    await third.close();
  });
}

test("several answers go on in the next tab, each where it was", async () => {
  const [first, second] = [await tab("choices"), await tab("choices")];
  const request = { messages: [{ role: "user", content: "Tell me a story." }], temperature: 1, seed: 3, n: 3, ignore_eos: true, max_tokens: 80 };
  const answering = second.evaluate(async (request) => {
    const { shared } = /** @type {any} */ (globalThis);
    const said = ["", "", ""];
    const ends = /** @type {number[]} */ ([]);
    let openings = 0;
    for await (const { choices: [choice] } of await shared.chat.completions.create({ ...request, stream: true })) {
      said[choice.index] += choice.delta.content ?? "";
      openings += choice.delta.role ? 1 : 0;
      if (choice.finish_reason) ends.push(choice.index);
      if (choice.index === 1 && said[1].length > 40) Object.assign(globalThis, { halfway: true });
    }
    return { said, ends, openings };
  }, request);
  await second.waitForFunction(() => /** @type {any} */ (globalThis).halfway);
  await first.close();
  const { said, ends, openings } = await answering;
  const undisturbed = await second.evaluate(async (request) => {
    const { shared, problem } = /** @type {any} */ (globalThis);
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 200);
    await problem(shared.chat.completions.create({ ...request, n: 100 }, { signal: controller.signal }));
    return (await shared.chat.completions.create(request)).choices.map(({ message }) => message.content);
  }, request);
  assert.deepEqual(said, undisturbed);
  assert.deepEqual(ends, [0, 1, 2], "each ends once");
  assert.equal(openings, 3);
  await second.close();
});

test("an abort in one tab ends its answer alone; disposing hands the engine on", async () => {
  const [first, second] = [await tab("abort"), await tab("abort")];
  const aborted = await second.evaluate(async () => {
    const { shared, problem } = /** @type {any} */ (globalThis);
    const controller = new AbortController();
    const long = { messages: [{ role: "user", content: "Tell me a story." }], ignore_eos: true, max_tokens: 400 };
    const whole = problem(shared.chat.completions.create(long, { signal: controller.signal }));
    setTimeout(() => controller.abort(), 30);
    const end = await whole;
    let pieces = 0;
    for await (const chunk of await shared.chat.completions.create({ ...long, stream: true })) if (chunk && ++pieces === 5) break;
    const started = performance.now();
    const { choices } = await shared.chat.completions.create({ messages: [{ role: "user", content: "Who are you?" }], temperature: 0 });
    return { end, text: choices[0].message.content, ms: performance.now() - started };
  });
  assert.equal(aborted.end.code, "ABORTED");
  assert.match(aborted.text, /^I am Kinglet/);
  const disposed = await first.evaluate(async () => {
    const { shared, problem } = /** @type {any} */ (globalThis);
    await shared.dispose();
    return problem(shared.tokenize("x"));
  });
  assert.equal(disposed.code, "DISPOSED");
  assert.match(await ask(second, "Who are you?"), /^I am Kinglet/);
  assert.deepEqual([first.workers().length, second.workers().length], [0, 1]);
  await first.close();
  await second.close();
});

test("a tab that closes takes its questions along", { timeout: 60_000 }, async () => {
  const [first, second] = [await tab("gone"), await tab("gone")];
  // Minutes of work, nearly all of it in the queue.
  await second.evaluate(async () => {
    const { shared } = /** @type {any} */ (globalThis);
    const long = { messages: [{ role: "user", content: "Tell me a story." }], ignore_eos: true, max_tokens: 450 };
    await Promise.race(Array.from({ length: 1000 }, () => shared.chat.completions.create(long)));
  });
  await second.close();
  assert.match(await ask(first, "Who are you?"), /^I am Kinglet/);
  await first.close();
});

test("disposing while the model loads leaves nothing behind", async () => {
  const page = await at.page.context().newPage();
  await page.goto(at.site.base + "/");
  const held = await page.evaluate(async () => {
    const { createSharedEngine } = await import(/** @type {string} */ ("/pkg/dist/shared.js"));
    const controller = new AbortController();
    const loading = createSharedEngine({ name: "early", signal: controller.signal, backend: "cpu", threads: 1, onProgress: () => controller.abort() });
    const code = await loading.then(() => "loaded", (/** @type {any} */ e) => e.code);
    const { held, pending } = await navigator.locks.query();
    return { code, locks: [...held ?? [], ...pending ?? []].map(({ name }) => name).filter((name) => name?.includes("early")) };
  });
  assert.deepEqual(held, { code: "ABORTED", locks: [] });
  await workersAre(0, page);
  await page.close();
});

test("a tab that could not take the engine over is asked again by the next question", async () => {
  const model = readFileSync(join(PACKAGE, "dist/default.gguf"));
  let there = true;
  at.route("/now-and-then.gguf", (_, response) => void (there ? response.end(model) : response.writeHead(404).end()));
  const options = { model: "/now-and-then.gguf", cache: "none" };
  const [first, second] = [await tab("again", options), await tab("again", options)];
  there = false;
  await first.close();
  const question = { messages: [{ role: "user", content: "Who are you?" }], temperature: 0 };
  const failed = await second.evaluate((question) => {
    const { shared, problem } = /** @type {any} */ (globalThis);
    return problem(shared.chat.completions.create(question));
  }, question);
  assert.equal(failed.code, "DOWNLOAD_FAILED");
  there = true;
  assert.match(await ask(second, "Who are you?"), /^I am Kinglet/);
  await second.close();
});

test("a tab that cannot load the model says so, and the next one tries", async () => {
  const page = await at.page.context().newPage();
  await page.goto(at.site.base + "/");
  const error = await page.evaluate(async () => {
    const { createSharedEngine } = await import(/** @type {string} */ ("/pkg/dist/shared.js"));
    return createSharedEngine({ name: "missing", model: "/nowhere.gguf" }).then(() => "loaded", (/** @type {any} */ e) => [e.code, e.message]);
  });
  assert.equal(error[0], "DOWNLOAD_FAILED");
  const next = await tab("missing");
  assert.match(await ask(next, "Who are you?"), /^I am Kinglet/);
  await page.close();
  await next.close();
});
