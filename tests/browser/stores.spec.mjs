// One contract for all places that keep models, through the public interface, and what is listed, imported and exported.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, beforeEach, describe, test } from "node:test";
import { launchFirefox, launchWithProfile } from "./lib/browser.mjs";
import { split } from "./lib/gguf.mjs";
import { file, status, throttled } from "./lib/hub.mjs";
import { GOLDEN, openPackage, PACKAGE, STORIES, firstWords } from "./lib/package.mjs";
import { serve } from "./lib/server.mjs";
import { launchWebKit } from "./lib/webkit.mjs";

const IDS = GOLDEN.ids.slice(0, 40);
const digestOf = (/** @type {Buffer} */ bytes) => createHash("sha256").update(bytes).digest("hex");
/** More than one piece of any store; what follows the tensors is nobody's business. */
const LONG = Buffer.concat([STORIES, Buffer.alloc(11 << 20, 7)]);

/** @type {Awaited<ReturnType<typeof openPackage>>} */
let it;

/** Runs its tests in a browser of their own. */
function inBrowser(/** @type {string} */ name, /** @type {() => Promise<unknown>} */ start, /** @type {() => void} */ tests) {
  describe(name, () => {
    before(async () => void (it = await openPackage(start)));
    after(() => it.close());
    beforeEach(() => it.open());
    tests();
  });
}

const answer = (/** @type {object} */ options) => firstWords(it.page, options);
const list = () => it.page.evaluate(() => kinglet.models.list());
/** Requests for a path since it got its route. */
const requests = (/** @type {string} */ path) => it.seen.filter((request) => request.path === path);

