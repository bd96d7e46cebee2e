// Answers in a form, and calls of tools, by the packed package with the model it comes with, in real Chromium.
import assert from "node:assert/strict";
import { Ajv2020 } from "ajv/dist/2020.js";
import formats from "ajv-formats";
import { after, before, beforeEach, describe, test } from "node:test";
import { launchFirefox } from "./lib/browser.mjs";
import { openGpu } from "./lib/gpu.mjs";
import { openPackage } from "./lib/package.mjs";
import { schemaOf } from "./lib/schemas.mjs";

const SCHEMAS = process.env.KINGLET_SOAK ? 200 : 12;
const PROMPTS = ["Tell me a story about a bird.", "Who are you?", "What is in the box?", "Give me three numbers.", "Describe your friend as JSON."];
const GRAMMAR = "/pkg/wasm/grammar/kinglet_bg.wasm";

/** @type {Awaited<ReturnType<typeof openPackage>>} */
let it;
before(async () => void (it = await openPackage()));
after(() => it.close());
beforeEach(() => it.open());

const messages = [{ role: /** @type {const} */ ("user"), content: PROMPTS[0] }];
const schema = {
  type: "object",
  properties: { name: { type: "string", pattern: "^[A-Z][a-z]{2,8}$" }, age: { type: "integer", minimum: 1, maximum: 99 } },
  required: ["name", "age"],
  additionalProperties: false,
};
const person = { type: /** @type {const} */ ("json_schema"), json_schema: { name: "person", schema } };
const loads = () => it.seen.filter(({ path }) => path === GRAMMAR).length;

