// What requests of the packed package may ask for beyond one plain text, in real Chromium: infilling, thoughts, several choices.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, beforeEach, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { withMetadata, withTemplate } from "./lib/gguf.mjs";
import { file } from "./lib/hub.mjs";
import { openPackage, STORIES } from "./lib/package.mjs";
import { ROOT } from "./lib/server.mjs";

/** stories260K, some of whose tokens are made those of infilling. */
const CODER = withMetadata(STORIES, { "tokenizer.ggml.fim_pre_token_id": 500, "tokenizer.ggml.fim_suf_token_id": 501, "tokenizer.ggml.fim_mid_token_id": 502 });
/** And with a template that begins a thought, unless it is told not to. */
const THINKER = withMetadata(STORIES, {
  "tokenizer.chat_template": "{{ messages[0].content }}{% if enable_thinking is not defined or enable_thinking %}<think>\n{% endif %}",
});

const KINGLET = readFileSync(join(ROOT, "models/kinglet-tiny.gguf"));
const RAISING = withTemplate(KINGLET, "{{ raise_exception('this is written in the file') }}");

/** @type {Awaited<ReturnType<typeof openPackage>>} */
let it;
before(async () => void (it = await openPackage()));
after(() => it.close());
beforeEach(async () => {
  await it.open();
  it.route("/coder.gguf", file(CODER));
  it.route("/thinker.gguf", file(THINKER));
  it.route("/kinglet.gguf", file(KINGLET));
});

describe("infilling", () => {
  test("suffix puts both texts around the model's tokens", async () => {
    const { plain, filled, length } = await it.page.evaluate(async () => {
      const engine = await createEngine({ model: "/coder.gguf" });
      const ask = async (/** @type {object} */ options) => (await greedy(engine, { max_tokens: 8, ...options })).usage?.prompt_tokens ?? 0;
      const length = async (/** @type {string} */ text) => (await engine.tokenize(text)).length;
      return {
        plain: await ask({ prompt: "Once upon" }),
        filled: await ask({ prompt: "Once upon", suffix: " time" }),
        length: { prompt: await length("Once upon"), suffix: await length(" time") },
      };
    });
    // BOS, and three tokens more.
    assert.equal(plain, length.prompt + 1);
    assert.equal(filled, length.prompt + length.suffix + 4);
  });

  test("a model without such tokens says so", async () => {
    const error = await it.page.evaluate(async () => {
      const engine = await createEngine({ model: url });
      return failure(greedy(engine, { prompt: "a", suffix: "b" }));
    });
    assert.equal(error.code, "BAD_REQUEST");
    assert.match(String(error.message), /fill|infill|middle/i);
  });
});

describe("chat templates", () => {
  /** How many tokens a template makes of it. */
  const read = (/** @type {string} */ model, /** @type {string | undefined} */ chatTemplate) => it.page.evaluate(async ([model, chatTemplate]) => {
    const engine = await createEngine({ model, chatTemplate, cache: "none" });
    const { usage } = await engine.chat.completions.create({ messages: [{ role: "user", content: "Once upon" }], max_tokens: 1 });
    await engine.dispose();
    return usage?.prompt_tokens ?? 0;
  }, [model, chatTemplate]);
  const refused = (/** @type {string} */ model, /** @type {unknown} */ chatTemplate) => it.page.evaluate(([model, chatTemplate]) => failure((async () => {
    const engine = await createEngine({ model, chatTemplate, cache: "none" });
    return engine.chat.completions.create({ messages: [{ role: "user", content: "Once upon" }], max_tokens: 1 });
  })()), /** @type {[string, any]} */ ([model, chatTemplate]));

  test("an app may give its own, or take the package's for the family instead of the file's", async () => {
    it.route("/raising.gguf", file(RAISING));
    const error = await refused("/raising.gguf", "file");
    assert.equal(error.code, "BAD_TEMPLATE");
    assert.match(String(error.message), /written in the file/);
    const bare = await read("/raising.gguf", "{{ messages[0].content }}");
    const chatml = await read("/raising.gguf", "chatml");
    assert.ok(bare > 0 && chatml > bare + 4, `${bare}, ${chatml}`);
    // Of the embedded model, which the file is but for the template, by its tokens.
    assert.equal(await read("/raising.gguf", "family"), await read("/kinglet.gguf", undefined));
  });

  test("where there is none it says so, with the names of those that there are", async () => {
    const none = await refused("/thinker.gguf", "family");
    assert.equal(none.code, "BAD_TEMPLATE");
    assert.match(String(none.message), /none that comes with Kinglet is for this model \(architecture llama\).*smollm2.*gemma-3.*"file"/);
    const unknown = await refused("/thinker.gguf", "gemma");
    assert.match(String(unknown.message), /"gemma" is neither a family nor a template/);
    const broken = await refused("/thinker.gguf", "{% for %}");
    assert.equal(broken.code, "BAD_TEMPLATE");
    const number = await refused("/thinker.gguf", 3);
    assert.equal(number.code, "BAD_REQUEST");
    assert.match(String(number.message), /chatTemplate/);
  });
});

