// What requests of the packed package may ask for beyond plain text, in real Chromium: infilling, thoughts.
import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import { withMetadata } from "./lib/gguf.mjs";
import { file } from "./lib/hub.mjs";
import { openPackage, STORIES } from "./lib/package.mjs";

/** stories260K, some of whose tokens are made those of infilling. */
const CODER = withMetadata(STORIES, { "tokenizer.ggml.fim_pre_token_id": 500, "tokenizer.ggml.fim_suf_token_id": 501, "tokenizer.ggml.fim_mid_token_id": 502 });
/** And with a template that begins a thought, unless it is told not to. */
const THINKER = withMetadata(STORIES, {
  "tokenizer.chat_template": "{{ messages[0].content }}{% if enable_thinking is not defined or enable_thinking %}<think>\n{% endif %}",
});

/** @type {Awaited<ReturnType<typeof openPackage>>} */
let it;
before(async () => void (it = await openPackage()));
after(() => it.close());
beforeEach(async () => {
  await it.open();
  it.route("/coder.gguf", file(CODER));
  it.route("/thinker.gguf", file(THINKER));
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
