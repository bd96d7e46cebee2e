// LoRA adapters in real Chromium: loaded, switched between requests, unloaded; after a crash they are there again; and the page
// of examples/finetune.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, beforeEach, describe, test } from "node:test";
import { launch, SWIFTSHADER } from "./lib/browser.mjs";
import { openGpu } from "./lib/gpu.mjs";
import { openPackage, PACKAGE } from "./lib/package.mjs";
import { ROOT, serve } from "./lib/server.mjs";

const FIXTURES = join(ROOT, "tests/fixtures");
/** What the page can fetch. */
const FILES = {
  "/base.gguf": "golden/f32.gguf",
  "/all.gguf": "lora/f32/all.gguf",
  "/some.safetensors": "lora/f32/some/adapter_model.safetensors",
  "/some.json": "lora/f32/some/adapter_config.json",
  "/other.gguf": "lora/q4_0/all.gguf",
};

/** @param {Awaited<ReturnType<typeof openPackage>>} it */
function serveFiles(it) {
  for (const [path, file] of Object.entries(FILES)) {
    const bytes = readFileSync(join(FIXTURES, file));
    it.route(path, (_, response) => response.setHeader("Content-Length", bytes.length).end(bytes));
  }
}

/** Runs in the page. */
function inPage() {
  Object.assign(globalThis, {
    ids: async (engine, adapters) => (await greedy(engine, { prompt: "the day", max_tokens: 12, ignore_eos: true, adapters })).choices[0].token_ids,
  });
}

describe("adapters", () => {
  /** @type {Awaited<ReturnType<typeof openPackage>>} */
  let it;
  before(async () => serveFiles((it = await openPackage())));
  after(() => it.close());
  beforeEach(async () => {
    await it.open();
    await it.page.evaluate(inPage);
  });

  test("requests switch between them, in both forms, and what is unloaded is gone", async () => {
    const seen = await it.page.evaluate(async () => {
      const engine = await createEngine({ model: "/base.gguf", backend: "cpu" });
      const base = await ids(engine);
      const all = await engine.loadAdapter("/all.gguf");
      const config = await (await fetch("/some.json")).json();
      const weights = await (await fetch("/some.safetensors")).blob();
      const some = await engine.loadAdapter({ weights, config });
      const turns = [];
      for (let i = 0; i < 2; i++) {
        turns.push([await ids(engine), await ids(engine, [{ id: all }]), await ids(engine, [{ id: some, scale: 1 }]), await ids(engine, [{ id: all, scale: 1 }, { id: some, scale: -0.5 }])]);
      }
      const cached = engine.stats()?.cachedTokens;
      const again = await ids(engine, [{ id: some, scale: -0.5 }, { id: all, scale: 1 }]);
      const reused = engine.stats()?.cachedTokens ?? 0;
      const memory = (await engine.memory()).weights;
      await engine.unloadAdapter(all);
      const unloaded = (await engine.memory()).weights;
      return {
        base, turns, cached, again, reused, freed: memory - unloaded, after: await ids(engine),
        gone: await failure(ids(engine, [{ id: all }])), twice: await failure(engine.unloadAdapter(all)), left: await ids(engine, [{ id: some }]),
      };
    });
    const [first, second] = seen.turns;
    assert.deepEqual(first, second);
    assert.equal(new Set(first.map(String)).size, 4, "each says something else");
    assert.deepEqual(first[0], seen.base);
    assert.equal(seen.cached, 0, "another adapter's keys and values are of no use");
    assert.deepEqual(seen.again, first[3]);
    assert.ok(seen.reused > 0);
    assert.ok(seen.freed > 10_000);
    assert.deepEqual(seen.after, seen.base);
    assert.deepEqual(seen.left, first[2]);
    for (const error of [seen.gone, seen.twice]) {
      assert.equal(error.code, "BAD_ADAPTER");
      assert.match(error.message, /there is no adapter/);
    }
  });

  test("they survive a crash", async () => {
    const seen = await it.page.evaluate(async () => {
      const spied = spy();
      const engine = await createEngine({ model: "/base.gguf", backend: "cpu", worker: spied.start });
      const id = await engine.loadAdapter(await (await fetch("/all.gguf")).arrayBuffer());
      const some = await engine.loadAdapter({ weights: "/some.safetensors", config: "/some.json" });
      await engine.unloadAdapter(some);
      const before = await ids(engine, [{ id }]);
      const crashed = failure(ids(engine, [{ id }]));
      spied.trap();
      return { before, crash: (await crashed).code, after: await ids(engine, [{ id }]), base: await ids(engine), gone: await failure(ids(engine, [{ id: some }])), started: spied.started };
    });
    assert.equal(seen.crash, "ENGINE_CRASHED");
    assert.equal(seen.started, 2);
    assert.deepEqual(seen.after, seen.before);
    assert.notDeepEqual(seen.base, seen.before);
    assert.equal(seen.gone.code, "BAD_ADAPTER");
  });

  test("what cannot be used is told", async () => {
    const errors = await it.page.evaluate(async () => {
      const engine = await createEngine({ model: "/base.gguf", backend: "cpu" });
      const load = (source, options) => failure(engine.loadAdapter(source, options));
      const id = await engine.loadAdapter("/all.gguf");
      const running = greedy(engine, { prompt: "the day", max_tokens: 200, ignore_eos: true, adapters: [{ id }] });
      const used = await failure(engine.unloadAdapter(id));
      await running;
      const config = await (await fetch("/some.json")).json();
      return {
        used,
        other: await load("/other.gguf"),
        model: await load("/base.gguf"),
        alone: await load("/some.safetensors"),
        dora: await load({ weights: "/some.safetensors", config: { ...config, use_dora: true } }),
        broken: await load({ weights: (await (await fetch("/some.safetensors")).blob()).slice(0, 1000), config }),
        missing: await load("/nowhere.gguf"),
        nothing: await load(undefined),
        configless: await load({ weights: "/some.safetensors" }),
        aborted: await load("/all.gguf", { signal: AbortSignal.abort() }),
        list: await failure(greedy(engine, { adapters: { id } })),
        entry: await failure(greedy(engine, { adapters: [id] })),
        scale: await failure(greedy(engine, { adapters: [{ id, scale: "1" }] })),
        double: await failure(greedy(engine, { adapters: [{ id }, { id }] })),
      };
    });
    const expected = {
      used: ["BAD_ADAPTER", /the running request uses/], other: ["BAD_ADAPTER", /load the model it was trained for/],
      model: ["BAD_ADAPTER", /general\.type/], alone: ["BAD_ADAPTER", /adapter_config\.json/], dora: ["BAD_ADAPTER", /DoRA/],
      broken: ["BAD_ADAPTER", /truncated/], missing: ["DOWNLOAD_FAILED", /404/], nothing: ["BAD_REQUEST", /adapter/],
      configless: ["BAD_REQUEST", /adapter\.config/], aborted: ["ABORTED", /./], list: ["BAD_REQUEST", /adapters/],
      entry: ["BAD_REQUEST", /adapters\[0\]\.id/], scale: ["BAD_REQUEST", /adapters\[0\]\.scale/], double: ["BAD_ADAPTER", /twice/],
    };
    for (const [name, [code, words]] of Object.entries(expected)) {
      assert.equal(errors[name].code, code, `${name}: ${errors[name].message}`);
      assert.match(errors[name].message, /** @type {RegExp} */ (words), name);
    }
  });
});