describe("an answer that is begun", () => {
  const begun = [{ role: /** @type {const} */ ("user"), content: "Tell me a story about a bird." }, { role: /** @type {const} */ ("assistant"), content: "Once upon a time, there was a " }];

  test("goes on where it ends, whole and streamed, as the raw text would", async () => {
    const { whole, streamed, raw, ids } = await it.page.evaluate(async (messages) => {
      const engine = await createEngine({ model: "/kinglet.gguf" });
      const options = { temperature: 0, max_tokens: 20 };
      const whole = (await engine.chat.completions.create({ messages, continue_final_message: true, ...options })).choices[0];
      let streamed = "";
      for await (const { choices } of await engine.chat.completions.create({ messages, continue_final_message: true, stream: true, ...options })) streamed += choices[0]?.delta.content ?? "";
      const prompt = `<|im_start|>user\n${messages[0].content}<|im_end|>\n<|im_start|>assistant\n${messages[1].content}`;
      const raw = (await engine.completions.create({ prompt, ...options })).choices[0];
      return { whole: whole.message.content, ids: whole.token_ids, streamed, raw };
    }, begun);
    assert.ok(whole && whole.length > 10 && !whole.startsWith("Once"), `${whole}`);
    assert.equal(streamed, whole);
    assert.deepEqual(ids, raw.token_ids);
    assert.equal(whole, raw.text);
  });

  test("has to be there", async () => {
    const errors = await it.page.evaluate(async (messages) => {
      const engine = await createEngine({ model: "/kinglet.gguf" });
      const ask = (/** @type {object} */ request) => failure(engine.chat.completions.create({ messages, max_tokens: 1, ...request }));
      return [await ask({ continue_final_message: true, messages: messages.slice(0, 1) }), await ask({ continue_final_message: "yes" })];
    }, begun);
    for (const { code, message } of errors) assert.ok(code === "BAD_REQUEST" && /continue_final_message/.test(String(message)), `${message}`);
  });
});

describe("thoughts", () => {
  const messages = [{ role: /** @type {const} */ ("user"), content: "Once upon a time" }];

  test("what a model thinks is told apart, whole and streamed, or left out", async () => {
    const { whole, chunks, silent } = await it.page.evaluate(async (messages) => {
      const engine = await createEngine({ model: "/thinker.gguf" });
      const request = { messages, temperature: 0, max_tokens: 24 };
      const whole = (await engine.chat.completions.create(request)).choices[0].message;
      const chunks = (await collect(await engine.chat.completions.create({ ...request, stream: true }))).map((chunk) => chunk.choices[0]?.delta);
      const silent = (await engine.chat.completions.create({ ...request, reasoning_effort: "none" })).choices[0].message;
      return { whole, chunks, silent };
    }, messages);
    assert.equal(whole.content, "");
    assert.ok(whole.reasoning_content && whole.reasoning_content.length > 20, JSON.stringify(whole));
    const streamed = (/** @type {"content" | "reasoning_content"} */ key) => chunks.map((delta) => delta?.[key] ?? "").join("");
    assert.equal(streamed("reasoning_content"), whole.reasoning_content);
    assert.equal(streamed("content"), "");
    assert.ok(silent.content && silent.content.length > 20 && silent.reasoning_content === undefined, JSON.stringify(silent));
  });
});

