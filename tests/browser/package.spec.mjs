// The packed package in real Chromium: answers, in OpenAI's shapes, against the golden run of stories260K.
import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import { pathToFileURL } from "node:url";
import { join } from "node:path";
import { GOLDEN, openPackage, PACKAGE } from "./lib/package.mjs";

/** @type {Awaited<ReturnType<typeof openPackage>>} */
let it;
before(async () => void (it = await openPackage()));
after(() => it.close());
beforeEach(() => it.open());

describe("answers", () => {
  for (const level of ["simd", "relaxed"]) {
    test(`200 greedy tokens of the ${level} binary are the golden ones`, async () => {
      const got = await it.page.evaluate(async (level) => {
        // Relaxed SIMD's opcodes begin at 0x100: in the probe, 0x93 0x02.
        const worker = level === "simd" ? limited("(bytes) => !bytes.includes(0x93)") : undefined;
        const engine = await createEngine({ model: url, worker, threads: 1, contextLength: 256 });
        const reply = await greedy(engine, { max_tokens: 200 });
        const heap = (await engine.memory()).heap;
        return { info: engine.info, reply, stats: engine.stats(), heap };
      }, level);
      assert.deepEqual(it.seen.filter(({ path }) => path.endsWith(".wasm")).map(({ path }) => path), [`/pkg/wasm/${level}/kinglet_bg.wasm`]);
      assert.deepEqual(got.reply.choices[0].token_ids, GOLDEN.ids);
      assert.equal(got.reply.choices[0].text.trim(), GOLDEN.text.trim());
      assert.equal(got.info.architecture, "llama");
      assert.equal(got.info.backend, "cpu");
      assert.equal(got.info.vocabulary, 512);
      assert.equal(got.info.simd, level);
      assert.equal(got.stats?.completionTokens, 200);
      assert.equal(got.stats?.promptTokens, 1);
      assert.ok(got.heap < 64 << 20, `a model of 1.2 MB takes ${got.heap} bytes`);
    });
  }

  test("a stream gives the same text as a whole answer, chunk by chunk", async () => {
    const { whole, chunks } = await it.page.evaluate(async () => {
      const engine = await createEngine({ model: url, contextLength: 640 });
      const whole = await greedy(engine);
      const stream = await engine.completions.create({ prompt: "", temperature: 0, max_tokens: 40, stream: true, stream_options: { include_usage: true } });
      return { whole, chunks: await collect(stream) };
    });
    const pieces = chunks.slice(0, -1).map((chunk) => chunk.choices[0]);
    assert.ok(pieces.length > 20, `${pieces.length} chunks`);
    assert.equal(pieces.map((piece) => piece.text).join(""), whole.choices[0].text);
    assert.deepEqual(pieces.flatMap((piece) => piece.token_ids), whole.choices[0].token_ids);
    assert.deepEqual(pieces.map((piece) => piece.finish_reason), [...Array(pieces.length - 1).fill(null), "length"]);
    assert.deepEqual(chunks.at(-1)?.choices, []);
    assert.equal(chunks.at(-1)?.usage?.completion_tokens, 40);
    const last = chunks.at(-2);
    assert.equal(last?.signals?.meanLogprob, whole.signals?.meanLogprob);
    assert.equal(new Set(chunks.map((chunk) => chunk.id)).size, 1);
    assert.ok(chunks.every((chunk) => chunk.object === "text_completion"));
  });

  test("a chat streams OpenAI's chunks, and its second turn reuses the cache", async () => {
    const { chunks, second } = await it.page.evaluate(async () => {
      const engine = await createEngine({ model: url, contextLength: 640 });
      /** @type {import("../../pkg/src/index.ts").ChatMessage[]} */
      const messages = [{ role: "user", content: "Tell me a story" }];
      const chunks = await collect(await engine.chat.completions.create({ messages, stream: true, temperature: 0, max_tokens: 24 }));
      const content = chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("");
      messages.push({ role: "assistant", content }, { role: "user", content: "And then?" });
      const second = await engine.chat.completions.create({ messages, temperature: 0, max_tokens: 8 });
      return { chunks, second };
    });
    assert.ok(chunks.every((chunk) => chunk.object === "chat.completion.chunk" && chunk.usage === undefined));
    assert.deepEqual(chunks[0].choices[0].delta, { role: "assistant", content: "" });
    assert.ok(chunks.slice(1).every((chunk) => chunk.choices[0].delta.role === undefined));
    assert.deepEqual(chunks.map((chunk) => chunk.choices[0].finish_reason).filter(Boolean).length, 1);
    assert.equal(second.object, "chat.completion");
    assert.equal(second.choices[0].message.role, "assistant");
    const { prompt_tokens, completion_tokens, total_tokens, prompt_tokens_details, timings } = second.usage;
    assert.equal(total_tokens, prompt_tokens + completion_tokens);
    assert.ok(prompt_tokens_details.cached_tokens > 10, `${prompt_tokens_details.cached_tokens} of ${prompt_tokens} tokens were reused`);
    assert.ok(timings.prompt_ms > 0 && timings.predicted_ms > 0);
  });

  test("the cache changes nothing in an answer, and can be turned off", async () => {
    const { cached, fresh } = await it.page.evaluate(async () => {
      const engine = await createEngine({ model: url, contextLength: 640 });
      const prompt = "Once upon a time, there was a little girl";
      await greedy(engine, { prompt });
      return { cached: await greedy(engine, { prompt }), fresh: await greedy(engine, { prompt, cache_prompt: false }) };
    });
    assert.ok((cached.usage?.prompt_tokens_details.cached_tokens ?? 0) > 5);
    assert.equal(fresh.usage?.prompt_tokens_details.cached_tokens, 0);
    assert.equal(cached.choices[0].text, fresh.choices[0].text);
  });

  test("a stop string across token borders ends the answer before it", async () => {
    const stop = "ball. She wan"; // begins and ends inside tokens
    assert.ok(GOLDEN.text.includes(stop));
    const { whole, streamed } = await it.page.evaluate(async (stop) => {
      const engine = await createEngine({ model: url, contextLength: 640 });
      const whole = await greedy(engine, { max_tokens: 200, stop });
      const chunks = await collect(await engine.completions.create({ prompt: "", temperature: 0, max_tokens: 200, stop: [stop], stream: true }));
      return { whole, streamed: chunks.map((chunk) => chunk.choices[0].text).join("") };
    }, stop);
    assert.equal(whole.choices[0].finish_reason, "stop");
    assert.equal(whole.choices[0].text.trimStart(), GOLDEN.text.trimStart().split(stop)[0]);
    assert.equal(streamed, whole.choices[0].text);
  });

  test("logprobs come in OpenAI's shapes, and the signals are made of them", async () => {
    const { chat, text } = await it.page.evaluate(async () => {
      const engine = await createEngine({ model: url, contextLength: 640 });
      const chat = await engine.chat.completions.create({ messages: [{ role: "user", content: "Hi" }], temperature: 0, max_tokens: 12, logprobs: true, top_logprobs: 3, ignore_eos: true });
      return { chat, text: await greedy(engine, { max_tokens: 12, logprobs: 2 }) };
    });
    const content = chat.choices[0].logprobs?.content ?? [];
    assert.equal(content.length, 12);
    for (const { token, bytes, logprob, top_logprobs } of content) {
      assert.equal(top_logprobs.length, 3);
      assert.ok(logprob <= 0 && Number.isFinite(logprob));
      assert.deepEqual(top_logprobs[0], { token, bytes, logprob }); // greedy
      assert.ok(top_logprobs[0].logprob >= top_logprobs[1].logprob && top_logprobs[1].logprob >= top_logprobs[2].logprob);
      assert.equal(new TextDecoder().decode(Uint8Array.from(bytes ?? [])), token);
    }
    const logprobs = content.map(({ logprob }) => logprob);
    assert.ok(Math.abs((chat.signals.meanLogprob ?? 0) - logprobs.reduce((a, b) => a + b) / 12) < 1e-12);
    assert.equal(chat.signals.minLogprob, Math.min(...logprobs));
    assert.ok(Math.abs((chat.signals.logLength ?? 0) - Math.log(12)) < 1e-12);
    const { minLogprob, q05, q10, q20, q50, firstTokenEntropy } = /** @type {Required<typeof chat.signals>} */ (chat.signals);
    const rising = [minLogprob, q05, q10, q20, q50, 0];
    assert.deepEqual(rising, rising.toSorted((a, b) => a - b));
    assert.ok(firstTokenEntropy >= 0 && firstTokenEntropy <= Math.log(20));

    const legacy = text.choices[0].logprobs;
    assert.equal(legacy?.tokens.join("").trim(), text.choices[0].text.trim());
    assert.equal(legacy?.token_logprobs.length, 12);
    assert.ok(legacy?.top_logprobs.every((top) => Object.keys(top).length <= 2));
    assert.deepEqual(legacy?.text_offset.slice(0, 2), [0, legacy?.tokens[0].length]);
  });

  test("the same seed gives the same text, and a logit bias steers", async () => {
    const got = await it.page.evaluate(async () => {
      const engine = await createEngine({ model: url, contextLength: 640 });
      const sample = async (seed) => (await greedy(engine, { temperature: 1, seed })).choices[0].text;
      const first = (await greedy(engine, { max_tokens: 1 })).choices[0].token_ids[0];
      const steered = await greedy(engine, { max_tokens: 1, logit_bias: { [first]: -100 } });
      return { a: await sample(7), b: await sample(7), c: await sample(8), first, steered: steered.choices[0].token_ids[0] };
    });
    assert.equal(got.a, got.b);
    assert.notEqual(got.a, got.c);
    assert.notEqual(got.first, got.steered);
  });

  test("tokenize and detokenize are each other's inverse", async () => {
    const { ids, text, wrong } = await it.page.evaluate(async () => {
      const engine = await createEngine({ model: url, contextLength: 640 });
      const ids = await engine.tokenize("Lily saw a big ☃ ball.");
      return { ids, text: await engine.detokenize(ids), wrong: await failure(engine.detokenize([512])) };
    });
    assert.ok(ids.length > 5 && ids.every((id) => id < 512));
    assert.equal(text.trim(), "Lily saw a big ☃ ball.");
    assert.equal(wrong.code, "BAD_REQUEST");
  });
});