function contract(/** @type {"opfs" | "cache-api" | "memory"} */ cache) {
  describe(`the store "${cache}"`, () => {
    test("downloads once, and says what it has", async () => {
      it.route("/once.gguf", file(LONG));
      const first = await answer({ model: "/once.gguf", cache });
      const again = await answer({ model: "/once.gguf", cache });
      assert.deepEqual([first.ids, again.ids], [IDS, IDS], again.error.message);
      assert.deepEqual(requests("/once.gguf").length, 1);
      assert.deepEqual([first.info?.sha256, again.info?.sha256], [digestOf(LONG), digestOf(LONG)]);
      assert.ok(first.phases.some(({ phase }) => phase === "download") && !again.phases.some(({ phase }) => phase === "download"));
      const [stored, ...others] = await list();
      assert.equal(others.length, 0);
      const { created, changed, ...rest } = stored;
      const bytes = LONG.length;
      assert.deepEqual(rest, { model: `${it.site.base}/once.gguf`, store: cache, files: 1, bytes, storedBytes: bytes, complete: true, sha256: [digestOf(LONG)], verified: false });
      assert.ok(created <= changed && Math.abs(Date.now() - changed.getTime()) < 60_000);
      assert.equal(await it.page.evaluate(() => kinglet.models.delete("/once.gguf")), true);
      assert.equal(await it.page.evaluate(() => kinglet.models.delete("/once.gguf")), false);
      assert.deepEqual(await list(), []);
      assert.deepEqual((await answer({ model: "/once.gguf", cache })).ids, IDS);
      assert.equal(requests("/once.gguf").length, 2);
    });

    test("keeps what had come when the caller gave up, and goes on from there", async () => {
      const { route, seen } = throttled(LONG, 20e6);
      it.route("/part.gguf", route);
      const error = await it.page.evaluate((cache) => {
        const controller = new AbortController();
        return failure(createEngine({ model: "/part.gguf", cache, signal: controller.signal, onProgress: ({ phase, loaded }) => phase === "download" && loaded > 9e6 && controller.abort() }));
      }, cache);
      assert.equal(error.code, "ABORTED");
      const [begun] = await list();
      assert.equal(begun.complete, false);
      assert.ok(begun.storedBytes > 1e6 && begun.storedBytes < LONG.length, `${begun.storedBytes} bytes`);
      assert.deepEqual([begun.bytes, begun.sha256], [LONG.length, undefined]);
      const { ids, info, error: none } = await answer({ model: "/part.gguf", cache });
      assert.deepEqual(ids, IDS, none.message);
      assert.equal(info?.sha256, digestOf(LONG));
      assert.deepEqual(seen.ranges, [undefined, `bytes=${begun.storedBytes}-`]);
    });

    test("keeps nothing that has another digest", async () => {
      it.route("/other.gguf", file(LONG));
      const { error } = await answer({ model: "/other.gguf", cache, sha256: digestOf(STORIES) });
      assert.equal(error.code, "INTEGRITY");
      assert.deepEqual([error.details.expected, error.details.found], [digestOf(STORIES), digestOf(LONG)]);
      assert.deepEqual(await list(), []);
      assert.equal((await answer({ model: "/other.gguf", cache, sha256: digestOf(LONG) })).info?.sha256, digestOf(LONG));
      assert.equal((await list())[0].verified, true);
      // The same address, and the caller knows of another file: the server is asked.
      it.route("/other.gguf", file(STORIES));
      assert.equal((await answer({ model: "/other.gguf", cache, sha256: digestOf(STORIES) })).info?.sha256, digestOf(STORIES));
    });

    test("keeps nothing that is no model", async () => {
      it.route("/cut.gguf", file(STORIES.subarray(0, 900_000)));
      assert.equal((await answer({ model: "/cut.gguf", cache })).error.code, "CORRUPT_FILE");
      assert.deepEqual(await list(), []);
      it.route("/none.gguf", status(404));
      assert.equal((await answer({ model: "/none.gguf", cache })).error.code, "DOWNLOAD_FAILED");
      assert.deepEqual(await list(), []);
    });

    test("imports files, and exports what they were", async () => {
      const { imported, exported, local, errors } = await it.page.evaluate(async (cache) => {
        const blob = new Blob([await bytes()]);
        const imported = await kinglet.models.import("local:stories", blob, { cache });
        const [file] = await kinglet.models.export("local:stories");
        const whole = new Uint8Array(await blob.arrayBuffer());
        const same = new Uint8Array(await file.arrayBuffer()).every((byte, i) => byte === whole[i]);
        const engine = await createEngine({ model: "local:stories", cache });
        const local = { info: engine.info, ids: (await greedy(engine)).choices[0].token_ids };
        await kinglet.models.import("local:stories", new Blob([blob, new Uint8Array(1000)]).stream(), { cache });
        const [longer] = await kinglet.models.export("local:stories");
        const errors = [
          await failure(kinglet.models.import("local:cat", new Blob(["a picture of a cat"]), { cache })),
          await failure(kinglet.models.export("local:cat")),
          await failure(createEngine({ model: "local:cat", cache })),
          await failure(kinglet.models.import("local:stories", blob, { cache, sha256: "0".repeat(64) })),
        ];
        return { imported, exported: { name: file.name, size: file.size, same, longer: longer.size }, local, errors };
      }, cache);
      assert.deepEqual([imported.model, imported.store, imported.complete, imported.bytes], ["local:stories", cache, true, STORIES.length]);
      assert.deepEqual(exported, { name: "stories.gguf", size: STORIES.length, same: true, longer: STORIES.length + 1000 });
      assert.deepEqual(local.ids, IDS);
      assert.equal(local.info.sha256, digestOf(STORIES));
      assert.deepEqual(errors.map(({ code }) => code), ["NOT_A_MODEL", "BAD_REQUEST", "BAD_REQUEST", "INTEGRITY"]);
      assert.match(errors[2].message, /models\.import\("local:cat", file\)/);
      assert.deepEqual(await list(), []);
    });

    test("takes the parts of a split model for one", async () => {
      const parts = split(STORIES, 3);
      parts.forEach((part, i) => it.route(`/split-0000${i + 1}-of-00003.gguf`, file(part)));
      const first = await answer({ model: "/split-00001-of-00003.gguf", cache });
      const again = await answer({ model: "/split-00003-of-00003.gguf", cache });
      assert.deepEqual([first.ids, again.ids], [IDS, IDS], first.error.message);
      assert.equal(requests("/split-00002-of-00003.gguf").length, 1);
      const whole = digestOf(Buffer.concat(parts));
      assert.deepEqual([first.info?.sha256, again.info?.sha256], [whole, whole]);
      const [stored, ...others] = await list();
      assert.equal(others.length, 0);
      assert.deepEqual([stored.files, stored.complete, stored.sha256], [3, true, parts.map(digestOf)]);
      const ids = await it.page.evaluate(async (cache) => {
        const files = await kinglet.models.export("/split-00001-of-00003.gguf");
        await kinglet.models.import("local:again-00001-of-00003.gguf", files, { cache });
        await kinglet.models.delete("/split-00002-of-00003.gguf");
        const engine = await createEngine({ model: "local:again-00001-of-00003.gguf", cache });
        return (await greedy(engine)).choices[0].token_ids;
      }, cache);
      assert.deepEqual(ids, IDS);
      assert.deepEqual((await list()).map(({ model, files }) => [model, files]), [["local:again-00001-of-00003.gguf", 3]]);
    });
  });
}

