// The packed package's engines in real Chromium: queue, abort, several engines, memory, crashes.
import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import { GOLDEN, openPackage } from "./lib/package.mjs";

/** Chromium reserves more than that for a wasm heap to grow into: one that is not given back shows in the renderer's address space. */
const GIGABYTES_PER_HEAP = 1;

/** @type {Awaited<ReturnType<typeof openPackage>>} */
let it;
before(async () => void (it = await openPackage()));
after(() => it.close());
beforeEach(() => it.open());

describe("queue", () => {
  test("requests are answered in order, and a queued one can be aborted", async () => {
    const { order, queued, third } = await it.page.evaluate(async () => {
      const engine = await createEngine({ model: url, contextLength: 640 });
      const order = [];
      const controller = new AbortController();
      const first = greedy(engine, { max_tokens: 300, ignore_eos: true }).then(() => order.push("first"));
      const second = failure(engine.completions.create({ prompt: "x" }, { signal: controller.signal })).finally(() => order.push("second"));
      const third = greedy(engine).then((reply) => (order.push("third"), reply));
      controller.abort();
      const queued = await second;
      await first;
      return { order, queued, third: await third };
    });
    assert.deepEqual(order, ["second", "first", "third"]);
    assert.equal(queued.code, "ABORTED");
    assert.deepEqual(third.choices[0].token_ids, GOLDEN.ids.slice(0, 40));
  });

  test("an abort stops a stream with the text so far, and the next request is answered", async () => {
    const { error, text, next, before } = await it.page.evaluate(async () => {
      const engine = await createEngine({ model: url, contextLength: 640 });
      const controller = new AbortController();
      const before = await failure(engine.completions.create({ prompt: "" }, { signal: AbortSignal.abort() }));
      const stream = await engine.completions.create({ prompt: "", temperature: 0, max_tokens: 400, ignore_eos: true, stream: true }, { signal: controller.signal });
      let text = "";
      let after = 0;
      const error = await failure((async () => {
        for await (const chunk of stream) {
          if (controller.signal.aborted) after++;
          text += chunk.choices[0].text;
          if (text.length > 20) controller.abort();
        }
      })());
      return { error, text, next: await greedy(engine), before, after };
    });
    assert.equal(before.code, "ABORTED");
    assert.equal(error.code, "ABORTED");
    assert.ok(error.text?.startsWith(text) && text.length < 500, `${error.text}`);
    assert.deepEqual(next.choices[0].token_ids, GOLDEN.ids.slice(0, 40));
  });

  test("leaving the loop ends the generation", async () => {
    const { stats, next } = await it.page.evaluate(async () => {
      const engine = await createEngine({ model: url, contextLength: 640 });
      const stream = await engine.completions.create({ prompt: "", temperature: 0, max_tokens: 500, ignore_eos: true, stream: true });
      for await (const _ of stream) break;
      const next = await greedy(engine, { max_tokens: 1 });
      return { stats: engine.stats(), next };
    });
    assert.equal(stats?.completionTokens, 1);
    assert.equal(next.usage?.completion_tokens, 1);
  });

  test("tokenize is answered between the tokens of a running request", async () => {
    const { ids, running } = await it.page.evaluate(async () => {
      const engine = await createEngine({ model: url, contextLength: 640 });
      let running = true;
      const long = greedy(engine, { max_tokens: 500, ignore_eos: true }).then(() => (running = false));
      const ids = await engine.tokenize("Lily");
      const seen = running;
      await long;
      return { ids, running: seen };
    });
    assert.ok(ids.length > 0);
    assert.ok(running);
  });
});

describe("engines", () => {
  test("two engines work at the same time, independent of each other", async () => {
    const texts = await it.page.evaluate(async () => {
      const [a, b] = await Promise.all([createEngine({ model: url, contextLength: 640 }), createEngine({ model: url, contextLength: 128 })]);
      const [x, y] = await Promise.all([greedy(a, { max_tokens: 100 }), greedy(b, { prompt: "Lily", max_tokens: 50 })]);
      await a.dispose();
      const z = await greedy(b, { prompt: "Lily", max_tokens: 50 });
      return { lengths: [a.info.contextLength, b.info.contextLength], ids: x.choices[0].token_ids, same: y.choices[0].text === z.choices[0].text };
    });
    assert.deepEqual(texts.ids, GOLDEN.ids.slice(0, 100));
    assert.equal(texts.lengths[1], 128);
    assert.ok(texts.same);
  });

  test("dispose rejects what is pending and ends the worker", async () => {
    const { running, queued, later, call, before } = await it.page.evaluate(async () => {
      const engine = await createEngine({ model: url, contextLength: 640 });
      const pending = [failure(greedy(engine, { max_tokens: 500, ignore_eos: true })), failure(greedy(engine))];
      const before = await engine.tokenize("x");
      await engine.dispose();
      await engine.dispose();
      const [running, queued] = await Promise.all(pending);
      return { running, queued, before, later: await failure(greedy(engine)), call: await failure(engine.tokenize("x")) };
    });
    assert.ok(before.length > 0);
    for (const error of [running, queued, later, call]) assert.equal(error.code, "DISPOSED");
    await it.workersLeft();
  });

  test("memory is given back", { skip: process.platform !== "linux" && "reads /proc" }, async () => {
    const before = await it.addressSpace();
    await it.page.evaluate(async () => {
      const engines = await Promise.all(Array.from({ length: 4 }, () => createEngine({ model: url })));
      for (const engine of engines) await greedy(engine);
      Object.assign(globalThis, { engines });
    });
    const alive = await it.addressSpace();
    assert.ok(alive - before > 4 * GIGABYTES_PER_HEAP, `four engines reserve ${alive - before} GB`);
    await it.page.evaluate(() => Promise.all(/** @type {any} */ (globalThis).engines.map((engine) => engine.dispose())));
    await it.workersLeft();
    let left = Infinity;
    for (let i = 0; i < 100 && left > GIGABYTES_PER_HEAP; i++) {
      await new Promise((resolve) => setTimeout(resolve, 100));
      left = (await it.addressSpace()) - before;
    }
    assert.ok(left < GIGABYTES_PER_HEAP, `${left} GB are still reserved`);
  });
});