describe("several choices", () => {
  const request = { messages: [{ role: /** @type {const} */ ("user"), content: "Tell me a story." }], temperature: 1, seed: 7, max_tokens: 12 };

  test("are what as many requests with seeds in a row would give; the prompt is read once", async () => {
    const { several, single, stats } = await it.page.evaluate(async (request) => {
      const engine = await createEngine({ backend: "cpu" });
      const several = await engine.chat.completions.create({ ...request, n: 3 });
      const stats = engine.stats();
      const single = [];
      for (const i of [0, 1, 2]) single.push(await engine.chat.completions.create({ ...request, seed: request.seed + i }));
      return { several, single, stats };
    }, request);
    assert.deepEqual(several.choices.map(({ index }) => index), [0, 1, 2]);
    assert.deepEqual(several.choices.map(({ message }) => message), single.map(({ choices }) => choices[0].message));
    assert.deepEqual(several.choices.map(({ signals }) => signals), single.map(({ signals }) => signals));
    assert.deepEqual(several.signals, several.choices[0].signals);
    assert.equal(new Set(several.choices.map(({ message }) => message.content)).size, 3);
    assert.equal(several.usage.prompt_tokens, single[0].usage.prompt_tokens);
    assert.equal(several.usage.completion_tokens, single.reduce((sum, { usage }) => sum + usage.completion_tokens, 0));
    assert.equal(stats?.cachedTokens, several.usage.prompt_tokens - 1);
  });

  test("stream one after the other, each with its beginning, its end, and the usage of all", async () => {
    const { chunks, whole } = await it.page.evaluate(async (request) => {
      const engine = await createEngine({ backend: "cpu" });
      const wanted = { ...request, n: 2, logprobs: true };
      const chunks = await collect(await engine.chat.completions.create({ ...wanted, stream: true, stream_options: { include_usage: true } }));
      return { chunks, whole: await engine.chat.completions.create(wanted) };
    }, request);
    const pieces = chunks.flatMap(({ choices }) => choices);
    for (const [i, choice] of whole.choices.entries()) {
      const own = pieces.filter(({ index }) => index === i);
      assert.equal(own[0].delta.role, "assistant");
      assert.equal(own.map(({ delta }) => delta.content ?? "").join(""), choice.message.content);
      assert.deepEqual(own.flatMap(({ logprobs }) => logprobs?.content ?? []), choice.logprobs?.content);
      assert.deepEqual(own.map(({ finish_reason }) => finish_reason).filter(Boolean), [choice.finish_reason]);
    }
    const usage = chunks.at(-1)?.usage;
    assert.deepEqual([usage?.prompt_tokens, usage?.completion_tokens], [whole.usage.prompt_tokens, whole.usage.completion_tokens]);
    assert.equal(new Set(chunks.map(({ id }) => id)).size, 1);
  });

  test("go for completions and forms too", async () => {
    const { texts, objects } = await it.page.evaluate(async (request) => {
      const engine = await createEngine({ backend: "cpu" });
      const raw = await engine.completions.create({ prompt: "Once upon a time", n: 2, seed: 1, temperature: 1, max_tokens: 6, logprobs: true });
      const form = { type: /** @type {const} */ ("json_schema"), json_schema: { name: "a", schema: { type: "object", properties: { a: { enum: [1, 2, 3] } }, required: ["a"] } }, close_within_budget: true };
      const formed = await engine.chat.completions.create({ ...request, n: 2, max_tokens: 40, response_format: form });
      return { texts: raw.choices.map(({ index, text, logprobs }) => [index, text.length > 0, logprobs?.tokens.length]), objects: formed.choices.map(({ message }) => JSON.parse(message.content ?? "")) };
    }, request);
    assert.deepEqual(texts, [[0, true, 6], [1, true, 6]]);
    for (const { a } of objects) assert.ok([1, 2, 3].includes(a));
  });

  test("an abort in the second one ends all, and loses nothing", async () => {
    for (const stream of [true, false]) {
      const { error, first, next } = await it.page.evaluate(async ({ request, stream }) => {
        const engine = await createEngine({ backend: "cpu" });
        const long = { ...request, max_tokens: 200, ignore_eos: true };
        const first = (await engine.chat.completions.create(long)).choices[0].message.content;
        const controller = new AbortController();
        const { signal } = controller;
        const run = async () => {
          if (!stream) {
            const whole = engine.chat.completions.create({ ...long, n: 3 }, { signal });
            // The counts of the last run change when the first choice has ended.
            const before = JSON.stringify(engine.stats());
            while (JSON.stringify(engine.stats()) === before) await new Promise((resolve) => setTimeout(resolve, 2));
            setTimeout(() => controller.abort(), (engine.stats()?.decodeMs ?? 0) / 4);
            return whole;
          }
          let pieces = 0;
          for await (const { choices } of await engine.chat.completions.create({ ...long, n: 3, stream: true }, { signal })) {
            if (choices[0]?.index === 1 && ++pieces === 5) controller.abort();
          }
        };
        const error = await failure(run());
        const next = await engine.chat.completions.create({ ...request, max_tokens: 1 });
        return { error, first, next: next.usage.completion_tokens };
      }, { request, stream });
      assert.equal(error.code, "ABORTED");
      const { choices } = /** @type {{ choices: string[] }} */ (error.details);
      assert.equal(choices.length, 3);
      assert.equal(choices[0], first);
      assert.equal(choices[2], "");
      assert.ok(choices[1].length > 0 && choices[1] === error.text, JSON.stringify(choices));
      assert.equal(next, 1);
    }
  });

  test("come next to each other, and each calls with ids of its own; a crash in a later one loses nothing", async () => {
    const { order, called, crash } = await it.page.evaluate(async (request) => {
      const spied = spy();
      const engine = await createEngine({ backend: "cpu", contextLength: 1024, worker: spied.start });
      const order = /** @type {string[]} */ ([]);
      const ask = async (/** @type {string} */ name, /** @type {number} */ n) => {
        for await (const { choices: [choice] } of await engine.chat.completions.create({ ...request, n, stream: true })) if (choice.finish_reason) order.push(name);
      };
      await Promise.all([ask("a", 3), ask("b", 2), ask("c", 1)]);
      const tools = [{ type: /** @type {const} */ ("function"), function: { name: "look", parameters: { type: "object", properties: { at: { enum: ["bird", "tree"] } }, required: ["at"], additionalProperties: false } } }];
      const called = (await engine.chat.completions.create({ ...request, tools, tool_choice: "required", parallel_tool_calls: false, n: 2, max_tokens: 200 })).choices;
      const crash = await failure((async () => {
        let told = false;
        for await (const { choices: [{ index }] } of await engine.chat.completions.create({ ...request, max_tokens: 60, n: 4, ignore_eos: true, stream: true })) {
          if (index === 1 && !told) spied.trap();
          told ||= index === 1;
        }
      })());
      return { order, called, crash };
    }, request);
    assert.deepEqual(order, ["a", "a", "a", "b", "b", "c"]);
    const calls = called.map(({ message, finish_reason }) => [finish_reason, message.tool_calls?.[0].function.name]);
    assert.deepEqual(calls, [["tool_calls", "look"], ["tool_calls", "look"]]);
    assert.notEqual(called[0].message.tool_calls?.[0].id, called[1].message.tool_calls?.[0].id);
    assert.equal(crash.code, "ENGINE_CRASHED");
    assert.ok(crash.details.choices[0].length > 60, JSON.stringify(crash));
    assert.equal(crash.details.choices[1], crash.text);
  });
});

