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
  const contents = `export * from ${JSON.stringify(name)};`;
  const { outputFiles } = await build({ stdin: { contents, resolveDir: import.meta.dirname }, bundle: true, write: false, format: "esm", platform: "browser", target: "es2022", logLevel: "error", minify: true });
  return outputFiles[0].text;
}

before(async () => {
  const [opened, ...sdks] = await Promise.all([openRouters(), bundle("ai6"), bundle("ai7")]);
  at = opened;
  sdks.forEach((text, i) => at.route(`/ai${6 + i}.js`, (_, response) => void response.setHeader("Content-Type", "text/javascript").end(text)));
  await at.page.evaluate(async () => {
    const { languageModel } = await import(/** @type {string} */ ("/pkg/dist/ai-sdk.js"));
    Object.assign(globalThis, { languageModel, ai6: await import(/** @type {string} */ ("/ai6.js")), ai7: await import(/** @type {string} */ ("/ai7.js")) });
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