describe("crashes", () => {
  for (const kind of ["URL", "Blob", "ArrayBuffer"]) {
    test(`a trap rejects what is pending with the text so far; a fresh worker loads the ${kind} again`, async () => {
      const got = await it.page.evaluate(async (kind) => {
        const events = [];
        const spied = spy();
        const buffer = await bytes();
        const model = { URL: url, Blob: new Blob([buffer]), ArrayBuffer: buffer }[kind];
        const engine = await createEngine({ model, backend: "cpu", contextLength: 640, worker: spied.start, onEvent: (event) => events.push(event.type) });
        const stream = await engine.completions.create({ prompt: "", temperature: 0, max_tokens: 500, ignore_eos: true, stream: true });
        const queued = failure(greedy(engine));
        let text = "";
        const crash = await failure((async () => {
          for await (const chunk of stream) {
            text += chunk.choices[0].text;
            if (text.length > 20) spied.trap();
          }
        })());
        const next = await greedy(engine, { max_tokens: 200 });
        return { crash, text, queued: await queued, next, events, workers: spied.started };
      }, kind);
      assert.equal(got.crash.code, "ENGINE_CRASHED");
      assert.match(got.crash.message, /unreachable/);
      assert.equal(got.crash.text, got.text);
      assert.ok(got.text.length > 20 && got.text.length < 1000);
      assert.equal(got.queued.code, "ENGINE_CRASHED");
      assert.equal(got.queued.text, "");
      assert.deepEqual(got.next.choices[0].token_ids, GOLDEN.ids);
      assert.deepEqual(got.events, ["engine-crashed", "engine-restarted"]);
      assert.equal(got.workers, 2);
      await it.workersLeft(1);
    });
  }

  test("after a crash, a stream cannot be read again and says so", async () => {
    const { crash, next } = await it.page.evaluate(async () => {
      const spied = spy();
      const engine = await createEngine({ model: new Blob([await bytes()]).stream(), backend: "cpu", contextLength: 640, worker: spied.start });
      const pending = failure(engine.tokenize("x"));
      await pending;
      const crash = failure(greedy(engine, { max_tokens: 500, ignore_eos: true }));
      spied.trap();
      return { crash: await crash, next: await failure(greedy(engine)) };
    });
    assert.equal(crash.code, "ENGINE_CRASHED");
    assert.equal(next.code, "ENGINE_CRASHED");
    assert.match(next.message, /stream.*create a new engine/);
  });
});

describe("memory", () => {
  test("a context too large for the heap is refused at load with advice, and the next engine works", async () => {
    const { error, next } = await it.page.evaluate(async () => {
      const error = await failure(createEngine({ model: url, backend: "cpu", contextLength: 10_000_000 }));
      return { error, next: await greedy(await createEngine({ model: url, backend: "cpu" })) };
    });
    assert.equal(error.code, "OUT_OF_MEMORY");
    assert.match(error.message, /contextLength of at most \d+/);
    assert.ok(error.details.needBytes > error.details.availableBytes);
    assert.deepEqual(next.choices[0].token_ids, GOLDEN.ids.slice(0, 40));
  });

  // The heap is made to have so much room left: it really cannot grow beyond.
  for (const [when, room] of /** @type {const} */ ([["at the first bytes of the model", 64 << 10], ["while the model is loaded", 1 << 20], ["in the middle of a request", 4 << 20]])) {
    test(`a heap that is full ${when} ends the request with a clear error, and the next one is answered`, async () => {
      const got = await it.page.evaluate(async ({ room }) => {
        let full = true;
        const spied = spy();
        const fill = patched(`
          const { instantiate } = WebAssembly;
          WebAssembly.instantiate = async (...args) => {
            const result = await instantiate(...args);
            const { memory } = (result.instance ?? result).exports;
            memory.grow((2 ** 32 - memory.buffer.byteLength - ${room}) / 65536);
            return result;
          };`);
        const worker = () => (full ? fill() : spied.start());
        const options = { model: url, backend: /** @type {const} */ ("cpu"), contextLength: 100_000, worker };
        const loading = createEngine(options);
        const failed = await failure(loading);
        const prompt = "Once upon a time there was a girl. ".repeat(400);
        if (failed.code !== "nothing failed") {
          full = false;
          return { error: failed, next: await greedy(await createEngine(options)) };
        }
        const engine = await loading;
        const error = await failure(greedy(engine, { prompt, max_tokens: 4 }));
        full = false;
        return { error, next: await greedy(engine) };
      }, { room });
      assert.ok(["OUT_OF_MEMORY", "ENGINE_CRASHED"].includes(got.error.code), got.error.message);
      assert.match(got.error.message, /memory/);
      assert.deepEqual(got.next.choices[0].token_ids, GOLDEN.ids.slice(0, 40));
    });
  }
});
