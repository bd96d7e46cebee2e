// Predicted answers and a beginning that is kept beside the model, in real Chromium: the same answers, sooner.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, beforeEach, describe, test } from "node:test";
import { file } from "./lib/hub.mjs";
import { openPackage } from "./lib/package.mjs";
import { ROOT } from "./lib/server.mjs";

const TINY = readFileSync(join(ROOT, "models/kinglet-tiny.gguf"));
/** More than one chunk of a prompt. */
const SYSTEM = "You are a bird that lives in a tree. " + "It answers in short sentences and never says more than it knows. ".repeat(16);

/** Runs in the page. */
function inPage() {
  Object.assign(globalThis, {
    ask: (engine, content, more = {}) => {
      const messages = [...(more.system ? [{ role: "system", content: more.system }] : []), { role: "user", content }];
      return engine.chat.completions.create({ messages, temperature: 0, max_tokens: 60, ...more });
    },
    told: ({ choices, usage }) => ({ ids: choices[0].token_ids, reason: choices[0].finish_reason, cached: usage.prompt_tokens_details.cached_tokens, ...usage.completion_tokens_details }),
    /** An engine whose beginning is read, or found; and what it says. */
    begin: async (options) => {
      const events = [];
      let heard = () => {};
      const hear = async (type) => {
        for (;;) {
          const event = events.find((event) => type.test(event.type));
          if (event) return event;
          await new Promise((resolve) => (heard = () => resolve(undefined)));
        }
      };
      const engine = await createEngine({ model: "/tiny.gguf", backend: "cpu", ...options, onEvent: (event) => (events.push(event), heard()) });
      /** What was read is stored a little later. */
      const kept = async () => ((await hear(/^prefix-(kept|not-kept)$/)), (await kinglet.models.list())[0]);
      return { engine, ready: options.prefix && (await hear(/^prefix-/)), kept };
    },
  });
}

/** @type {Awaited<ReturnType<typeof openPackage>>} */
let it;
before(async () => void (it = await openPackage()));
after(() => it.close());
beforeEach(async () => {
  await it.open();
  it.route("/tiny.gguf", file(TINY));
  await it.page.evaluate(inPage);
});

describe("a predicted answer", () => {
  test("is the same answer, and usage says what was right of it", async () => {
    const seen = await it.page.evaluate(async () => {
      const { engine } = await begin({ cache: "none" });
      const question = "Tell me a story about a bird.";
      const plain = await ask(engine, question, { drafts: "never" });
      const content = plain.choices[0].message.content ?? "";
      const parts = [content.slice(0, 40), content.slice(40)].map((text) => ({ type: "text", text }));
      const right = await ask(engine, question, { drafts: "always", prediction: { type: "content", content: parts } });
      const drafted = engine.stats();
      const wrong = await ask(engine, question, { drafts: "always", prediction: { type: "content", content: "0123456789" } });
      const half = content.split(" ").map((word, i) => (i % 5 === 4 ? "zebra" : word)).join(" ");
      const edited = await ask(engine, question, { drafts: "always", prediction: { type: "content", content: half } });
      const given = await ask(engine, question, { prediction: { type: "content", content: "0123 4567 89" } });
      // Left in the middle of what was checked.
      const stream = await ask(engine, question, { drafts: "always", prediction: { type: "content", content }, stream: true });
      let chunks = 0;
      for await (const _ of stream) if (++chunks === 6) break;
      const after = await ask(engine, question, { stream: false });
      const raw = await engine.completions.create({ prompt: "The bird", temperature: 0, max_tokens: 12, prediction: { type: "content", content: " sat" } });
      const bad = [];
      for (const body of [{ prediction: "text" }, { prediction: { type: "content" } }, { prediction: { type: "text", content: "a" } }, { prediction: { type: "content", content: [{ type: "image" }] } }, { drafts: "sometimes" }]) {
        bad.push(await failure(ask(engine, question, body)));
      }
      return { plain: told(plain), right: told(right), drafted, wrong: told(wrong), edited: told(edited), given: told(given), after: told(after), raw: told(raw), bad };
    });
    for (const answer of [seen.right, seen.wrong, seen.edited, seen.given, seen.after]) assert.deepEqual(answer.ids, seen.plain.ids);
    assert.ok(seen.plain.ids.length > 20);
    const { accepted_prediction_tokens, rejected_prediction_tokens } = seen.right;
    assert.ok(accepted_prediction_tokens > 0.7 * seen.plain.ids.length && accepted_prediction_tokens < seen.plain.ids.length, `${accepted_prediction_tokens} of ${seen.plain.ids.length}`);
    assert.equal(seen.drafted?.predictedDraftedTokens, accepted_prediction_tokens + rejected_prediction_tokens);
    assert.ok(seen.wrong.accepted_prediction_tokens <= 1, JSON.stringify(seen.wrong));
    assert.ok(seen.edited.accepted_prediction_tokens > 0.3 * seen.plain.ids.length && seen.edited.rejected_prediction_tokens > 0, JSON.stringify(seen.edited));
    assert.deepEqual([seen.plain.accepted_prediction_tokens, seen.plain.rejected_prediction_tokens], [0, 0]);
    assert.equal(seen.raw.ids.length, 12);
    for (const { code, message } of seen.bad) {
      assert.equal(code, "BAD_REQUEST");
      assert.match(message, /prediction|drafts/);
    }
  });
});

