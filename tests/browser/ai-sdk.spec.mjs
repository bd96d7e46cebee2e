// The real AI SDK, versions 6 and 7, on an engine and on a router in Chromium.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { build } from "../../pkg/node_modules/esbuild/lib/main.js";
import { openRouters } from "./lib/router.mjs";

/** @type {Awaited<ReturnType<typeof openRouters>>} */
let at;

/** The SDK as one module, as an app's bundler would make it. */
async function bundle(/** @type {string} */ name) {
  const contents = `export * from ${JSON.stringify(name)}; export * as zod from "zod";`;
  const { outputFiles } = await build({ stdin: { contents, resolveDir: import.meta.dirname }, bundle: true, write: false, format: "esm", platform: "browser", target: "es2022", logLevel: "error", minify: true });
  return outputFiles[0].text;
}

before(async () => {
  const [opened, ...sdks] = await Promise.all([openRouters(), bundle("ai6"), bundle("ai7")]);
  at = opened;
  sdks.forEach((text, i) => at.route(`/ai${6 + i}.js`, (_, response) => void response.setHeader("Content-Type", "text/javascript").end(text)));
  await at.page.evaluate(async () => {
    const { languageModel, embeddingModel } = await import(/** @type {string} */ ("/pkg/dist/ai-sdk.js"));
    Object.assign(globalThis, { languageModel, embeddingModel, ai6: await import(/** @type {string} */ ("/ai6.js")), ai7: await import(/** @type {string} */ ("/ai7.js")) });
  });
});
after(() => at.close());