describe("forms", () => {
  test("a schema is kept to, whole and streamed; only then the grammar's binary is loaded, once", async () => {
    const free = await it.page.evaluate(async (messages) => {
      const engine = Object.assign(globalThis, { engine: await createEngine({ contextLength: 1024 }) }).engine;
      return (await engine.chat.completions.create({ messages, temperature: 0, max_tokens: 30, response_format: { type: "text" } })).choices[0];
    }, messages);
    assert.ok(free.message.content);
    assert.equal(loads(), 0, "nobody has asked for a form");
    const { whole, chunks } = await it.page.evaluate(async ({ messages, person }) => {
      const request = { messages, temperature: 0, max_tokens: 100, response_format: person };
      const whole = await engine.chat.completions.create(request);
      return { whole, chunks: await collect(await engine.chat.completions.create({ ...request, stream: true })) };
    }, { messages, person });
    const { message, finish_reason } = whole.choices[0];
    assert.equal(finish_reason, "stop");
    const value = JSON.parse(message.content ?? "");
    assert.match(value.name, /^[A-Z][a-z]{2,8}$/);
    assert.ok(Number.isInteger(value.age) && value.age >= 1 && value.age <= 99, message.content ?? "");
    assert.ok(chunks.length > 5);
    assert.equal(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join(""), message.content);
    assert.equal(loads(), 1);
    const { signals, usage } = whole;
    assert.ok(Math.abs((signals.logLength ?? 0) - Math.log(usage.completion_tokens)) < 1e-9, "forced tokens count");
  });

  test("a regular expression, a grammar and any object; also of raw text, and by sampling", async () => {
    const { answers, raw } = await it.page.evaluate(async (messages) => {
      const engine = await createEngine({ contextLength: 1024 });
      /** @type {import("../../pkg/src/index.ts").ResponseFormat[]} */
      const forms = [
        { type: "regex", regex: "(yes|no), [a-z]{3,8}[.!]" },
        { type: "grammar", syntax: "lark", grammar: 'start: NUMBER ("+" NUMBER){1,3}\nNUMBER: /[1-9][0-9]{0,2}/' },
        { type: "json_object", close_within_budget: true },
      ];
      const ask = async (/** @type {any} */ response_format) => (await engine.chat.completions.create({ messages, seed: 3, temperature: 1.2, max_tokens: 50, response_format })).choices[0].message.content ?? "";
      const answers = [];
      for (const form of forms) answers.push(await ask(form));
      const raw = await engine.completions.create({ prompt: "Once", temperature: 0, max_tokens: 20, response_format: { type: "regex", regex: " upon [a-z]+ time\\." } });
      return { answers, raw: raw.choices[0].text };
    }, messages);
    assert.match(answers[0], /^(yes|no), [a-z]{3,8}[.!]$/);
    assert.match(answers[1], /^[1-9]\d{0,2}(\+[1-9]\d{0,2}){1,3}$/);
    assert.equal(typeof JSON.parse(answers[2]), "object");
    assert.match(raw, /^ upon [a-z]+/);
  });

  test("an answer that fits is left as it is", async () => {
    const { free, bound } = await it.page.evaluate(async (messages) => {
      const engine = await createEngine({ contextLength: 1024 });
      const request = { messages, temperature: 0, max_tokens: 120 };
      const free = (await engine.chat.completions.create(request)).choices[0];
      const regex = (free.message.content ?? "").replace(/[^\w ]/g, (c) => `\\x{${c.codePointAt(0)?.toString(16)}}`) + "(.|\\n)*";
      const bound = (await engine.chat.completions.create({ ...request, response_format: { type: "regex", regex } })).choices[0];
      return { free, bound };
    }, messages);
    assert.ok(free.token_ids.length > 5);
    assert.deepEqual(bound, free);
  });

  test("an answer in a form can be aborted, before and after its binary is there", async () => {
    const { errors, text, then } = await it.page.evaluate(async ({ messages, person }) => {
      const engine = await createEngine({ contextLength: 1024 });
      const request = { messages, temperature: 1, max_tokens: 800, response_format: { type: /** @type {const} */ ("regex"), regex: "[a-z ]{5000,}" } };
      const early = new AbortController();
      const first = failure(engine.chat.completions.create(request, { signal: early.signal }));
      setTimeout(() => early.abort(), 20);
      const errors = [(await first).code];
      const stream = await engine.chat.completions.create({ ...request, stream: true });
      let text = "";
      try {
        for await (const chunk of stream) {
          text += chunk.choices[0]?.delta.content ?? "";
          if (text.length > 20) stream.controller.abort();
        }
      } catch (e) {
        errors.push(/** @type {any} */ (e).code);
      }
      const then = await engine.chat.completions.create({ messages, temperature: 0, max_tokens: 100, response_format: person });
      return { errors, text, then: then.choices[0].message.content };
    }, { messages, person });
    assert.deepEqual(errors, ["ABORTED", "ABORTED"]);
    assert.match(text, /^[a-z ]{21,4000}$/);
    assert.ok(JSON.parse(then ?? "").name);
  });

  test("what is wrong with a form or a tool is said, and the engine goes on", async () => {
    const f = (/** @type {string} */ name, /** @type {object} */ more = {}) => ({ type: "function", function: { name, ...more } });
    /** @type {[object, RegExp][]} */
    const wrong = [
      [{ response_format: { type: "json_schema", json_schema: { name: "a", schema: { type: "array", uniqueItems: true } } } }, /json_schema\.schema.*uniqueItems/],
      [{ response_format: { type: "json_schema", json_schema: { name: "a", schema: { oneOf: [{ type: "number" }, { minimum: 3 }] } } } }, /oneOf/],
      [{ response_format: { type: "json_schema", json_schema: { name: "a" } } }, /json_schema.*schema/],
      [{ response_format: { type: "regex", regex: "a(" } }, /response_format\.regex/],
      [{ response_format: { type: "grammar", syntax: "lark", grammar: "start: missing" } }, /missing/],
      [{ response_format: { type: "grammar", syntax: "gbnf", grammar: "root ::= x" } }, /syntax/],
      [{ response_format: { type: "yaml" } }, /response_format\.type/],
      [{ response_format: { type: "json_object" }, stop: ["}"] }, /stop/],
      [{ response_format: { type: "json_object", close_within_budget: true }, max_tokens: 1 }, /max_tokens/],
      [{ response_format: { type: "json_object" }, ignore_eos: true }, /ignore_eos/],
      [{ tools: [{}] }, /tools\[0\]/],
      [{ tools: [f("two words")] }, /name/],
      [{ tools: [f("a"), f("a")] }, /two of the name/],
      [{ tools: [f("a", { parameters: { type: "array", uniqueItems: true } })], tool_choice: "required" }, /tools.*uniqueItems/],
      [{ tools: [f("a")], tool_choice: { type: "function", function: { name: "b" } } }, /tool_choice.*"b"/],
      [{ tool_choice: "required" }, /tool_choice/],
      [{ tools: [f("a")], response_format: { type: "json_object" } }, /tool_choice: "none"/],
    ];
    const { found, then } = await it.page.evaluate(async ({ messages, wrong }) => {
      const engine = await createEngine({ contextLength: 1024 });
      const found = [];
      for (const options of wrong) found.push(await failure(engine.chat.completions.create({ messages, max_tokens: 20, ...options })));
      return { found, then: (await engine.chat.completions.create({ messages, max_tokens: 5 })).choices[0].message.content };
    }, { messages, wrong: wrong.map(([options]) => options) });
    wrong.forEach(([options, rule], i) => {
      assert.equal(found[i].code, "BAD_REQUEST", JSON.stringify([options, found[i]]));
      assert.match(String(found[i].message), rule);
    });
    assert.ok(then);
  });
});