const gpu = await openGpu("Chromium", () => launch(SWIFTSHADER));
after(() => gpu.close());

test("the GPU answers with adapters as the CPU does, and when it is lost they move to the CPU", { skip: gpu.missing }, async () => {
  serveFiles(gpu);
  await gpu.open();
  await gpu.page.evaluate(inPage);
  const seen = await gpu.page.evaluate(async () => {
    const answers = async (/** @type {object} */ options) => {
      const engine = await createEngine({ model: "/base.gguf", ...options });
      const id = await engine.loadAdapter("/all.gguf");
      const backend = engine.info.backend;
      const adapted = await ids(engine, [{ id }]);
      return { backend, adapted, dispatches: engine.stats()?.dispatchesPerToken ?? 0, base: await ids(engine), plain: engine.stats()?.dispatchesPerToken, now: engine.info.backend };
    };
    const { start, seen } = losing({ answering: 60 });
    const [cpu, whole] = [await answers({ backend: "cpu" }), await answers({ backend: "webgpu" })];
    return { cpu, whole, lost: await answers({ backend: "webgpu", worker: start }), loss: await seen() };
  });
  assert.notDeepEqual(seen.cpu.adapted, seen.cpu.base);
  for (const { adapted, base } of [seen.whole, seen.lost]) {
    assert.deepEqual(adapted, seen.cpu.adapted);
    assert.deepEqual(base, seen.cpu.base);
  }
  assert.equal(seen.whole.now, "webgpu");
  assert.ok(seen.whole.dispatches > (seen.whole.plain ?? 0), "and without the adapter nothing of it runs");
  assert.ok(seen.loss.lost);
  assert.deepEqual([seen.lost.backend, seen.lost.now], ["webgpu", "cpu"]);
});

test("the page of examples/finetune answers from its adapter", async () => {
  const [site, browser] = await Promise.all([serve({ "/pkg/": PACKAGE, "/examples/": join(ROOT, "examples") }), launch()]);
  try {
    const page = await browser.newPage();
    await page.goto(`${site.base}/examples/finetune/`);
    await page.waitForFunction(() => document.querySelector("#status")?.textContent?.startsWith("Ready"));
    await page.fill("#question", "Where can I buy one?");
    await page.click("#send");
    await page.waitForFunction(() => document.querySelectorAll("#log dd[aria-busy=false]").length === 2);
    const [, base, adapted] = await page.locator("#log dd").allTextContents();
    assert.match(adapted, /pebble\.example/);
    assert.doesNotMatch(base, /pebble/i);
  } finally {
    await browser.close();
    site.close();
  }
});