describe("a beginning that is kept", () => {
  for (const cache of /** @type {const} */ (["opfs", "cache-api", "memory"])) {
    test(`is there on the second visit, in the store "${cache}", and goes with the model`, async () => {
      const seen = await it.page.evaluate(async ({ cache, system }) => {
        const prefix = { messages: [{ role: "system", content: system }] };
        const plain = await begin({ cache });
        const expected = told(await ask(plain.engine, "Who are you?", { system }));
        await plain.engine.dispose();
        const bytes = (await kinglet.models.list())[0]?.storedBytes ?? 0;
        const first = await begin({ cache, prefix });
        const stored = await first.kept();
        const answers = [told(await ask(first.engine, "Who are you?", { system }))];
        await first.engine.dispose();
        const second = await begin({ cache, prefix });
        answers.push(told(await ask(second.engine, "Who are you?", { system })), told(await ask(second.engine, "Hello", { system })));
        await second.engine.dispose();
        // Of several the latest are kept.
        for (let i = 0; i < 5; i++) {
          const { engine, kept } = await begin({ cache, prefix: { messages: [{ role: "system", content: `${i} ${system}` }] } });
          await kept();
          await engine.dispose();
        }
        const many = await kinglet.models.list();
        // One that is cut off while it is stored goes with the model too.
        await (await begin({ cache, prefix: { messages: [{ role: "system", content: `9 ${system}` }] } })).engine.dispose();
        const deleted = await kinglet.models.delete("/tiny.gguf");
        const files = [];
        if (cache === "opfs") for await (const handle of (await (await navigator.storage.getDirectory()).getDirectoryHandle("kinglet-models")).values()) {
          if (handle.kind === "file" && (await /** @type {FileSystemFileHandle} */ (handle).getFile()).size > 0) files.push(handle.name);
        }
        return { expected, bytes, stored, answers, ready: [first.ready, second.ready], many, deleted, left: await kinglet.models.list(), files };
      }, { cache, system: SYSTEM });
      const [first, second] = seen.ready;
      assert.deepEqual([first.type, first.stored, second.type, second.stored], ["prefix-ready", false, "prefix-ready", true]);
      assert.ok(first.tokens === second.tokens && first.tokens > 200, `${first.tokens} tokens`);
      assert.ok(seen.stored.storedBytes > seen.bytes + 1000 * first.tokens, "they are counted");
      for (const answer of seen.answers) assert.ok(answer.cached >= first.tokens, `${answer.cached} of ${first.tokens} tokens were there`);
      for (const answer of seen.answers.slice(0, 2)) assert.deepEqual(answer.ids, seen.expected.ids);
      // Five, where the engine before had not let go of the oldest yet.
      assert.ok([4, 5].includes(seen.many[0]?.prefixes ?? 0), `${seen.many[0]?.prefixes} are kept of six`);
      assert.deepEqual([seen.deleted, seen.left, seen.files], [true, [], []]);
    });
  }

  test("damaged it is read anew, and kept again", async () => {
    const seen = await it.page.evaluate(async (system) => {
      const options = { cache: "cache-api", prefix: { messages: [{ role: "system", content: system }] } };
      const first = await begin(options);
      await first.kept();
      const expected = told(await ask(first.engine, "Who are you?", { system }));
      await first.engine.dispose();
      const cache = await caches.open("kinglet-models");
      const records = (await cache.keys()).filter(({ url }) => url.endsWith("/record"));
      for (const { url } of records) {
        if (!(await (await cache.match(url))?.json()).name.includes("#prefix-")) continue;
        const piece = url.replace("record", "0");
        const bytes = new Uint8Array((await (await cache.match(piece))?.arrayBuffer()) ?? new ArrayBuffer(0));
        bytes.fill(7, bytes.length >> 1, (bytes.length >> 1) + 9);
        await cache.put(piece, new Response(bytes));
      }
      const second = await begin(options);
      const answer = told(await ask(second.engine, "Who are you?", { system }));
      // Written again, over what was there.
      await second.kept();
      await second.engine.dispose();
      const third = await begin(options);
      await third.engine.dispose();
      await kinglet.models.delete("/tiny.gguf");
      return { expected, answer, stored: [first, second, third].map(({ ready }) => ready.stored) };
    }, SYSTEM);
    assert.deepEqual(seen.stored, [false, false, true]);
    assert.deepEqual(seen.answer.ids, seen.expected.ids);
  });

  test("nobody waits for it: requests come first, and may be aborted", async () => {
    const seen = await it.page.evaluate(async (system) => {
      const events = [];
      const prefix = { messages: [{ role: /** @type {const} */ ("system"), content: system }] };
      const engine = await createEngine({ model: "/tiny.gguf", backend: "cpu", cache: "none", prefix, onEvent: (event) => events.push(event) });
      const controller = new AbortController();
      const other = engine.chat.completions.create({ messages: [{ role: "user", content: "Tell me a story." }], temperature: 0, max_tokens: 200, ignore_eos: true }, { signal: controller.signal });
      const aborted = failure(other);
      setTimeout(() => controller.abort(), 5);
      const code = (await aborted).code;
      const answer = told(await ask(engine, "Who are you?", { system }));
      for (let i = 0; i < 200 && !events.some(({ type }) => type === "prefix-ready"); i++) await new Promise((resolve) => setTimeout(resolve, 20));
      const later = told(await ask(engine, "Hello", { system }));
      await engine.dispose();
      const wrong = [];
      for (const prefix of [{}, { messages: [] }, { messages: [{ role: "bird", content: "a" }] }, "text"]) wrong.push(await failure(createEngine({ model: "/tiny.gguf", prefix: /** @type {any} */ (prefix) })));
      const long = await begin({ cache: "none", contextLength: 128, prefix });
      const plain = await ask(long.engine, "Hello");
      return { code, answer, later, events, wrong, long: long.ready, plain: told(plain) };
    }, SYSTEM);
    assert.equal(seen.code, "ABORTED");
    const ready = seen.events.find(({ type }) => type === "prefix-ready");
    assert.ok(ready && !ready.stored && seen.later.cached >= ready.tokens, JSON.stringify(seen.events));
    for (const { code, message } of seen.wrong) {
      assert.equal(code, "BAD_REQUEST");
      assert.match(message, /^prefix cannot begin a chat/);
    }
    assert.equal(seen.long.type, "prefix-not-kept");
    assert.match(seen.long.reason, /context/);
    assert.ok(seen.plain.ids.length > 0);
  });
});