describe("tools", () => {
  const tools = [
    { type: /** @type {const} */ ("function"), function: { name: "weather", description: "The weather in a city", parameters: { type: "object", properties: { city: { type: "string", maxLength: 12 }, unit: { enum: ["C", "F"] } }, required: ["city", "unit"] } } },
    { type: /** @type {const} */ ("function"), function: { name: "now" } },
  ];

  test("a call, its result, and an answer to it", async () => {
    const { whole, chunks, free, last } = await it.page.evaluate(async ({ messages, tools }) => {
      const engine = await createEngine({ contextLength: 2048 });
      const request = { messages, tools, tool_choice: { type: /** @type {const} */ ("function"), function: { name: "weather" } }, temperature: 0, max_tokens: 100 };
      const whole = (await engine.chat.completions.create(request)).choices[0];
      const chunks = (await collect(await engine.chat.completions.create({ ...request, stream: true }))).flatMap((chunk) => chunk.choices);
      const free = (await engine.chat.completions.create({ ...request, tool_choice: "auto" })).choices[0];
      const id = whole.message.tool_calls?.[0].id;
      const answered = [...messages, whole.message, { role: /** @type {const} */ ("tool"), tool_call_id: id, content: '{"degrees": 21}' }];
      const last = await engine.chat.completions.create({ messages: answered, tools, tool_choice: "none", temperature: 0, max_tokens: 20 });
      return { whole, chunks, free, last };
    }, { messages, tools });
    assert.equal(whole.finish_reason, "tool_calls");
    assert.equal(whole.message.content, null);
    const [call] = whole.message.tool_calls ?? [];
    assert.match(call.id, /^[A-Za-z0-9]{9}$/);
    assert.equal(call.type, "function");
    assert.equal(call.function.name, "weather");
    const args = JSON.parse(call.function.arguments);
    assert.ok(args.city.length <= 12 && ["C", "F"].includes(args.unit) && Object.keys(args).length === 2, call.function.arguments);

    const deltas = chunks.flatMap((choice) => choice.delta.tool_calls ?? []);
    assert.equal(chunks.map((choice) => choice.delta.content ?? "").join(""), "");
    assert.equal(chunks.at(-1)?.finish_reason, "tool_calls");
    assert.ok(deltas.length > 3, `${deltas.length} deltas`);
    assert.deepEqual([deltas[0].index, deltas[0].type, deltas[0].function.name], [0, "function", "weather"]);
    assert.ok(deltas.slice(1).every((delta) => delta.index === 0 && delta.id === undefined && delta.function.name === undefined));
    assert.equal(deltas.map((delta) => delta.function.arguments).join(""), call.function.arguments);

    assert.ok(free.finish_reason !== "tool_calls" && free.message.content && free.message.tool_calls === undefined, "the model was never taught to call");
    assert.ok(last.choices[0].message.content && last.usage.prompt_tokens > 40, JSON.stringify(last));
  });

  test("required: some call, and no more than one where that is asked for", async () => {
    const found = await it.page.evaluate(async ({ messages, tools }) => {
      const engine = await createEngine({ contextLength: 2048 });
      const ask = async (/** @type {object} */ more) => (await engine.chat.completions.create({ messages, tools, tool_choice: "required", temperature: 0.8, seed: 1, max_tokens: 400, ...more })).choices[0];
      return { many: await ask({}), one: await ask({ parallel_tool_calls: false }) };
    }, { messages, tools });
    for (const { message } of [found.many, found.one]) {
      assert.ok(message.tool_calls?.every(({ function: { name } }) => ["weather", "now"].includes(name)), JSON.stringify(message));
      const calls = message.tool_calls ?? [];
      assert.ok(calls.length >= 1 && calls.slice(0, -1).every((call) => JSON.parse(call.function.arguments)));
    }
    assert.equal(found.one.message.tool_calls?.length, 1);
    assert.equal(found.one.finish_reason, "tool_calls");
  });
});

