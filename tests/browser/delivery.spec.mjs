// How a model gets from a hub into the store and out of it: names, resuming, several tabs, no network, a full disk.
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { after, before, beforeEach, describe, test } from "node:test";
import { launchWithProfile } from "./lib/browser.mjs";
import { generator } from "./lib/faults.mjs";
import { split } from "./lib/gguf.mjs";
import { file, inTurn, status, throttled } from "./lib/hub.mjs";
import { GOLDEN, openPackage, STORIES, firstWords } from "./lib/package.mjs";

const IDS = GOLDEN.ids.slice(0, 40);
const digestOf = (/** @type {Buffer} */ bytes) => createHash("sha256").update(bytes).digest("hex");
/** Stories, then bytes that are all different. */
function padded(/** @type {number} */ bytes, seed = 1) {
  const random = generator(seed);
  const words = Uint32Array.from({ length: bytes / 4 }, () => random() * 2 ** 32);
  return Buffer.concat([STORIES, Buffer.from(words.buffer)]);
}
const LONG = padded(8 << 20);
const OTHER = padded(8 << 20, 2);

/** @type {Awaited<ReturnType<typeof openPackage>>} */
let it;
before(async () => void (it = await openPackage(() => launchWithProfile())));
after(() => it.close());
beforeEach(() => it.open());

const answer = (/** @type {object} */ options, page = it.page) => firstWords(page, options);
const list = () => it.page.evaluate(() => kinglet.models.list());
const requests = (/** @type {string} */ path) => it.seen.filter((request) => request.path === path);
const stored = async () => (await list())[0]?.storedBytes ?? 0;