test("each of OpenAI's parameters is in docs/requests.md, and what it says of it is so", async () => {
  const types = readFileSync(fileURLToPath(new URL("./resources/chat/completions/completions.d.ts", import.meta.resolve("openai"))), "utf8");
  const [body] = /** @type {RegExpExecArray} */ (/export interface ChatCompletionCreateParamsBase \{.*?^\}/ms.exec(types));
  const names = [...body.matchAll(/^    (\w+)\??:/gm)].map(([, name]) => name);
  assert.ok(names.length > 30, `${names}`);
  const page = readFileSync(join(ROOT, "pkg/docs/requests.md"), "utf8");
  const quoted = (/** @type {string} */ text) => [...text.matchAll(/`(\w+)`/g)].map(([, name]) => name);
  const fate = (/** @type {string} */ text) => (text.startsWith("`BAD_REQUEST`") ? "refused" : "taken");
  const rows = new Map([...page.matchAll(/^\| (`\w+`.*?) \| (.*) \|$/gm)].flatMap(([, cell, text]) => quoted(cell).map((name) => [name, fate(text)])));
  for (const name of quoted(/of OpenAI's chat completions (.*?)\. /.exec(page)?.[1] ?? "")) rows.set(name, "reported");
  assert.deepEqual(names.filter((name) => !rows.has(name)), []);
  const sample = {
    messages: [{ role: "user", content: "Hi" }], model: "x", n: 1, max_tokens: 2, max_completion_tokens: 2, temperature: 0, top_p: 0.9, seed: 1, stop: "x", presence_penalty: 0.1, frequency_penalty: 0.1,
    logit_bias: {}, logprobs: true, top_logprobs: 1, response_format: { type: "text" }, tools: [], tool_choice: "auto", parallel_tool_calls: true, reasoning_effort: "low", stream: false, stream_options: {},
    user: "me", safety_identifier: "me", metadata: { a: "b" }, store: true, service_tier: "flex", prompt_cache_key: "x", prompt_cache_options: { mode: "explicit" }, prompt_cache_retention: "24h",
    prediction: { type: "content", content: "x" }, verbosity: "low", moderation: { model: "x" }, audio: { voice: "ash", format: "wav" }, modalities: ["audio"], web_search_options: {},
    functions: [{ name: "a" }], function_call: { name: "a" },
  };
  const fates = await it.page.evaluate(async (sample) => {
    const events = /** @type {any[]} */ ([]);
    const engine = await createEngine({ contextLength: 256, onEvent: (event) => events.push(event) });
    const fates = [];
    for (const [name, value] of Object.entries(sample)) {
      events.length = 0;
      const more = name === "top_logprobs" ? { logprobs: true } : {};
      const error = await failure(engine.chat.completions.create(/** @type {any} */ ({ messages: sample.messages, max_tokens: 1, ...more, [name]: value })));
      const reported = events.some(({ type, option }) => type === "option-ignored" && option === name);
      fates.push([name, error.code === "BAD_REQUEST" && error.details.option === name ? "refused" : error.code !== "nothing failed" ? error.message : reported ? "reported" : "taken"]);
    }
    return fates;
  }, sample);
  assert.equal(fates.length, names.length);
  for (const [name, fate] of fates) assert.equal(fate, rows.get(name), name);
});