describe("on a GPU", () => {
  /** @type {Awaited<ReturnType<typeof openGpu>>} */
  let gpu;
  before(async () => void (gpu = await openGpu("Firefox", launchFirefox)));
  after(() => gpu.close());

  test("the same answer as on the CPU, which goes on with it when the device is lost", async (t) => {
    if (gpu.missing) return t.skip(gpu.missing);
    await gpu.open();
    const { answers, events } = await gpu.page.evaluate(async ({ messages, person }) => {
      const events = /** @type {string[]} */ ([]);
      const onEvent = (/** @type {{ type: string }} */ { type }) => void events.push(type);
      const ask = async (/** @type {object} */ options) => {
        const engine = await createEngine({ contextLength: 512, onEvent, ...options });
        const reply = await engine.chat.completions.create({ messages, temperature: 0, max_tokens: 100, response_format: person });
        const { backend } = engine.info;
        await engine.dispose();
        return { backend, choice: reply.choices[0] };
      };
      const answers = [await ask({ backend: "cpu" }), await ask({ backend: "webgpu" })];
      answers.push(await ask({ backend: "webgpu", worker: losing({ answering: 60 }).start }));
      return { answers, events };
    }, { messages, person });
    assert.deepEqual(answers.map(({ backend }) => backend), ["cpu", "webgpu", "cpu"]);
    assert.deepEqual(answers.map(({ choice }) => choice.message.content), Array(3).fill(answers[0].choice.message.content));
    assert.ok(JSON.parse(answers[0].choice.message.content ?? "").name);
    assert.deepEqual(events, ["backend-changed"]);
  });
});

test(`${SCHEMAS} schemas, ${PROMPTS.length} prompts each: what ends with stop is valid`, { timeout: 3_600_000 }, async (t) => {
  const ajv = new Ajv2020({ strict: false, allErrors: true });
  formats.default(ajv);
  await it.page.evaluate(async () => void Object.assign(globalThis, { engine: await createEngine({ contextLength: 1024 }) }));
  const sum = { answers: 0, stopped: 0, cut: 0, closed: 0, refused: 0 };
  /** Milliseconds and tokens of free answers, of those in a form, of those that are closed in time. */
  const times = { free: [0, 0], bound: [0, 0], closing: [0, 0] };
  const add = (/** @type {number[]} */ time, /** @type {number} */ ms, /** @type {number} */ tokens) => ((time[0] += ms), (time[1] += tokens));
  for (let seed = 1; seed <= SCHEMAS; seed++) {
    const schema = schemaOf(seed);
    const valid = ajv.compile(schema);
    const answers = await it.page.evaluate(async ({ schema, prompts, seed }) => {
      const answers = [];
      for (const [i, content] of prompts.entries()) {
        const request = { messages: [{ role: /** @type {const} */ ("user"), content }], temperature: i < 2 ? 0 : 0.8, seed: seed * 10 + i, max_tokens: 200 };
        // The last one is closed in time.
        const response_format = { type: /** @type {const} */ ("json_schema"), json_schema: { name: "a", schema }, close_within_budget: i === prompts.length - 1 };
        const reply = await engine.chat.completions.create({ ...request, response_format }).catch((e) => ({ error: /** @type {Error} */ (e).message }));
        const { decodeMs = 0, completionTokens = 0 } = engine.stats() ?? {};
        await engine.chat.completions.create({ ...request, max_tokens: 60 });
        const free = engine.stats();
        answers.push({ reply, decodeMs, tokens: completionTokens - 1, freeMs: free?.decodeMs ?? 0, freeTokens: (free?.completionTokens ?? 1) - 1 });
      }
      return answers;
    }, { schema, prompts: PROMPTS, seed });
    for (const [i, { reply, decodeMs, tokens, freeMs, freeTokens }] of answers.entries()) {
      const closes = i === answers.length - 1;
      if ("error" in reply) {
        // Nothing but what the matcher says that it cannot do.
        assert.match(reply.error, /close_within_budget|response_format/);
        t.diagnostic(`schema ${seed}: ${reply.error}`);
        sum.refused++;
        continue;
      }
      const { message, finish_reason } = reply.choices[0];
      sum.answers++;
      add(closes ? times.closing : times.bound, decodeMs, tokens);
      add(times.free, freeMs, freeTokens);
      if (finish_reason === "length") {
        assert.ok(!closes, `schema ${seed} was not closed: ${message.content}`);
        sum.cut++;
        continue;
      }
      assert.equal(finish_reason, "stop");
      sum.stopped++;
      if (closes) sum.closed++;
      assert.ok(valid(JSON.parse(message.content ?? "")), `schema ${seed}: ${message.content}\n${ajv.errorsText(valid.errors)}\n${JSON.stringify(schema)}`);
    }
  }
  const perToken = Object.entries(times).map(([what, [ms, tokens]]) => `${what} ${(ms / tokens).toFixed(2)}`).join(", ");
  t.diagnostic(`${sum.stopped} of ${sum.answers} stopped, all valid; ${sum.cut} cut by length; ${sum.closed} closed in time; ${sum.refused} refused; ms a token: ${perToken}`);
  // A small model that may write a text of any length goes on and on.
  assert.ok(sum.closed === SCHEMAS && sum.stopped > sum.answers / 3 && sum.refused === 0, JSON.stringify(sum));
});
