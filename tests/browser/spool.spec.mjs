// What becomes of a stream, which can be read once, when the disk is full or there is none, and the GPU is lost.
import assert from "node:assert/strict";
import { after, beforeEach, describe, test } from "node:test";
import { launchWithProfile, SWIFTSHADER } from "./lib/browser.mjs";
import { openGpu } from "./lib/gpu.mjs";
import { file } from "./lib/hub.mjs";
import { GOLDEN, STORIES } from "./lib/package.mjs";

const it = await openGpu("Chromium", () => launchWithProfile(SWIFTSHADER));
after(() => it.close());
beforeEach(() => it.open());

const IDS = GOLDEN.ids.slice(0, 40);

/** An answer of a model from a stream, over a device that is lost in its middle; `patch` runs in the worker. */
function answer(patch = "") {
  return it.page.evaluate(async (patch) => {
    const { start } = losing({ answering: 100 }, patch);
    const events = [];
    const engine = await createEngine({ model: new Blob([await bytes()]).stream(), backend: "webgpu", contextLength: 256, worker: start, onEvent: ({ type }) => events.push(type) });
    const atLoad = { ...engine.info };
    const kept = await (async () => {
      const names = [];
      const root = await navigator.storage.getDirectory();
      try {
        for await (const name of /** @type {any} */ (await root.getDirectoryHandle("kinglet-spool")).keys()) names.push(name);
      } catch {
        // There is no such folder.
      }
      return names;
    })();
    const ids = [];
    const error = await failure((async () => {
      for await (const { choices: [choice] } of await engine.completions.create({ prompt: "", temperature: 0, max_tokens: 40, stream: true })) ids.push(...(choice.token_ids ?? []));
    })());
    const { backend } = engine.info;
    await engine.dispose();
    return { atLoad, kept, ids, error, events, backend };
  }, patch);
}

describe("a stream whose GPU is lost", { skip: it.missing }, () => {
  test("is read again from the disk", async () => {
    const got = await answer();
    assert.deepEqual([got.error.code, got.atLoad.fallback, got.backend], ["nothing failed", "cpu", "cpu"]);
    assert.equal(got.kept.length, 1);
    assert.deepEqual(got.ids, IDS);
  });

  test("is read again from Blobs where there are no files of one's own", async () => {
    const got = await answer("StorageManager.prototype.getDirectory = undefined;");
    assert.deepEqual([got.error.code, got.atLoad.fallback, got.backend], ["nothing failed", "cpu", "cpu"]);
    assert.deepEqual(got.kept, []);
    assert.deepEqual(got.events, ["backend-changed"]);
    assert.deepEqual(got.ids, IDS);
  });

  test("cannot be read again where the disk was full, and the engine says so at load", async () => {
    const page = /** @type {import("playwright-core").Page} */ (it.page);
    const session = await page.context().newCDPSession(page);
    const origin = new URL(it.site.base).origin;
    await session.send("Storage.overrideQuotaForOrigin", { origin, quotaSize: STORIES.length / 2 });
    const got = await answer();
    await session.send("Storage.overrideQuotaForOrigin", { origin });
    await session.detach();
    assert.equal(got.atLoad.backend, "webgpu");
    assert.equal(got.atLoad.fallback, null);
    assert.match(got.atLoad.fallbackReason ?? "", /stream that could not be kept/);
    assert.equal(got.error.code, "DEVICE_LOST");
    assert.match(got.error.message, /lost.*the CPU cannot take over.*could not be kept/);
    assert.ok(got.ids.length > 0 && got.error.ids?.length === got.ids.length);
    assert.deepEqual(got.ids, IDS.slice(0, got.ids.length));
  });
});

describe("a URL whose GPU is lost", { skip: it.missing }, () => {
  for (const [cache, at] of /** @type {const} */ ([["opfs", { loading: 30 }], ["opfs", { answering: 100 }], ["memory", { loading: 30 }]])) {
    test(`while ${Object.keys(at)} is read again from the store "${cache}"`, async () => {
      it.route("/once.gguf", file(STORIES));
      const got = await it.page.evaluate(async ({ cache, at }) => {
        const { start } = losing(/** @type {Point} */ (at));
        const engine = await createEngine({ model: "/once.gguf", cache, contextLength: 256, testing: { software: true }, worker: start });
        const ids = [];
        for await (const { choices: [choice] } of await engine.completions.create({ prompt: "", temperature: 0, max_tokens: 40, stream: true })) ids.push(...(choice.token_ids ?? []));
        const { backend } = engine.info;
        await engine.dispose();
        return { ids, backend };
      }, { cache, at });
      assert.deepEqual([got.ids, got.backend], [IDS, "cpu"]);
      assert.equal(it.seen.filter(({ path }) => path === "/once.gguf").length, 1);
    });
  }
});
