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

test("a prefix begins the answer, which goes on behind it and is one message of the conversation", async () => {
  const found = await page.evaluate(async () => {
    const { installPromptApi } = /** @type {any} */ (globalThis);
    const asked = /** @type {any[]} */ ([]);
    const create = (/** @type {any} */ request, /** @type {any} */ options) => (asked.push(structuredClone(request)), engine.chat.completions.create(request, options));
    const target = /** @type {any} */ ({});
    installPromptApi({ info: engine.info, tokenize: (/** @type {string} */ text) => engine.tokenize(text), chat: { completions: { create } } }, { target });
    const begin = (/** @type {string} */ content) => [{ role: "user", content: "Who are you?" }, { role: "assistant", content, prefix: true }];
    const whole = await (await target.LanguageModel.create({ samplingMode: "most-predictable" })).prompt("Who are you?");
    const session = await target.LanguageModel.create({ samplingMode: "most-predictable" });
    asked.length = 0;
    const rest = await session.prompt(begin(whole.slice(0, 4)));
    await session.prompt("Hello");
    const constraint = /[a-z]{1,8} it is/;
    const held = await session.prompt(begin("Well,"), { responseConstraint: constraint });
    const router = /** @type {any} */ ({});
    installPromptApi({ chat: { completions: { create } } }, { target: router });
    const refused = await failure((await router.LanguageModel.create()).prompt(begin("So")));
    return { whole, rest, held, asked, refused };
  });
  assert.equal(found.whole.slice(0, 4) + found.rest, found.whole, "the likeliest answer goes on as it was");
  assert.deepEqual(found.asked.map(({ continue_final_message }) => continue_final_message), [true, undefined, true]);
  const [user, answer, next] = found.asked[1].messages;
  assert.deepEqual([user.content, answer, next.content], ["Who are you?", { role: "assistant", content: found.whole }, "Hello"]);
  assert.match(found.held, /^[a-z]{1,8} it is$/);
  const { messages } = found.asked[2];
  assert.match(messages.at(-2).content, /^Who are you\?\n\nAnswer with a text of this form/, "the user says it, not the answer");
  assert.equal(messages.at(-1).content, "Well,");
  assert.equal(found.refused.name, "NotSupportedError");
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
      await failure(session.append([{ role: "assistant", content: "So", prefix: true }])),
      await failure(session.prompt([{ role: "assistant", content: "So", prefix: true }, { role: "user", content: "and" }])),
      await failure(session.prompt([{ role: "system", content: "late" }])),
      await failure(Model.create({ initialPrompts: [{ role: "user", content: "a" }, { role: "system", content: "late" }] })),
      await failure(Model.create({ initialPrompts: [{ role: "assistant", content: "So", prefix: true }] })),
      await failure(Model.create({ samplingMode: "creative", temperature: 1 })),
      await failure(Model.create({ samplingMode: "wild" })),
      await failure(Model.create({ expectedInputs: [{ type: "audio" }] })),
    ].map(({ name }) => name);
    return { names, then: await session.prompt("Who are you?") };
  });
  assert.deepEqual(found.names, ["AbortError", "NotSupportedError", "NotSupportedError", "SyntaxError", "NotSupportedError", "TypeError", "NotSupportedError", "TypeError", "TypeError", "NotSupportedError"]);
  assert.ok(found.then.length > 0);
});

test("an answer is held to a schema or a regular expression, which the prompt tells of unless it is told not to", async () => {
  const found = await page.evaluate(async () => {
    const { installPromptApi } = /** @type {any} */ (globalThis);
    const said = /** @type {string[]} */ ([]);
    const create = (/** @type {any} */ request, /** @type {any} */ options) => {
      said.push(request.messages.at(-1).content);
      return engine.chat.completions.create(request, options);
    };
    const target = /** @type {any} */ ({});
    installPromptApi({ info: engine.info, tokenize: (/** @type {string} */ text) => engine.tokenize(text), chat: { completions: { create } } }, { target });
    const session = await target.LanguageModel.create({ samplingMode: "most-predictable" });
    const schema = { type: "object", properties: { happy: { type: "boolean" } }, required: ["happy"], additionalProperties: false };
    const object = await session.prompt("Is the bird happy?", { responseConstraint: schema });
    const omitted = await session.prompt("Yes or no?", { responseConstraint: /^(yes|no)[.!]$/i, omitResponseConstraintInput: true });
    const pieces = [];
    for await (const piece of session.promptStreaming("How many?", { responseConstraint: /[1-9][0-9] birds/ })) pieces.push(piece);
    const counts = [await session.measureContextUsage("How many?"), await session.measureContextUsage("How many?", { responseConstraint: schema })];
    return { object, omitted, streamed: pieces.join(""), said, counts, wrong: await failure(session.prompt("x", { responseConstraint: { type: "array", uniqueItems: true } })) };
  });
  assert.equal(typeof JSON.parse(found.object).happy, "boolean");
  assert.match(found.omitted, /^(yes|no)[.!]$/i);
  assert.match(found.streamed, /^[1-9]\d birds$/);
  assert.match(found.said[0], /^Is the bird happy\?\n\nAnswer with JSON.*"happy"/);
  assert.equal(found.said[1], "Yes or no?");
  assert.match(found.said[2], /\[1-9\]/);
  assert.ok(found.counts[1] > found.counts[0] + 10, `${found.counts}`);
  assert.deepEqual([found.wrong.name, /uniqueItems/.test(found.wrong.message)], ["NotSupportedError", true]);
});