function choices() {
  const choice = (/** @type {string} */ patch, /** @type {string} */ cache) => it.page.evaluate(async ({ patch, cache }) => {
    const error = await failure(createEngine({ model: url, cache: /** @type {any} */ (cache), worker: patched(patch) }));
    return { error, stores: (await kinglet.models.list()).map(({ store }) => store) };
  }, { patch, cache });
  const NO_FILES = "StorageManager.prototype.getDirectory = undefined;";

  test("auto takes what there is", async () => {
    assert.deepEqual((await choice("", "auto")).stores, ["opfs"]);
    await it.open();
    assert.deepEqual((await choice(NO_FILES, "auto")).stores, ["cache-api"]);
    await it.open();
    assert.deepEqual((await choice(`${NO_FILES} delete self.caches; CacheStorage.prototype.open = () => Promise.reject(new Error("no"));`, "auto")).stores, ["memory"]);
    await it.open();
    assert.deepEqual((await choice("", "none")).stores, []);
  });

  test("what is asked for and not there is refused", async () => {
    const { error, stores } = await choice(NO_FILES, "opfs");
    assert.deepEqual([error.code, stores], ["BAD_REQUEST", []]);
    assert.match(error.message, /"opfs" cannot be used here/);
    assert.equal((await choice("", "disk")).error.code, "BAD_REQUEST");
  });
}

inBrowser("Chromium", () => launchWithProfile(), () => {
  for (const cache of /** @type {const} */ (["opfs", "cache-api", "memory"])) contract(cache);
  test("what cannot be read back out of memory is told in words", async () => {
    it.route("/lost.gguf", file(LONG));
    const error = await it.page.evaluate(async () => {
      // A file that is gone stands for a Blob whose bytes the browser has lost.
      const folder = await navigator.storage.getDirectory();
      const handle = await folder.getFileHandle("lost", { create: true });
      const writing = await handle.createWritable();
      await writing.write(new Uint8Array(100));
      await writing.close();
      const lost = await handle.getFile();
      await folder.removeEntry("lost");
      globalThis.Blob = /** @type {any} */ (function () {
        return lost;
      });
      return failure(createEngine({ model: "/lost.gguf", backend: "cpu", cache: "memory" }));
    });
    assert.equal(error.code, "DOWNLOAD_FAILED");
    assert.match(error.message, /reading the model failed: .*\S/);
  });

  describe("the choice of a store", choices);
});
inBrowser("Firefox", launchFirefox, () => contract("opfs"));

test("WebKit downloads once too, into the store that it has", async (t) => {
  const seen = /** @type {string[]} */ ([]);
  const site = await serve({ "/pkg/": PACKAGE }, (request, response) => {
    if (request.url === "/") return response.setHeader("Content-Type", "text/html").end("<!doctype html><title>stores</title>"), true;
    if (request.url !== "/once.gguf") return false;
    seen.push(request.headers.range ?? "whole");
    response.end(LONG);
    return true;
  });
  const webkit = await launchWebKit();
  try {
    await webkit.goto(`${site.base}/`);
    const loads = (/** @type {string} */ cache) => webkit.evaluate(`import("/pkg/dist/index.js").then(async ({ createEngine, models }) => {
      const engine = await createEngine({ model: "/once.gguf", backend: "cpu", cache: "${cache}" });
      const reply = await engine.completions.create({ prompt: "", temperature: 0, max_tokens: 40 });
      const { sha256 } = engine.info;
      await engine.dispose();
      return { ids: reply.choices[0].token_ids, sha256, stored: (await models.list()).map(({ store, complete }) => [store, complete]) };
    })`);
    for (const cache of ["auto", "auto", "memory", "memory"]) {
      const { ids, sha256, stored } = await loads(cache);
      assert.deepEqual([ids, sha256], [IDS, digestOf(LONG)]);
      assert.ok(stored.length > 0 && stored.every(([, complete]) => complete));
      if (cache === "auto") t.diagnostic(`auto is ${stored[0][0]} in ${webkit.version}`);
    }
    assert.deepEqual(seen, ["whole", "whole"]);
  } finally {
    await webkit.close();
    site.close();
  }
});