describe("limits", () => {
  test("wrong options are refused by name, unknown ones reported", async () => {
    const { wrong, events, reply } = await it.page.evaluate(async () => {
      const events = [];
      const engine = await createEngine({ model: url, backend: "cpu", onEvent: (event) => events.push(event) });
      const bad = [
        { temperature: -1 }, { top_p: 2 }, { top_k: 0.5 }, { max_tokens: 0 }, { stop: [""] }, { seed: "x" }, { logit_bias: { a: 1 } }, { n: 0 }, { n: 129 }, { tools: [{}] },
        { response_format: { type: "yaml" } }, { top_logprobs: 3 }, { messages: [] }, { messages: [{ role: "robot", content: "" }] }, { stream: "yes" },
        { messages: [{ role: "user", content: [{ type: "image_url", image_url: { url: "data:," } }] }] },
      ];
      const wrong = [];
      for (const options of bad) {
        const request = /** @type {any} */ ({ messages: [{ role: "user", content: "x" }], max_tokens: 1, ...options });
        wrong.push({ option: Object.keys(options)[0], ...(await failure(engine.chat.completions.create(request))) });
      }
      const reply = await engine.chat.completions.create({ messages: [{ role: "user", content: [{ type: "text", text: "x" }] }], max_tokens: 1, model: "any", user: "me", max_token: 5 });
      return { wrong, events, reply };
    });
    for (const { option, code, message, name, isKinglet } of wrong) {
      assert.equal(code, "BAD_REQUEST", option);
      assert.ok(message.includes(option), `${option}: ${message}`);
      assert.ok(isKinglet && name === "KingletError");
    }
    assert.equal(reply.choices.length, 1);
    assert.deepEqual(events, [{ type: "option-ignored", option: "max_token" }]);
  });

  test("a prompt beyond the context is refused with the counts, an answer that fills it ends with length", async () => {
    const { refused, full } = await it.page.evaluate(async () => {
      const engine = await createEngine({ model: url, contextLength: 32 });
      return { refused: await failure(greedy(engine, { prompt: "once upon a time ".repeat(20) })), full: await greedy(engine, { max_tokens: 100, ignore_eos: true }) };
    });
    assert.equal(refused.code, "CONTEXT_EXCEEDED");
    assert.equal(refused.details.contextLength, 32);
    assert.ok(refused.details.promptTokens > 32 && refused.message.includes(String(refused.details.promptTokens)));
    assert.equal(full.choices[0].finish_reason, "length");
    assert.ok((full.usage?.total_tokens ?? 0) <= 33);
  });

  test("without WebAssembly SIMD: NO_SIMD", async () => {
    const error = await it.page.evaluate(() => failure(createEngine({ model: url, worker: limited("() => false") })));
    assert.equal(error.code, "NO_SIMD");
    assert.match(error.message, /SIMD.*use Chrome/);
  });

  test("importing the package touches nothing of the browser", async () => {
    const module = await import(pathToFileURL(join(PACKAGE, "dist/index.js")).href);
    assert.equal(typeof module.createEngine, "function");
  });
});
