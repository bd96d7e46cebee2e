// The package on WebGPU, in whichever browser: answers, the choice of the backend, and what becomes of an answer when the
// GPU is wrong, missing or lost. Software plays the GPU, so that everything here is small.
import assert from "node:assert/strict";
import { after, beforeEach, describe, test } from "node:test";
import { file, inTurn, status } from "./hub.mjs";
import { GOLDEN, STORIES } from "./package.mjs";

const IDS = GOLDEN.ids.slice(0, 40);
/** Layers of stories260K; the issue allows 5L + 6 dispatches a token. */
const LAYERS = 5;

const SOAK = Boolean(process.env.KINGLET_SOAK);

/**
 * @param {string} name
 * @param {Awaited<ReturnType<typeof import("./gpu.mjs").openGpu>>} it
 * @param {object} [how]
 * @param {boolean} [how.slow] each load takes so long that only a soak does what is the same in any browser
 */
export function gpuSuite(name, it, { slow = false } = {}) {
  const brief = slow && !SOAK;
  /** Random points of loading and of answering at which the device is destroyed. */
  const POINTS = SOAK ? 100 : brief ? 4 : 10;
  after(() => it.close());
  beforeEach(() => it.open());

  /** Loads and answers; what was said about it. */
  const answer = (/** @type {object} */ options, { patch = "", max_tokens = 40 } = {}) => it.page.evaluate(async ({ options, patch, max_tokens }) => {
    const events = [];
    const onEvent = (/** @type {any} */ { reason, ...event }) => events.push({ ...event, code: reason?.code, message: reason?.message });
    const loading = createEngine({ model: url, contextLength: 256, onEvent, ...(patch && { worker: patched(patch) }), ...options });
    const error = await failure(loading);
    if (error.code !== "nothing failed") return { error, events, info: undefined, ids: [], stats: undefined, memory: undefined };
    const engine = await loading;
    const reply = await greedy(engine, { max_tokens });
    const memory = await engine.memory();
    await engine.dispose();
    return { error: undefined, events, info: engine.info, ids: reply.choices[0].token_ids, stats: engine.stats(), memory };
  }, { options, patch, max_tokens });

  describe(`answers of ${name}`, { skip: it.missing }, () => {
    test("200 greedy tokens are the golden ones", async (t) => {
      const { error, events, info, ids, stats, memory } = await answer({ backend: "webgpu" }, { max_tokens: 200 });
      assert.equal(error, undefined);
      assert.deepEqual(ids, GOLDEN.ids);
      assert.equal(info?.backend, "webgpu");
      assert.ok(info?.adapter);
      assert.equal(info?.fallback, "cpu");
      assert.equal(stats?.backend, "webgpu");
      assert.ok(stats && stats.dispatchesPerToken > 0 && stats.dispatchesPerToken <= 5 * LAYERS + 6, `${stats?.dispatchesPerToken} dispatches`);
      assert.ok(memory && memory.weights > STORIES.length / 2 && memory.heap < 64 << 20, JSON.stringify(memory));
      assert.deepEqual(events, []);
      t.diagnostic(`${info?.adapter}: first token after ${stats?.prefillMs.toFixed(0)} ms, 199 more in ${stats?.decodeMs.toFixed(0)} ms`);
    });

    /** @type {[string, object][]} */
    const variants = [
      ["without subgroups", { subgroups: false }],
      ["without packed dot products", { packedDot: false }],
      ["with neither", { subgroups: false, packedDot: false }],
      ["with bindings of at most 1 MiB", { bindingLimit: 1 << 20 }],
    ];
    for (const [how, testing] of variants) {
      test(`the same ${how}`, async () => {
        const { error, info, ids } = await answer({ backend: "webgpu", testing });
        assert.equal(error, undefined);
        assert.equal(info?.backend, "webgpu");
        assert.deepEqual(ids, IDS);
      });
    }
  });

  describe(`families in ${name}`, { skip: it.missing }, () => {
    // Of longrope 18 tokens of prompt and 30 more go beyond the original context of 24.
    const families = brief ? ["gemma3", "phi"] : ["gemma3", "phi", "qwen2", "qwen3", "smollm3"];
    for (const family of families) {
      test(`${family} says on the GPU what it says on the CPU`, async () => {
        const [cpu, gpu] = await it.page.evaluate(async (model) => {
          const replies = [];
          for (const backend of /** @type {const} */ (["cpu", "webgpu"])) {
            const engine = await createEngine({ model, backend, testing: { software: true } });
            const reply = await greedy(engine, { prompt: "the day was one that they had for all", max_tokens: 30, ignore_eos: true, logprobs: 2 });
            replies.push({ ids: [...(reply.choices[0].token_ids ?? [])], margins: reply.choices[0].logprobs?.top_logprobs?.map((top) => Object.values(top)) ?? [], info: engine.info, stats: engine.stats() });
            await engine.dispose();
          }
          return replies;
        }, `/golden/${family}_f32.gguf`);
        assert.deepEqual([cpu.info.backend, gpu.info.backend], ["cpu", "webgpu"]);
        assert.equal(cpu.ids.length, 30);
        assert.ok(cpu.stats.promptTokens > 8 && gpu.stats.dispatchesPerToken <= 5 * 6 + 6, JSON.stringify(gpu.stats));
        // The GPU's cache holds halves: a near tie may fall the other way, and then the texts go their own ways.
        const at = cpu.ids.findIndex((id, i) => id !== gpu.ids[i]);
        if (at >= 0) {
          const [first, second] = cpu.margins[at].toSorted((a, b) => b - a);
          assert.ok(first - second < 0.05, `token ${at} differs: ${cpu.ids} ${gpu.ids}, ${cpu.margins[at]}`);
        }
      });
    }
  });

  describe(`tuning in ${name}`, { skip: it.missing || brief }, () => {
    test("what was measured at one load is kept for the next", async () => {
      const kept = () => it.page.evaluate(async () => {
        const cache = await caches.open("kinglet-tuning-2");
        return Promise.all((await cache.keys()).map(async (key) => (await cache.match(key))?.json()));
      });
      const testing = { software: true, tune: true };
      const first = await answer({ testing });
      assert.deepEqual([first.error, first.info?.backend, first.ids], [undefined, "webgpu", IDS]);
      const [tuning, ...others] = await kept();
      assert.equal(others.length, 0, "one record an adapter");
      assert.ok(Object.keys(tuning).some((name) => name.startsWith("head F32 ")), JSON.stringify(tuning));
      // A load may run out of time: the next ones go on where it ended, and measure nothing twice.
      const second = await answer({ testing });
      assert.deepEqual([second.error, second.ids], [undefined, IDS]);
      const [later] = await kept();
      assert.deepEqual(later, { ...later, ...tuning });
    });
  });

  describe(`the backend in ${name}`, { skip: it.missing }, () => {
    test("auto prefers the CPU to a program that plays a GPU, and says so", async () => {
      const { info, ids, events } = await answer({});
      assert.equal(info?.backend, "cpu");
      assert.equal(info?.adapter, null);
      assert.equal(info?.fallback, null);
      assert.deepEqual(ids, IDS);
      assert.deepEqual(events.map(({ type, from, to, code }) => ({ type, from, to, code })), [{ type: "backend-changed", from: "webgpu", to: "cpu", code: "NO_WEBGPU" }]);
      assert.match(events[0].message, /slower than the CPU/);
    });

    test("auto takes a GPU, and cpu does not look for one", async () => {
      const gpu = await answer({ testing: { software: true } });
      assert.equal(gpu.info?.backend, "webgpu");
      assert.deepEqual([gpu.ids, gpu.events], [IDS, []]);
      const cpu = await answer({ backend: "cpu", testing: { software: true } }, { patch: "GPU.prototype.requestAdapter = () => close();" });
      assert.equal(cpu.info?.backend, "cpu");
      assert.deepEqual([cpu.ids, cpu.events], [IDS, []]);
    });

    /** @type {[string, string, RegExp][]} */
    const without = [
      ["WebGPU", "delete WorkerNavigator.prototype.gpu;", /no WebGPU.*Chrome 113/],
      ["an adapter", "GPU.prototype.requestAdapter = async () => null;", /no GPU for it/],
      ["a device", "GPUAdapter.prototype.requestDevice = async () => { throw new DOMException('no', 'OperationError'); };", /WebGPU/],
    ];
    for (const [what, patch, message] of without) {
      test(`without ${what} auto takes the CPU, webgpu fails`, async () => {
        const auto = await answer({ testing: { software: true } }, { patch });
        assert.equal(auto.info?.backend, "cpu");
        assert.deepEqual(auto.ids, IDS);
        assert.deepEqual(auto.events.map(({ type, code }) => [type, code]), [["backend-changed", "NO_WEBGPU"]]);
        assert.match(auto.events[0].message, message);
        const asked = await answer({ backend: "webgpu" }, { patch });
        assert.equal(asked.error?.code, "NO_WEBGPU");
        assert.match(asked.error?.message ?? "", message);
      });
    }

    test("a wrong shader is found out: auto takes the CPU, webgpu fails", async () => {
      const testing = { software: true, sabotage: "qkv" };
      const auto = await answer({ testing });
      assert.equal(auto.info?.backend, "cpu");
      assert.deepEqual(auto.ids, IDS);
      assert.deepEqual(auto.events.map(({ type, code }) => [type, code]), [["backend-changed", "GPU_UNTRUSTED"]]);
      assert.equal((await answer({ backend: "webgpu", testing })).error?.code, "GPU_UNTRUSTED");
    });
  });

  /** Streams an answer over a device that is destroyed at `at`. */
  const interrupted = (/** @type {Point} */ at, /** @type {object} */ options = {}, kind = "URL") => it.page.evaluate(async ({ at, options, kind }) => {
    const events = [];
    const worker = losing(at);
    const buffer = await bytes();
    /** @type {Record<string, any>} */
    const models = { URL: url, Blob: new Blob([buffer]), ArrayBuffer: buffer, stream: new Blob([buffer]).stream() };
    const onEvent = (event) => events.push({ type: event.type, code: event.reason?.code, at: engine?.info.backend });
    /** @type {any} */
    let engine;
    const loading = createEngine({ model: models[kind], contextLength: 256, testing: { software: true }, worker: worker.start, onEvent, ...options });
    let text = "";
    const ids = [];
    let loaded = 0;
    const error = await failure((async () => {
      engine = await loading;
      loaded = (await worker.seen()).operations;
      for await (const { choices: [choice] } of await engine.completions.create({ prompt: "", temperature: 0, max_tokens: 40, stream: true })) {
        text += choice.text;
        ids.push(...choice.token_ids);
      }
    })());
    // The worker ends with its engine.
    const seen = error.code === "nothing failed" ? await worker.seen() : { operations: 0, lost: true };
    const result = { text, ids, error, events, info: engine?.info, loaded, answered: seen.operations, lost: seen.lost, stats: engine?.stats() };
    Object.assign(globalThis, { engine });
    return result;
  }, { at, options, kind });
  const dispose = () => it.page.evaluate(() => /** @type {any} */ (globalThis).engine?.dispose());

  describe(`a lost device in ${name}`, { skip: it.missing }, () => {
    for (const kind of brief ? ["URL", "stream"] : ["URL", "Blob", "ArrayBuffer", "stream"]) {
      const backend = kind === "stream" ? "webgpu" : "auto"; // which differ at load only
      test(`in the middle of an answer the CPU goes on, with the ${kind} read again (${backend})`, async () => {
        const got = await interrupted({ answering: 60 }, { backend }, kind);
        assert.ok(got.lost);
        assert.equal(got.error.code, "nothing failed", got.error.message);
        assert.deepEqual(got.ids, IDS);
        assert.deepEqual(got.events, [{ type: "backend-changed", code: "DEVICE_LOST", at: "cpu" }]);
        assert.equal(got.info.backend, "cpu");
        assert.equal(got.info.fallback, null);
        assert.equal(got.stats?.completionTokens, 40);
        await dispose();
      });

      test(`while the model is loaded the CPU loads it, from the ${kind}; webgpu fails`, async () => {
        const got = await interrupted({ loading: 30 }, {}, kind);
        assert.equal(got.error.code, "nothing failed", got.error.message);
        assert.deepEqual(got.ids, IDS);
        assert.equal(got.info.backend, "cpu");
        assert.deepEqual(got.events, [{ type: "backend-changed", code: "DEVICE_LOST", at: undefined }]);
        await dispose();
        assert.equal((await interrupted({ loading: 30 }, { backend: "webgpu" }, kind)).error.code, "DEVICE_LOST");
      });
    }

    test("a draft model is for the CPU, which loads it when it goes on, if it is at hand", { skip: brief && "a soak does it" }, async () => {
      for (const [draft, loaded] of /** @type {const} */ ([["/data/stories260K/stories260K.gguf", true], ["/elsewhere.gguf", false]])) {
        it.route("/elsewhere.gguf", file(STORIES));
        const got = await interrupted({ answering: 60 }, { draft });
        assert.equal(got.error.code, "nothing failed", got.error.message);
        assert.deepEqual(got.ids, IDS);
        const events = got.events.map(({ type }) => type);
        assert.deepEqual(events, ["draft-unavailable", ...(loaded ? [] : ["draft-unavailable"]), "backend-changed"]);
        assert.deepEqual([got.info.backend, got.info.draft !== null], ["cpu", loaded]);
        await dispose();
      }
    });

    test(`at ${POINTS} random points no answer is lost, and its text is the same`, async (t) => {
      const calm = await interrupted(undefined);
      assert.deepEqual([calm.ids, calm.lost, calm.events], [IDS, false, []]);
      t.diagnostic(`${calm.loaded} operations load, ${calm.answered} answer`);
      const random = generator(POINTS);
      const backends = [];
      for (let i = 0; i < POINTS; i++) {
        const at = i % 2 ? { answering: Math.floor(random() * calm.answered) } : { loading: Math.floor(random() * calm.loaded) };
        const got = await interrupted(at);
        const where = JSON.stringify(at);
        assert.equal(got.error.code, "nothing failed", `${where}: ${got.error.message}`);
        assert.deepEqual(got.ids, IDS, where);
        assert.equal(got.text, calm.text, where);
        // Lost with the last tokens on their way, the GPU is not missed.
        backends.push(got.info.backend);
        await dispose();
      }
      assert.ok(backends.filter((backend) => backend === "cpu").length > 0.8 * POINTS, `${backends}`);
    });

    test("where the model cannot be read again: DEVICE_LOST with the answer so far; the next request starts afresh", async () => {
      it.route("/once.gguf", inTurn(file(STORIES), status(404), file(STORIES)));
      const got = await interrupted({ answering: 100 }, { model: "/once.gguf", cache: "none" });
      assert.equal(got.error.code, "DEVICE_LOST");
      assert.match(got.error.message, /lost.*the CPU cannot take over.*no such file/);
      assert.deepEqual(got.error.ids, IDS.slice(0, got.error.ids?.length));
      assert.ok(got.error.ids?.length, "some tokens had come");
      assert.deepEqual(got.error.details.ids, got.error.ids);
      assert.equal(got.error.details.text, got.error.text);
      assert.equal(got.error.text, got.text);
      const next = await it.page.evaluate(() => greedy(/** @type {any} */ (globalThis).engine));
      assert.deepEqual(next.choices[0].token_ids, IDS);
    });

    test("a file that has changed since is not taken for the same", { skip: brief && "a soak does it" }, async () => {
      it.route("/changing.gguf", inTurn(file(STORIES), file(STORIES, { etag: '"v2"' })));
      const got = await interrupted({ answering: 100 }, { model: "/changing.gguf", cache: "none" });
      assert.equal(got.error.code, "DEVICE_LOST");
      assert.match(got.error.message, /changed on the server/);
    });

    test("a model too large for the CPU says at load that nothing can take over", { skip: brief && "a soak does it" }, async () => {
      const got = await interrupted({ answering: 100 }, { contextLength: 4_000_000 });
      assert.equal(got.info.fallback, null);
      assert.match(got.info.fallbackReason, /memory/);
      assert.equal(got.error.code, "DEVICE_LOST");
      assert.match(got.error.message, /memory/);
      assert.ok(got.error.details.ids.length > 0);
    });

    test("a stream is kept on disk as long as its engine lives, and what others left is removed", async () => {
      const kept = () => it.page.evaluate(async () => {
        const root = await navigator.storage.getDirectory();
        const names = [];
        try {
          for await (const name of /** @type {any} */ (await root.getDirectoryHandle("kinglet-spool")).keys()) names.push(name);
        } catch {
          // There is no such folder.
        }
        return names;
      });
      await it.page.evaluate(async () => {
        const root = await navigator.storage.getDirectory();
        await (await root.getDirectoryHandle("kinglet-spool", { create: true })).getFileHandle("left-behind", { create: true });
      });
      await interrupted(undefined, {}, "stream");
      // It is looked for when the model is loaded, but nobody waits for that.
      for (let tries = 0; tries < 50 && (await kept()).includes("left-behind"); tries++) await new Promise((resolve) => setTimeout(resolve, 50));
      const [one, ...more] = await kept();
      assert.ok(one && one !== "left-behind" && more.length === 0, `${[one, ...more]}`);
      await dispose();
      assert.deepEqual(await kept(), []);
    });
  });
}

/** Numbers from 0 to 1, the same in each run. */
function generator(seed) {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}
