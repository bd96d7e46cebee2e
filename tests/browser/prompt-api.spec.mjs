// The Prompt API on the embedded model, in Chromium.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { openRouters } from "./lib/router.mjs";

/** @type {Awaited<ReturnType<typeof openRouters>>} */
let at;
/** @type {import("playwright-core").Page} */
let page;

before(async () => {
  at = await openRouters();
  ({ page } = at);
  await page.evaluate(async () => {
    const { installPromptApi } = await import(/** @type {string} */ ("/pkg/dist/prompt-api.js"));
    const target = /** @type {any} */ ({});
    installPromptApi(engine, { target });
    Object.assign(globalThis, { installPromptApi, Model: target.LanguageModel });
  });
});
after(() => at.close());

test("a native LanguageModel is left alone, unless it is to be replaced", async () => {
  const found = await page.evaluate(() => {
    const { installPromptApi } = /** @type {any} */ (globalThis);
    const native = /** @type {any} */ ({ LanguageModel: "native" });
    const kept = [installPromptApi(engine, { target: native }), native.LanguageModel];
    const forced = [installPromptApi(engine, { target: native, force: true }), typeof native.LanguageModel];
    return { kept, forced };
  });
  assert.deepEqual(found, { kept: [false, "native"], forced: [true, "function"] });
});

test("sessions prompt, stream, remember, clone and are destroyed", async () => {
  const found = await page.evaluate(async () => {
    const { Model } = /** @type {any} */ (globalThis);
    const session = await Model.create({ samplingMode: "most-predictable", initialPrompts: [{ role: "system", content: "You are kind." }] });
    const first = await session.prompt("Who are you?");
    const usage = session.contextUsage;
    const clone = await session.clone();
    const pieces = [];
    for await (const piece of session.promptStreaming([{ role: "user", content: [{ type: "text", value: "Hello" }] }])) pieces.push(piece);
    // Two at once take turns.
    const [a, b] = await Promise.all([clone.prompt("Hello"), clone.prompt("Hello")]);
    session.destroy();
    const after = await failure(session.prompt("Hello"));
    return { first, usage, pieces, a, b, window: session.contextWindow, later: [session.contextUsage, clone.contextUsage], after, measured: await clone.measureContextUsage("Hello") };
  });
  assert.match(found.first, /Kinglet/);
  assert.ok(found.usage > 10 && found.usage < found.window);
  assert.ok(found.pieces.length > 2);
  assert.equal(found.a, found.pieces.join(""), "the clone knows what the session knew");
  assert.ok(found.later[0] > found.usage && found.later[1] > found.later[0]);
  assert.equal(found.after.name, "InvalidStateError");
  assert.ok(found.measured >= 1 && found.measured < 5);
});

test("the model is made when the first session is, with progress", async () => {
  const found = await page.evaluate(async () => {
    const { installPromptApi } = /** @type {any} */ (globalThis);
    const target = /** @type {any} */ ({});
    let made = 0;
    installPromptApi(async (/** @type {(share: number) => void} */ tell) => {
      made++;
      for (const share of [0.25, 0.5]) tell(share);
      await new Promise((resolve) => setTimeout(resolve, 50));
      return engine;
    }, { target });
    const states = [await target.LanguageModel.availability()];
    const shares = /** @type {number[]} */ ([]);
    const creating = target.LanguageModel.create({ monitor: (m) => m.addEventListener("downloadprogress", (e) => shares.push(e.loaded)) });
    states.push(await target.LanguageModel.availability());
    const controller = new AbortController();
    const aborted = failure(target.LanguageModel.create({ signal: controller.signal }));
    controller.abort();
    await creating;
    states.push(await target.LanguageModel.availability(), await target.LanguageModel.availability({ expectedInputs: [{ type: "image" }] }));
    await target.LanguageModel.create();
    return { states, shares, made, aborted: await aborted };
  });
  assert.deepEqual(found.states, ["downloadable", "downloading", "available", "unavailable"]);
  assert.deepEqual(found.shares, [0.25, 0.5, 1]);
  assert.equal(found.made, 1);
  assert.equal(found.aborted.name, "AbortError");
});