test("tools are run, and what they give is told to the model", async () => {
  const found = await page.evaluate(async () => {
    const { installPromptApi } = /** @type {any} */ (globalThis);
    const asked = /** @type {any[]} */ ([]);
    // So small a model has to be made to call: its first answer of each prompt.
    const create = (/** @type {any} */ request, /** @type {any} */ options) => {
      asked.push(request);
      const tool_choice = request.messages.at(-1).role === "user" ? "required" : "none";
      return engine.chat.completions.create({ ...request, tool_choice, parallel_tool_calls: false, max_tokens: 60 }, options);
    };
    const target = /** @type {any} */ ({});
    installPromptApi({ info: engine.info, chat: { completions: { create } } }, { target });
    const calls = /** @type {any[]} */ ([]);
    const inputSchema = { type: "object", properties: { city: { enum: ["Paris", "Rome"] } }, required: ["city"], additionalProperties: false };
    const tool = { name: "weather", description: "The weather in a city", inputSchema, execute: async (/** @type {any} */ input) => (calls.push(input), "21 degrees") };
    const session = await target.LanguageModel.create({ samplingMode: "most-predictable", tools: [tool] });
    const answer = await session.prompt("What is the weather?");
    const broken = await target.LanguageModel.create({ tools: [{ ...tool, execute: () => Promise.reject(new Error("no network")) }] });
    return { answer, calls, roles: asked[1].messages.map(({ role }) => role), told: asked[1].messages.at(-1), failed: await failure(broken.prompt("What is the weather?")) };
  });
  assert.equal(found.calls.length, 1);
  assert.ok(["Paris", "Rome"].includes(found.calls[0].city));
  assert.deepEqual(found.roles, ["user", "assistant", "tool"]);
  assert.equal(found.told.content, "21 degrees");
  assert.ok(found.answer.length > 0);
  assert.match(found.failed.message, /no network/);
});

test("usage counts what the session begins with and what is appended; what can never fit is refused with its figures", async () => {
  const found = await page.evaluate(async () => {
    const { Model } = /** @type {any} */ (globalThis);
    const session = await Model.create({ samplingMode: "slightly-creative", initialPrompts: [{ role: "system", content: "You are kind." }] });
    const usages = [session.contextUsage];
    await session.append("The bird is red.");
    usages.push(session.contextUsage);
    const full = await session.append("word ".repeat(6000)).catch((/** @type {any} */ e) => ({ name: e.name, requested: e.requested, quota: e.quota, dom: e instanceof DOMException }));
    const asked = await session.prompt("word ".repeat(6000)).catch((/** @type {any} */ e) => ({ name: e.name, requested: e.requested, quota: e.quota, dom: e instanceof DOMException }));
    return { usages, full, asked, window: session.contextWindow, later: session.contextUsage, mode: session.samplingMode, none: (await Model.create()).samplingMode };
  });
  assert.ok(found.usages[0] >= 3 && found.usages[1] > found.usages[0] + 3, `${found.usages}`);
  assert.equal(found.later, found.usages[1]);
  for (const error of [found.full, found.asked]) {
    assert.deepEqual([error.name, error.dom, error.quota], ["QuotaExceededError", true, found.window], JSON.stringify(error));
    assert.ok(error.requested > found.window);
  }
  assert.deepEqual([found.mode, found.none], ["slightly-creative", null]);
});

test("clones go apart, and a destroyed one ends what it was saying", async () => {
  const found = await page.evaluate(async () => {
    const { Model } = /** @type {any} */ (globalThis);
    const session = await Model.create({ samplingMode: "most-predictable" });
    await session.append("My name is Ann.");
    const clone = await session.clone();
    const before = [session.contextUsage, clone.contextUsage];
    await clone.append("My dog is Rex.");
    const apart = [session.contextUsage, clone.contextUsage];
    const saying = failure(clone.prompt("Tell me a long story."));
    await new Promise((resolve) => setTimeout(resolve, 30));
    clone.destroy();
    return { before, apart, ended: (await saying).name, closed: (await failure(clone.clone())).name, then: await session.prompt("Who are you?") };
  });
  assert.equal(found.before[0], found.before[1]);
  assert.ok(found.apart[1] > found.apart[0] && found.apart[0] === found.before[0]);
  assert.deepEqual([found.ended, found.closed], ["AbortError", "InvalidStateError"]);
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
