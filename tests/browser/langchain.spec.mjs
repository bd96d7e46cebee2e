// The real @langchain/core on an engine and on a router, in Chromium.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { bundleLangchain } from "./lib/langchain.mjs";
import { openRouters } from "./lib/router.mjs";

/** @type {Awaited<ReturnType<typeof openRouters>>} */
let at;
before(async () => {
  const { imports, files } = await bundleLangchain();
  at = await openRouters();
  for (const [path, text] of files) at.route(path, (_, response) => void response.setHeader("Content-Type", "text/javascript").end(text));
  await at.page.evaluate(async (imports) => {
    document.head.append(Object.assign(document.createElement("script"), { type: "importmap", textContent: JSON.stringify({ imports }) }));
    const { ChatKinglet, KingletEmbeddings } = await import(/** @type {string} */ ("/pkg/dist/langchain.js"));
    const core = { ...(await import(/** @type {string} */ ("@langchain/core/messages"))), ...(await import(/** @type {string} */ ("@langchain/core/tools"))), ...(await import(/** @type {string} */ ("zod"))) };
    Object.assign(globalThis, { core, KingletEmbeddings, ChatKinglet, chat: new ChatKinglet({ model: engine, defaults: { temperature: 0, max_tokens: 200 } }) });
  }, imports);
});
after(() => at.close());

/** Runs in the page. @param {(at: any) => Promise<any>} act @param {object} [more] */
const inPage = (act, more = {}) => at.page.evaluate(({ act, more }) => {
  const { core, chat, ChatKinglet, KingletEmbeddings } = /** @type {any} */ (globalThis);
  return new Function("at", `return (${act})(at)`)({ core, chat, ChatKinglet, KingletEmbeddings, ...more });
}, { act: String(act), more });

test("a whole answer, with usage, reason and signals; a conversation of messages of every kind", async () => {
  const found = await inPage(async ({ core, chat }) => {
    const answer = await chat.invoke("Who are you?");
    const { SystemMessage, HumanMessage, AIMessage, ToolMessage } = core;
    const later = await chat.invoke([
      new SystemMessage("You are kind."), new HumanMessage({ content: [{ type: "text", text: "Look it up." }] }),
      new AIMessage({ content: "", tool_calls: [{ id: "abcdefghi", name: "look", args: { at: "sky" } }] }), new ToolMessage({ content: "blue", tool_call_id: "abcdefghi" }),
      ["human", "Hello"],
    ]);
    return { text: answer.content, usage: answer.usage_metadata, meta: answer.response_metadata, later: later.content, read: later.usage_metadata.input_tokens };
  });
  assert.match(found.text, /^I am Kinglet/);
  assert.ok(found.usage.input_tokens > 5 && found.usage.output_tokens > 5 && found.usage.total_tokens === found.usage.input_tokens + found.usage.output_tokens);
  assert.equal(found.meta.finish_reason, "stop");
  assert.ok(found.meta.signals.meanLogprob < 0 && found.meta.model_name);
  assert.ok(found.later.length > 0 && found.read > 20);
});

test("a stream, whose pieces add up to the whole; callbacks hear each", async () => {
  const found = await inPage(async ({ chat }) => {
    const tokens = /** @type {string[]} */ ([]);
    const pieces = [];
    let sum;
    for await (const piece of await chat.stream("Who are you?", { callbacks: [{ handleLLMNewToken: (token) => void tokens.push(token) }] })) {
      pieces.push(piece.content);
      sum = sum ? sum.concat(piece) : piece;
    }
    const { content } = await chat.invoke("Who are you?");
    return { pieces, content, tokens, sum: sum.content, reason: sum.response_metadata.finish_reason, usage: sum.usage_metadata };
  });
  assert.ok(found.pieces.length > 5);
  assert.equal(found.sum, found.content);
  assert.equal(found.pieces.join(""), found.content);
  assert.equal(found.tokens.join(""), found.content);
  assert.equal(found.reason, "stop");
  assert.ok(found.usage.output_tokens > 5);
});

test("structured output by a schema of zod's, a JSON schema, and a call", async () => {
  const found = await inPage(async ({ core, chat }) => {
    const { z } = core;
    const bird = z.object({ colour: z.enum(["red", "blue"]), legs: z.number().int().min(1).max(9) });
    const json = { title: "mood", type: "object", properties: { happy: { type: "boolean" } }, required: ["happy"], additionalProperties: false };
    return {
      zod: await chat.withStructuredOutput(bird).invoke("Describe a bird."),
      raw: await chat.withStructuredOutput(bird, { includeRaw: true }).invoke("Describe a bird.").then(({ raw, parsed }) => ({ text: raw.content, parsed })),
      json: await chat.withStructuredOutput(json).invoke("Is the bird happy?"),
      // The context is small: 512 tokens with what the tools take.
      called: await chat.withStructuredOutput(z.object({ sky: z.enum(["red", "blue"]) }), { name: "see", method: "functionCalling" }).invoke("Look."),
    };
  });
  for (const bird of [found.zod, found.raw.parsed]) assert.ok(["red", "blue"].includes(bird.colour) && bird.legs >= 1 && bird.legs <= 9, JSON.stringify(found));
  assert.deepEqual(JSON.parse(found.raw.text), found.raw.parsed);
  assert.equal(typeof found.json.happy, "boolean");
  assert.ok(["red", "blue"].includes(found.called.sky), JSON.stringify(found.called));
});