for (const version of [6, 7]) {
  /** Runs in the page, with the SDK and the engine as a model for it. @param {(at: any) => Promise<any>} act @param {object} [more] */
  const inPage = (act, more = {}) => at.page.evaluate(async ({ version, act, more }) => {
    const { [`ai${version}`]: ai, languageModel } = /** @type {any} */ (globalThis);
    const as = (/** @type {any} */ model, /** @type {any} */ options) => (version === 6 ? languageModel(model, options).asV3() : languageModel(model, options));
    return new Function("at", `return (${act})(at)`)({ ai, as, model: as(engine, {}), ...more });
  }, { version, act: String(act), more });

  test(`ai ${version}: a whole answer, with usage and signals`, async () => {
    const found = await inPage(async ({ ai, model }) => {
      const { text, usage, finishReason, response, providerMetadata, warnings } = await ai.generateText({ model, prompt: "Who are you?", temperature: 0 });
      return { text, usage, finishReason, modelId: response.modelId, signals: providerMetadata.kinglet.signals, warnings };
    });
    assert.match(found.text, /^I am Kinglet, a small language model/);
    assert.equal(found.finishReason, "stop");
    assert.ok(found.usage.inputTokens > 5 && found.usage.outputTokens > 5, JSON.stringify(found.usage));
    assert.ok(found.signals.meanLogprob < 0);
    assert.deepEqual(found.warnings ?? [], []);
  });

  test(`ai ${version}: a conversation is streamed, piece by piece`, async () => {
    const found = await inPage(async ({ ai, model }) => {
      const messages = [{ role: "user", content: "Hello" }, { role: "assistant", content: "Hello!" }, { role: "user", content: [{ type: "text", text: "Who are " }, { type: "text", text: "you?" }] }];
      const pieces = [];
      const result = ai.streamText({ model, messages, temperature: 0, maxOutputTokens: 12 });
      for await (const piece of result.textStream) pieces.push(piece);
      return { pieces, text: await result.text, reason: await result.finishReason };
    });
    assert.ok(found.pieces.length > 5);
    assert.equal(found.pieces.join(""), found.text);
    assert.equal(found.reason, "length");
  });

  test(`ai ${version}: an abort ends the answer, and the engine is free`, async () => {
    const found = await inPage(async ({ ai, model }) => {
      const controller = new AbortController();
      let aborted = false;
      let pieces = 0;
      const result = ai.streamText({ model, prompt: "Tell me a story.", abortSignal: controller.signal, onAbort: () => void (aborted = true), providerOptions: { kinglet: { ignore_eos: true } }, maxOutputTokens: 400 });
      try {
        for await (const part of result.fullStream) {
          if (part.type === "text-delta" && ++pieces === 3) controller.abort();
        }
      } catch (e) {
        if (/** @type {Error} */ (e).name !== "AbortError") throw e;
      }
      const { text } = await ai.generateText({ model, prompt: "Who are you?", temperature: 0 });
      return { aborted, pieces, text };
    });
    assert.ok(found.aborted);
    assert.ok(found.pieces < 100, `${found.pieces} pieces`);
    assert.match(found.text, /^I am Kinglet/);
  });

  test(`ai ${version}: what cannot be is an error that says so`, async () => {
    const messages = await inPage(async ({ ai, model }) => {
      const failure = async (/** @type {object} */ call) => ai.generateText({ model, maxRetries: 0, ...call }).then(() => "nothing", (e) => e.message);
      return [
        await failure({ messages: [{ role: "user", content: [{ type: "image", image: new Uint8Array([137, 80, 78, 71]), mediaType: "image/png" }] }] }),
        await failure({ prompt: "x", temperature: -1 }),
      ];
    });
    assert.match(messages[0], /these models read text only/);
    assert.match(messages[1], /temperature must be/);
  });

  test(`ai ${version}: objects keep to a schema of zod's or a JSON schema, whole and streamed`, async () => {
    const found = await inPage(async ({ ai, model }) => {
      const { z } = ai.zod;
      const bird = z.object({ colour: z.enum(["red", "blue"]), legs: z.number().int().min(1).max(9) });
      const json = ai.jsonSchema({ type: "object", properties: { happy: { type: "boolean" } }, required: ["happy"], additionalProperties: false });
      const call = { model, prompt: "Describe a bird.", temperature: 0, maxOutputTokens: 200 };
      const output = await ai.generateText({ ...call, output: ai.Output.object({ schema: bird }) });
      const streaming = ai.streamText({ ...call, output: ai.Output.object({ schema: bird }) });
      const partial = [];
      for await (const part of streaming.partialOutputStream) partial.push(part);
      const array = await ai.generateText({ ...call, temperature: 1, seed: 3, output: ai.Output.array({ element: json }) }).then(({ output }) => output, (e) => ({ error: e.name, reason: e.finishReason }));
      const choice = (await ai.generateText({ ...call, output: ai.Output.choice({ options: ["sun", "rain"] }) })).output;
      const whole = await ai.generateObject({ ...call, schema: bird });
      const plain = (await ai.generateObject({ ...call, schema: json })).object;
      const streamed = ai.streamObject({ ...call, schema: bird });
      const objects = [];
      for await (const part of streamed.partialObjectStream) objects.push(part);
      return {
        output: output.output, text: output.text, partial, whole: whole.object, reason: whole.finishReason, usage: whole.usage, plain, objects, object: await streamed.object, array, choice,
        cut: await ai.generateObject({ ...call, schema: bird, maxOutputTokens: 3 }).then(() => "nothing failed", (e) => [e.name, e.finishReason]),
      };
    });
    for (const bird of [found.output, found.whole, found.object, found.partial.at(-1)]) {
      assert.ok(["red", "blue"].includes(bird.colour) && bird.legs >= 1 && bird.legs <= 9, JSON.stringify(bird));
    }
    assert.deepEqual(JSON.parse(found.text), found.output);
    assert.deepEqual(found.objects.at(-1), found.object);
    assert.ok(found.objects.length > 1 && found.partial.length > 1, "it grows");
    assert.equal(typeof found.plain.happy, "boolean");
    if (Array.isArray(found.array)) found.array.forEach(({ happy }) => assert.equal(typeof happy, "boolean"));
    else assert.deepEqual(found.array, { error: "AI_NoOutputGeneratedError", reason: "length" }); // a list of any length
    assert.ok(["sun", "rain"].includes(found.choice));
    assert.equal(found.reason, "stop");
    assert.ok(found.usage.outputTokens > 5);
    assert.deepEqual(found.cut, ["AI_NoObjectGeneratedError", "length"]);
  });

  test(`ai ${version}: a tool is called, run, and its result goes into the next step`, async () => {
    const found = await inPage(async ({ ai, model }) => {
      const { z } = ai.zod;
      const ran = /** @type {any[]} */ ([]);
      const weather = ai.tool({ description: "The weather in a city", inputSchema: z.object({ city: z.enum(["Paris", "Rome"]) }), execute: async (input) => (ran.push(input), { degrees: 21 }) });
      // So small a model has to be made to call.
      const prepareStep = ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? { type: "tool", toolName: "weather" } : "auto" });
      const call = { model, prompt: "What is the weather?", tools: { weather }, prepareStep, stopWhen: ai.stepCountIs(3), temperature: 0, maxOutputTokens: 200 };
      const { steps, text, toolResults, totalUsage, response } = await ai.generateText(call);
      const streaming = ai.streamText(call);
      const types = [];
      for await (const part of streaming.fullStream) types.push(part.type);
      const last = await streaming.finishReason;
      return {
        ran, text, steps: steps.map((step) => ({ reason: step.finishReason, calls: step.toolCalls.map(({ toolName, input }) => ({ toolName, input })), results: step.toolResults.map(({ output }) => output), input: step.usage.inputTokens })),
        roles: response.messages.map(({ role }) => role), types, last, later: toolResults.length, total: (totalUsage ?? {}).outputTokens,
      };
    });
    assert.equal(found.ran.length, 2, "once for each of the two runs");
    assert.equal(found.steps.length, 2);
    assert.equal(found.steps[0].reason, "tool-calls");
    assert.deepEqual(found.steps[0].calls, [{ toolName: "weather", input: found.ran[0] }]);
    assert.deepEqual(found.steps[0].results, [{ degrees: 21 }]);
    assert.ok(found.steps[1].input > found.steps[0].input, "the second step reads the result");
    assert.ok(found.text.length > 0 && found.total > 5);
    for (const type of ["tool-input-start", "tool-input-delta", "tool-input-end", "tool-call", "tool-result", "text-delta", "finish"]) assert.ok(found.types.includes(type), `${type} of ${new Set(found.types)}`);
    assert.ok(["stop", "length"].includes(found.last));
  });

  test(`ai ${version}: a stream ends with usage and reason; an error is the package's own, told once and not tried again`, async () => {
    const found = await inPage(async ({ ai, as, model }) => {
      const result = ai.streamText({ model, prompt: "Who are you?", temperature: 0 });
      const parts = [];
      for await (const part of result.fullStream) parts.push(part);
      const { finishReason, totalUsage } = parts.at(-1);
      let tries = 0;
      const counting = as({ chat: { completions: { create: (request, options) => (tries++, engine.chat.completions.create(request, options)) } } }, {});
      const whole = await ai.generateText({ model: counting, prompt: "x", temperature: -1 }).then(() => "nothing", (e) => ({ name: e.name, code: e.code }));
      const told = /** @type {string[]} */ ([]);
      const failing = ai.streamText({ model: counting, prompt: "x", temperature: -1, onError: ({ error }) => void told.push(error.code) });
      const types = [];
      for await (const part of failing.fullStream) types.push(part.type);
      return { finishReason, totalUsage, whole, tries, told, types };
    });
    assert.equal(found.finishReason, "stop");
    assert.ok(found.totalUsage.inputTokens > 5 && found.totalUsage.outputTokens > 5);
    assert.deepEqual(found.whole, { name: "KingletError", code: "BAD_REQUEST" });
    assert.equal(found.tries, 2, "once for each");
    assert.deepEqual(found.told, ["BAD_REQUEST"]);
    assert.ok(found.types.includes("error"));
  });

  test(`ai ${version}: embeddings, of one text and of many`, async () => {
    const found = await inPage(async ({ ai, version }) => {
      const { embeddingModel } = /** @type {any} */ (globalThis);
      const model = version === 6 ? embeddingModel(engine).asV3() : embeddingModel(engine);
      const one = await ai.embed({ model, value: "A dog runs in the park." });
      const many = await ai.embedMany({ model, values: ["A dog runs in the park.", "The puppy plays in the garden.", "What is seven plus five?"] });
      const { data: [{ embedding }] } = await engine.embeddings.create({ input: "A dog runs in the park." });
      const controller = new AbortController();
      const aborted = failure(ai.embedMany({ model, values: Array(500).fill("a long text ".repeat(20)), abortSignal: controller.signal, maxRetries: 0 }));
      setTimeout(() => controller.abort(), 30);
      return { same: JSON.stringify(one.embedding) === JSON.stringify(embedding), tokens: one.usage.tokens, near: [1, 2].map((i) => ai.cosineSimilarity(many.embeddings[0], many.embeddings[i])), aborted: (await aborted).name };
    }, { version });
    assert.ok(found.same);
    assert.ok(found.tokens > 3);
    assert.ok(found.near[0] > found.near[1] + 0.05, `${found.near}`);
    assert.equal(found.aborted, "AbortError");
  });

  test(`ai ${version}: a router behind it escalates, and says so`, async () => {
    const { url } = await at.cloud.fault("none", version, 0);
    const found = await inPage(async ({ ai, as, url }) => {
      const model = as(await router(url), { modelId: "routed" });
      const ask = async (/** @type {object} */ call) => {
        const result = ai.streamText({ model, ...call });
        return { text: await result.text, source: (await result.providerMetadata).kinglet.router.source };
      };
      return [await ask({ prompt: "Who are you?", temperature: 0 }), await ask({ prompt: "Tell me a story.", temperature: 5, seed: 1, maxOutputTokens: 24, providerOptions: { kinglet: { top_k: 0 } } })];
    }, { url });
    assert.equal(found[0].source, "local");
    assert.equal(found[1].source, "cloud");
    assert.match(found[1].text, /Paris/);
  });
}

test("nothing was thrown in the page that nobody caught", () => {
  assert.deepEqual(at.log.filter((line) => line.startsWith("page error")), []);
});