/** Begins a download in the page, and waits until so many bytes are in the store. */
async function begin(/** @type {string} */ model, /** @type {number} */ bytes, page = it.page) {
  await page.evaluate((model) => void failure(createEngine({ model, backend: "cpu" })), model);
  for (let tries = 0; (await stored()) < bytes; tries++) {
    assert.ok(tries < 400, "nothing is stored");
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

describe("names", () => {
  /** A mirror of the Hub with one file; `oid`: what it says of it. */
  function hub(/** @type {string} */ path, /** @type {Buffer} */ bytes, oid = digestOf(bytes)) {
    const [owner, repository, , revision, ...names] = path.split("/");
    it.route(`/mirror/${path}`, file(bytes));
    it.route(`/mirror/api/models/${owner}/${repository}/paths-info/${revision}`, (request, response) => {
      let body = "";
      request.on("data", (data) => (body += data)).on("end", () => {
        const [wanted] = JSON.parse(body).paths;
        response.end(JSON.stringify(wanted === names.join("/") ? [{ type: "file", path: wanted, size: bytes.length, lfs: { oid, size: bytes.length } }] : []));
      });
    });
  }

  test("of the catalogue, with and without a quantization", async () => {
    hub("HuggingFaceTB/SmolLM2-360M-Instruct-GGUF/resolve/main/smollm2-360m-instruct-q8_0.gguf", STORIES);
    hub("Qwen/Qwen2.5-0.5B-Instruct-GGUF/resolve/main/qwen2.5-0.5b-instruct-q8_0.gguf", LONG);
    for (const [model, bytes] of /** @type {const} */ ([["smollm2-360m", STORIES], ["SmolLM2-360M-Instruct:Q8_0", STORIES], ["qwen2.5-0.5b:q8_0", LONG]])) {
      const { ids, info, error } = await answer({ model, hub: "/mirror" });
      assert.deepEqual(ids, IDS, `${model}: ${error.message}`);
      assert.equal(info.sha256, digestOf(bytes));
    }
    const models = await list();
    assert.deepEqual(models.map(({ model }) => model), ["hf:HuggingFaceTB/SmolLM2-360M-Instruct-GGUF/smollm2-360m-instruct-q8_0.gguf", "hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF/qwen2.5-0.5b-instruct-q8_0.gguf"]);
    assert.ok(models.every(({ verified }) => verified), "the hub knows the digest");
    const wrong = await Promise.all(["smollm2-360m:q2_k", "smollm4-1b", "hf:nobody"].map((model) => answer({ model, hub: "/mirror" })));
    assert.deepEqual(wrong.map(({ error }) => error.code), ["BAD_REQUEST", "BAD_REQUEST", "BAD_REQUEST"]);
    assert.match(wrong[0].error.message, /comes as "smollm2-360m:q8_0"/);
    assert.match(wrong[1].error.message, /not in the catalogue, which has .*smollm2-360m-instruct.*"\.\/smollm4-1b"/);
    assert.match(wrong[2].error.message, /hf:owner\/repository@revision\/file\.gguf/);
  });

  test("of the Hub, with a revision, whose digest is checked without being asked for", async () => {
    hub("me/models/resolve/v1.1/small/stories.gguf", STORIES);
    const { ids, error } = await answer({ model: "hf:me/models@v1.1/small/stories.gguf", hub: "/mirror" });
    assert.deepEqual(ids, IDS, error.message);
    hub("me/models/resolve/main/bad.gguf", STORIES, digestOf(LONG));
    assert.equal((await answer({ model: "hf:me/models/bad.gguf", hub: "/mirror" })).error.code, "INTEGRITY");
    assert.deepEqual((await list()).map(({ model }) => model), ["hf:me/models@v1.1/small/stories.gguf"]);
    // A hub that says nothing.
    it.route("/mirror/me/models/resolve/main/plain.gguf", file(STORIES));
    assert.deepEqual((await answer({ model: "hf:me/models/plain.gguf", hub: "/mirror" })).ids, IDS);
  });

  test("a token goes to the hub and nowhere else, not even into the store", async () => {
    const headers = { Authorization: "Bearer hub-secret" };
    it.route("/mirror/me/gated/resolve/main/m.gguf", (request, response) => {
      if (request.headers.authorization !== headers.Authorization) return void response.writeHead(401).end();
      response.writeHead(302, { Location: `${it.other.base}/signed.gguf?signature=cdn-secret` }).end();
    });
    it.route("/signed.gguf", file(LONG, { cutAfter: (nth) => (nth < 2 ? 3_000_000 : undefined) }));
    const { ids, error } = await answer({ model: "hf:me/gated/m.gguf", hub: "/mirror", headers });
    assert.deepEqual(ids, IDS, error.message);
    assert.ok(requests("/signed.gguf").length === 3 && requests("/signed.gguf").every(({ headers }) => headers.authorization === undefined));
    assert.equal(requests("/mirror/me/gated/resolve/main/m.gguf").length, 3, "each time the hub signs anew");
    const logs = await it.page.evaluate(async () => {
      const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle("kinglet-models");
      const texts = [];
      for await (const [name, handle] of /** @type {any} */ (folder).entries()) if (name.endsWith(".log")) texts.push(await (await handle.getFile()).text());
      return texts.join();
    });
    assert.match(logs, /hf:me\/gated\/m\.gguf/);
    assert.doesNotMatch(logs, /secret/);
  });
});

describe("a download goes on", () => {
  test("where it was when the page was reloaded, if the file is the same", async () => {
    const { route, seen } = throttled(LONG, 8e6);
    it.route("/m.gguf", route);
    await begin("/m.gguf", 2e6);
    await it.reload();
    const before = await stored();
    const { ids, info, phases, error } = await answer({ model: "/m.gguf" });
    assert.deepEqual(ids, IDS, error.message);
    assert.equal(info.sha256, digestOf(LONG));
    const asked = requests("/m.gguf").at(-1);
    assert.equal(asked?.headers["if-range"], '"v1"');
    assert.equal(asked?.headers.range, `bytes=${before}-`);
    assert.ok(seen.sent < LONG.length + 6e6, `${seen.sent} bytes were sent of ${LONG.length}`);
    const download = phases.filter(({ phase }) => phase === "download");
    assert.ok(download[0].loaded >= before, "what is there counts from the beginning");
    const rate = download.at(-2);
    assert.ok(rate.bytesPerSecond > 1e6 && rate.bytesPerSecond < 40e6, `${rate.bytesPerSecond} bytes a second`);
    assert.ok(download.some(({ secondsLeft }) => secondsLeft > 0));
  });

  test("not with another file: that one is downloaded from its beginning", async () => {
    it.route("/m.gguf", throttled(LONG, 8e6).route);
    await begin("/m.gguf", 2e6);
    await it.reload();
    it.route("/m.gguf", file(OTHER, { etag: '"v2"' }));
    const { ids, info, events, error } = await answer({ model: "/m.gguf" });
    assert.deepEqual(ids, IDS, error.message);
    assert.equal(info.sha256, digestOf(OTHER));
    assert.deepEqual(events.map(({ type }) => type), ["download-restarted"]);
  });

  test("nor without a sign of which file it was", async () => {
    it.route("/m.gguf", throttled(LONG, 8e6, { etag: null }).route);
    await begin("/m.gguf", 2e6);
    await it.reload();
    const { route, seen } = throttled(OTHER, 80e6, { etag: null });
    it.route("/m.gguf", route);
    assert.equal((await answer({ model: "/m.gguf" })).info.sha256, digestOf(OTHER));
    assert.deepEqual(seen.ranges, [undefined]);
  });

  test("after a crash that tore the record, and from nothing where the bytes are gone", async () => {
    const { route, seen } = throttled(LONG, 8e6);
    it.route("/m.gguf", route);
    await begin("/m.gguf", 2e6);
    await it.reload();
    /** Does something to the files of the store. */
    const damage = (/** @type {"log" | "data"} */ what) => it.page.evaluate(async (what) => {
      const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle("kinglet-models");
      for await (const [name, handle] of /** @type {any} */ (folder).entries()) {
        if (name.endsWith(what === "log" ? ".gguf" : ".log")) continue;
        const writable = await handle.createWritable({ keepExistingData: true });
        const { size } = await handle.getFile();
        if (what === "log") await writable.write({ type: "write", position: size, data: '\n{"version":1,"name":"torn","done":[[0,' });
        else await writable.truncate(100_000);
        await writable.close();
      }
    }, what);
    await damage("log");
    const before = await stored();
    assert.ok(before >= 2e6, "the line before the torn one counts");
    await begin("/m.gguf", before + 1e6);
    assert.equal(seen.ranges.at(-1), `bytes=${before}-`);
    await it.reload();
    await damage("data");
    assert.deepEqual(await list(), [], "a record of bytes that are not there counts for nothing");
    const { ids, info } = await answer({ model: "/m.gguf" });
    assert.deepEqual([ids, info.sha256], [IDS, digestOf(LONG)]);
    assert.equal(seen.ranges.at(-1), undefined);
  });

  test("and what an interrupted removal left is swept away", async () => {
    it.route("/m.gguf", file(LONG));
    const names = () => it.page.evaluate(async () => {
      const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle("kinglet-models", { create: true });
      const names = [];
      for await (const name of /** @type {any} */ (folder).keys()) names.push(name);
      return names;
    });
    await it.page.evaluate(async () => {
      const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle("kinglet-models", { create: true });
      await folder.getFileHandle(`${"0".repeat(40)}.gguf`, { create: true });
    });
    assert.equal((await names()).length, 1);
    await it.page.evaluate(() => createEngine({ model: "/m.gguf", backend: "cpu" }).then(() => {}));
    for (let tries = 0; (await names()).length !== 2 && tries < 50; tries++) await new Promise((resolve) => setTimeout(resolve, 50));
    assert.ok((await names()).length === 2 && !(await names()).some((name) => name.startsWith("000")), `${await names()}`);
  });

  test("over several connections where one is slow", async () => {
    const bytes = padded(40 << 20, 3);
    const { route, seen } = throttled(bytes, 4e6);
    it.route("/slow.gguf", route);
    const { seconds, digest, persisted } = await it.page.evaluate(async () => {
      let persisted = 0;
      navigator.storage.persist = async () => Boolean(++persisted);
      const started = performance.now();
      const { sha256 } = await kinglet.models.import("/slow.gguf");
      return { seconds: (performance.now() - started) / 1000, digest: sha256?.[0], persisted };
    });
    assert.equal(digest, digestOf(bytes));
    const alone = bytes.length / 4e6;
    assert.ok(seen.most > 1 && seen.most <= 4, `${seen.most} connections`);
    assert.ok(seconds < 0.8 * alone, `${seconds} s, where one connection would have taken ${alone}`);
    assert.ok(seen.sent < 1.3 * bytes.length, `${seen.sent} bytes were sent of ${bytes.length}`);
    assert.equal(persisted, 0, "this is no large model");
  });

  test("over the first connection where the others fail, however far it is", async () => {
    const bytes = Buffer.concat([STORIES, randomBytes(112 << 20)]);
    const { route } = throttled(bytes, 28e6);
    let [helpers, refused] = [0, 0];
    it.route("/m.gguf", (request, response, nth) => {
      const piece = /^bytes=\d+-\d+$/.test(request.headers.range ?? "") && helpers < 1;
      // The first one begins well, is cut, and meets a server that has had enough: the first connection is far ahead by then.
      if (!piece && !refused) return route(request, response, nth);
      if (piece) {
        helpers++;
        refused = 6;
        route(request, response, nth);
        return void setTimeout(() => response.destroy(), 100);
      }
      const [from] = /\d+/.exec(request.headers.range ?? "") ?? [];
      if (Number(from) % (8 << 20) === 0) return route(request, response, nth);
      refused--;
      response.writeHead(503).end();
    });
    const digest = await it.page.evaluate(async () => (await kinglet.models.import("/m.gguf")).sha256?.[0]);
    assert.equal(digest, digestOf(bytes));
    assert.ok(helpers === 1 && refused < 3, `${helpers} helpers, ${6 - refused} refusals`);
  });

  test("over one connection where that is fast, and persistent storage is asked for", async () => {
    const bytes = padded(72 << 20, 4);
    it.route("/fast.gguf", file(bytes));
    const { persisted, seconds } = await it.page.evaluate(async () => {
      let persisted = 0;
      navigator.storage.persist = async () => Boolean(++persisted);
      const started = performance.now();
      await kinglet.models.import("/fast.gguf");
      return { persisted, seconds: (performance.now() - started) / 1000 };
    });
    assert.equal(persisted, 1);
    // On a busy machine nothing is fast.
    if (seconds < 2) assert.equal(requests("/fast.gguf").length, 1);
  });
});

describe("two tabs", () => {
  test("download once: the second one sees how far the first is, and loads from the store", async () => {
    // Six seconds of it: the second tab is there long before the end.
    it.route("/m.gguf", throttled(LONG, 1.5e6).route);
    await begin("/m.gguf", 1e6);
    const tab = await it.newTab();
    const busy = await tab.evaluate(() => failure(kinglet.models.delete("/m.gguf")));
    assert.equal(busy.code, "BAD_REQUEST");
    const { ids, phases, error } = await answer({ model: "/m.gguf" }, tab);
    assert.deepEqual(ids, IDS, error.message);
    assert.equal(requests("/m.gguf").length, 1);
    const download = phases.filter(({ phase }) => phase === "download");
    assert.ok(download.length > 2 && download[0].loaded > 0 && download[0].total === LONG.length, JSON.stringify(download.slice(0, 3)));
    await tab.close();
  });

  test("share the parts of a split model without waiting for one another for ever", async () => {
    const parts = split(LONG, 3);
    parts.forEach((part, i) => it.route(`/split-0000${i + 1}-of-00003.gguf`, throttled(part, 4e6).route));
    const tab = await it.newTab();
    const model = "/split-00001-of-00003.gguf";
    const both = await Promise.all([answer({ model }), answer({ model }, tab)]);
    assert.deepEqual(both.map(({ ids }) => ids), [IDS, IDS], both.map(({ error }) => error.message).join());
    assert.deepEqual(both.map(({ info }) => info.sha256), Array(2).fill(digestOf(Buffer.concat(parts))));
    const fetched = it.seen.filter(({ path, headers }) => path.startsWith("/split") && !/^bytes=[1-9]/.test(headers.range ?? ""));
    assert.equal(fetched.length, 3, "each part was begun once");
    await tab.close();
  });

  test("where the first one is closed, the second goes on", async () => {
    const { route, seen } = throttled(LONG, 8e6);
    it.route("/m.gguf", route);
    const tab = await it.newTab();
    await begin("/m.gguf", 2e6, tab);
    const waiting = answer({ model: "/m.gguf" });
    await new Promise((resolve) => setTimeout(resolve, 300));
    assert.equal(seen.ranges.length, 1);
    await tab.close();
    const { ids, info, error } = await waiting;
    assert.deepEqual(ids, IDS, error.message);
    assert.equal(info.sha256, digestOf(LONG));
    assert.equal(seen.ranges.length, 2);
    assert.match(seen.ranges[1] ?? "", /^bytes=[1-9]\d{6}-$/);
  });
});

describe("without a network", () => {
  test("a stored model loads and answers", async () => {
    it.route("/m.gguf", file(LONG));
    const context = it.page.context();
    const got = await it.page.evaluate(async () => {
      // The package's own files are for the page to keep: here they are in memory.
      const held = async (path, type) => URL.createObjectURL(new Blob([await (await fetch(`/pkg/${path}`)).arrayBuffer()], { type }));
      const options = { worker: await held("dist/worker.js", "text/javascript"), wasmUrl: await held("wasm/relaxed/kinglet_bg.wasm", "application/wasm") };
      Object.assign(globalThis, { options });
      const engine = await createEngine({ model: "/m.gguf", ...options });
      return engine.info.sha256;
    });
    assert.equal(got, digestOf(LONG));
    await context.setOffline(true);
    try {
      const offline = await it.page.evaluate(async () => {
        const { options } = /** @type {any} */ (globalThis);
        const engine = await createEngine({ model: "/m.gguf", revalidate: true, ...options });
        const report = await kinglet.inspect("/m.gguf", options);
        return { ids: (await greedy(engine)).choices[0].token_ids, architecture: report.architecture, other: await failure(createEngine({ model: "/other.gguf", ...options })) };
      });
      assert.deepEqual(offline.ids, IDS);
      assert.equal(offline.architecture, "llama");
      assert.equal(offline.other.code, "DOWNLOAD_FAILED");
    } finally {
      await context.setOffline(false);
    }
    assert.equal(requests("/m.gguf").length, 1);
  });

  test("with one, a server is asked only where the caller wants it", async () => {
    it.route("/m.gguf", inTurn(file(LONG), status(500)));
    await answer({ model: "/m.gguf" });
    assert.deepEqual((await answer({ model: "/m.gguf" })).ids, IDS);
    assert.equal(requests("/m.gguf").length, 1);
    it.route("/m.gguf", file(LONG));
    assert.equal((await answer({ model: "/m.gguf", revalidate: true })).info.sha256, digestOf(LONG));
    assert.deepEqual(requests("/m.gguf").map(({ headers }) => headers.range), ["bytes=0-0"]);
    it.route("/m.gguf", file(OTHER, { etag: '"v2"' }));
    assert.equal((await answer({ model: "/m.gguf" })).info.sha256, digestOf(LONG));
    assert.equal((await answer({ model: "/m.gguf", revalidate: true })).info.sha256, digestOf(OTHER));
    assert.equal((await answer({ model: "/m.gguf" })).info.sha256, digestOf(OTHER));
  });

  test("after a crash the engine comes back from the store", async () => {
    it.route("/m.gguf", inTurn(file(LONG), status(500)));
    const ids = await it.page.evaluate(async () => {
      const spied = spy();
      const engine = await createEngine({ model: "/m.gguf", backend: "cpu", worker: spied.start });
      spied.trap();
      await failure(greedy(engine));
      return (await greedy(engine)).choices[0].token_ids;
    });
    assert.deepEqual(ids, IDS);
    assert.equal(requests("/m.gguf").length, 1);
  });
});

describe("a full disk", () => {
  /** Runs `act` while the origin may store so many bytes. */
  async function within(/** @type {number} */ quotaSize, /** @type {() => Promise<void>} */ act) {
    const page = /** @type {import("playwright-core").Page} */ (it.page);
    const session = await page.context().newCDPSession(page);
    const origin = new URL(it.site.base).origin;
    await session.send("Storage.overrideQuotaForOrigin", { origin, quotaSize });
    try {
      await act();
    } finally {
      await session.send("Storage.overrideQuotaForOrigin", { origin });
      await session.detach();
    }
  }

  test("is noticed before the download where the size is known", async () => {
    const { route, seen } = throttled(LONG, 20e6);
    it.route("/m.gguf", route);
    await within(5e6, async () => {
      const { error } = await answer({ model: "/m.gguf" });
      assert.equal(error.code, "STORAGE_FULL");
      assert.equal(error.details.needBytes, LONG.length);
      // Chromium grants space by powers of two.
      assert.ok(error.details.freeBytes > 1e6 && error.details.freeBytes < 5e6, JSON.stringify(error.details));
      assert.match(error.message, /needs 10 MB more of this origin's storage, which has \d MB left.*models\.delete.*cache: "none"/);
      assert.ok(seen.sent < 4e6, `${seen.sent} bytes were sent`);
      assert.deepEqual(await list(), []);
      assert.deepEqual((await answer({ model: "/m.gguf", cache: "none" })).ids, IDS);
    });
    assert.deepEqual((await answer({ model: "/m.gguf" })).ids, IDS);
  });

  for (const cache of /** @type {const} */ (["opfs", "cache-api"])) {
    test(`in the middle of it leaves what had come (${cache})`, async () => {
      // Nobody knows the size before the end.
      const { route, seen } = throttled(LONG, 20e6, { size: false });
      it.route("/m.gguf", route);
      await within(7e6, async () => {
        const { error } = await answer({ model: "/m.gguf", cache });
        assert.equal(error.code, "STORAGE_FULL", error.message);
      });
      const before = await stored();
      assert.ok(before >= 4e6, `${before} bytes are left`);
      const { ids, info, error } = await answer({ model: "/m.gguf", cache });
      assert.deepEqual(ids, IDS, error.message);
      assert.equal(info.sha256, digestOf(LONG));
      assert.equal(seen.ranges.at(-1), `bytes=${before}-`);
    });
  }
});