test("a context that is full forgets the oldest and says so; what cannot fit is refused", async () => {
  const found = await page.evaluate(async () => {
    const { installPromptApi } = /** @type {any} */ (globalThis);
    const asked = /** @type {string[][]} */ ([]);
    const create = (/** @type {any} */ request, /** @type {any} */ options) => {
      asked.push(request.messages.map(({ content }) => content.slice(0, 5)));
      return engine.chat.completions.create(request, options);
    };
    const target = /** @type {any} */ ({});
    installPromptApi({ info: engine.info, chat: { completions: { create } } }, { target });
    const session = await target.LanguageModel.create({ samplingMode: "most-predictable", initialPrompts: [{ role: "system", content: "You are kind." }] });
    let overflows = 0;
    session.oncontextoverflow = () => overflows++;
    const turn = (/** @type {string} */ word) => [{ role: "user", content: `${word} `.repeat(150) }, { role: "assistant", content: "yes" }];
    await session.append([...turn("one"), ...turn("two"), ...turn("three")]);
    await session.prompt("Who are you?");
    const prompted = asked.splice(0);
    const refused = await failure(session.prompt("word ".repeat(2000)));
    const told = overflows;
    asked.length = 0;
    await session.prompt("Hello");
    return { prompted, overflows: told, refused, after: asked };
  });
  const kept = found.prompted.at(-1) ?? [];
  assert.equal(kept[0], "You a", "what the system said stays");
  assert.ok(!kept.includes("one o") && kept.includes("three"), JSON.stringify(found.prompted));
  assert.equal(kept.at(-1), "Who a");
  assert.equal(found.overflows, 1, "one event, and none for what was refused");
  assert.equal(found.refused.name, "QuotaExceededError");
  assert.ok(!found.after.flat().includes("word "), "what failed left no trace");
});

test("aborts and what is not supported are the platform's errors", async () => {
  const found = await page.evaluate(async () => {
    const { Model } = /** @type {any} */ (globalThis);
    const session = await Model.create();
    const controller = new AbortController();
    const prompt = failure(session.prompt("Tell me a story.", { signal: controller.signal }));
    setTimeout(() => controller.abort(), 10);
    const names = [
      await prompt,
      await failure(session.prompt([{ role: "user", content: [{ type: "image", value: new Blob() }] }])),
      await failure(session.prompt([{ role: "assistant", content: "So", prefix: true }])),
      await failure(session.prompt([{ role: "system", content: "late" }])),
      await failure(Model.create({ samplingMode: "creative", temperature: 1 })),
      await failure(Model.create({ samplingMode: "wild" })),
      await failure(Model.create({ expectedInputs: [{ type: "audio" }] })),
    ].map(({ name }) => name);
    return { names, then: await session.prompt("Who are you?") };
  });
  assert.deepEqual(found.names, ["AbortError", "NotSupportedError", "NotSupportedError", "TypeError", "TypeError", "TypeError", "NotSupportedError"]);
  assert.ok(found.then.length > 0);
});

test("a router behind it answers from the cloud where it has to", async () => {
  const { url } = await at.cloud.fault("none", 1, 0);
  const text = await page.evaluate(async (url) => {
    const { installPromptApi } = /** @type {any} */ (globalThis);
    const target = /** @type {any} */ ({});
    installPromptApi(await router(url, { mode: "prefer-cloud" }), { target });
    return (await target.LanguageModel.create()).prompt("What is the capital of France?");
  }, url);
  assert.match(text, /Paris/);
});

test("nothing was thrown in the page that nobody caught", () => {
  assert.deepEqual(at.log.filter((line) => line.startsWith("page error")), []);
});