test("a tool is called, run, and its result answered to", async () => {
  const found = await inPage(async ({ core, chat }) => {
    const { z, tool, HumanMessage } = core;
    const weather = tool(async ({ city }) => `21 degrees in ${city}`, { name: "weather", description: "The weather in a city", schema: z.object({ city: z.enum(["Paris", "Rome"]) }) });
    const asked = new HumanMessage("What is the weather?");
    const call = await chat.bindTools([weather], { tool_choice: "any" }).invoke([asked], { request: { parallel_tool_calls: false } });
    let streamed;
    for await (const piece of await chat.bindTools([weather], { tool_choice: "weather" }).stream([asked])) streamed = streamed ? streamed.concat(piece) : piece;
    const result = await weather.invoke(call.tool_calls[0]);
    const last = await chat.bindTools([weather], { tool_choice: "none" }).invoke([asked, call, result]);
    return { calls: call.tool_calls, invalid: call.invalid_tool_calls, reason: call.response_metadata.finish_reason, streamed: streamed.tool_calls, result: result.content, last: last.content };
  });
  assert.equal(found.calls.length, 1);
  assert.equal(found.calls[0].name, "weather");
  assert.ok(["Paris", "Rome"].includes(found.calls[0].args.city) && found.calls[0].id);
  assert.deepEqual(found.invalid, []);
  assert.equal(found.reason, "tool_calls");
  assert.equal(found.streamed[0].name, "weather");
  assert.match(found.result, /^21 degrees in (Paris|Rome)$/);
  assert.ok(found.last.length > 0);
});

test("an abort and an early leave end the answer, and the engine is free; errors are the package's", async () => {
  const found = await inPage(async ({ core, chat }) => {
    const controller = new AbortController();
    let pieces = 0;
    const aborted = await failure((async () => {
      for await (const _ of await chat.stream("Tell me a story.", { signal: controller.signal, request: { ignore_eos: true, max_tokens: 400 } })) if (++pieces === 3) controller.abort();
    })());
    for await (const _ of await chat.stream("Tell me a story.", { request: { ignore_eos: true, max_tokens: 400 } })) break;
    const image = new core.HumanMessage({ content: [{ type: "image_url", image_url: { url: "data:," } }] });
    return { aborted: aborted.name, pieces, then: (await chat.invoke("Who are you?")).content, image: await failure(chat.invoke([image])), wrong: await failure(chat.invoke("x", { request: { temperature: -1 } })) };
  });
  assert.equal(found.aborted, "AbortError");
  assert.ok(found.pieces < 100, `${found.pieces} pieces`);
  assert.match(found.then, /^I am Kinglet/);
  assert.match(found.image.message, /text only/);
  assert.deepEqual([found.wrong.code, found.wrong.isKinglet], ["BAD_REQUEST", true]);
});

test("embeddings of documents and of a question", async () => {
  const found = await inPage(async ({ KingletEmbeddings }) => {
    const embeddings = new KingletEmbeddings({ engine });
    const many = await embeddings.embedDocuments(["The puppy plays in the garden.", "What is seven plus five?"]);
    return { many, one: await embeddings.embedQuery("A dog runs in the park."), none: await embeddings.embedDocuments([]) };
  });
  const near = found.many.map((/** @type {number[]} */ other) => other.reduce((sum, x, i) => sum + x * found.one[i], 0));
  assert.ok(near[0] > near[1] + 0.05, `${near}`);
  assert.deepEqual(found.none, []);
});

test("a router behind it answers from the cloud where it has to, and says so", async () => {
  const { url } = await at.cloud.fault("none", 1, 0);
  const found = await inPage(async ({ ChatKinglet, url }) => {
    const chat = new ChatKinglet({ model: await router(url, { mode: "prefer-cloud" }) });
    const { content, response_metadata, usage_metadata } = await chat.invoke("What is the capital of France?");
    return { content, source: response_metadata.router.source, usage: usage_metadata };
  }, { url });
  assert.match(found.content, /Paris/);
  assert.equal(found.source, "cloud");
  assert.ok(found.usage.total_tokens > 0);
});

test("nothing was thrown in the page that nobody caught", () => {
  assert.deepEqual(at.log.filter((line) => line.startsWith("page error")), []);
});
