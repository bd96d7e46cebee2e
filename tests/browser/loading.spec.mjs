// The packed package in real Chromium: every kind of model source, good and bad days of the network, bad files.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { after, before, beforeEach, describe, test } from "node:test";
import { split } from "./lib/gguf.mjs";
import { file, inTurn, status } from "./lib/hub.mjs";
import { GOLDEN, openPackage, PACKAGE, STORIES } from "./lib/package.mjs";

const SHA256 = createHash("sha256").update(STORIES).digest("hex");
const IDS = GOLDEN.ids.slice(0, 40);

/** @type {Awaited<ReturnType<typeof openPackage>>} */
let it;
before(async () => void (it = await openPackage()));
after(() => it.close());
beforeEach(() => it.open());

/** Loads with these options in the page; the ids of the golden run's beginning, or the failure. */
const load = loadIt;
function loadIt(/** @type {object} */ options) {
  return it.page.evaluate(async (options) => {
    const phases = [];
    const events = [];
    const onProgress = (progress) => phases.push(progress);
    const onEvent = (event) => events.push(event);
    const error = { code: "", message: "", details: {} };
    const loading = createEngine({ ...options, onProgress, onEvent });
    Object.assign(error, await failure(loading));
    if (error.code !== "nothing failed") return { error, phases, events, ids: [] };
    const reply = await greedy(await loading);
    return { error, phases, events, ids: reply.choices[0].token_ids };
  }, options);
}

describe("sources", () => {
  for (const kind of ["URL", "relative URL", "Blob", "File", "ArrayBuffer", "Uint8Array", "ReadableStream", "split Blobs"]) {
    test(`a ${kind}`, async () => {
      it.route("/parts", (_, response) => response.end(JSON.stringify(split(STORIES, 3).map((part) => [...part]))));
      const { ids, left } = await it.page.evaluate(async (kind) => {
        const buffer = await bytes();
        const shifted = new Uint8Array(buffer.byteLength + 5);
        shifted.set(new Uint8Array(buffer), 5);
        const parts = async () => (await (await fetch("/parts")).json()).map((part) => new Blob([Uint8Array.from(part)]));
        /** @type {Record<string, () => any>} */
        const models = {
          "URL": () => new URL(url, location.href),
          "relative URL": () => "../data/stories260K/stories260K.gguf",
          "Blob": () => new Blob([buffer]),
          "File": () => new File([buffer], "stories.gguf"),
          "ArrayBuffer": () => buffer,
          "Uint8Array": () => shifted.subarray(5),
          "ReadableStream": () => new Blob([buffer]).stream(),
          "split Blobs": parts,
        };
        const reply = await greedy(await createEngine({ model: await models[kind]() }));
        return { ids: reply.choices[0].token_ids, left: buffer.byteLength };
      }, kind);
      assert.deepEqual(ids, IDS);
      assert.equal(left, STORIES.length, "the caller's buffer stays whole");
    });
  }

  test("the model that comes with the package", { skip: !existsSync(join(PACKAGE, "dist/default.gguf")) && "the package has none yet" }, async () => {
    const { info, text } = await it.page.evaluate(async () => {
      const engine = await createEngine();
      const reply = await engine.chat.completions.create({ messages: [{ role: "user", content: "Hello" }], max_tokens: 16 });
      return { info: engine.info, text: reply.choices[0].message.content };
    });
    assert.equal(info.architecture, "llama");
    assert.ok(text);
  });

  test("a split file is loaded from the URL of any part", async () => {
    split(STORIES, 3).forEach((part, i) => it.route(`/split-0000${i + 1}-of-00003.gguf`, file(part)));
    const { ids, phases } = await load({ model: "/split-00002-of-00003.gguf" });
    assert.deepEqual(ids, IDS);
    const whole = phases.filter(({ phase }) => phase === "download").at(-1);
    assert.equal(whole?.loaded, whole?.total);
    assert.ok((whole?.total ?? 0) > STORIES.length);
  });

  test("progress goes through its phases, each up to its total", async () => {
    it.route("/m.gguf", file(STORIES));
    const { phases } = await load({ model: "/m.gguf", sha256: SHA256 });
    const ends = (name) => phases.filter(({ phase }) => phase === name).at(-1);
    const { bytesPerSecond, secondsLeft, ...download } = ends("download") ?? {};
    assert.deepEqual(download, { phase: "download", loaded: STORIES.length, total: STORIES.length });
    assert.ok(bytesPerSecond > 0 && secondsLeft === 0, `${bytesPerSecond} bytes a second, ${secondsLeft} s left`);
    assert.equal(ends("verify")?.loaded, STORIES.length);
    assert.equal(ends("load")?.loaded, ends("load")?.total);
    assert.deepEqual(ends("compile"), { phase: "compile", loaded: 1, total: 1 });
    assert.deepEqual(phases.at(-1), { phase: "ready", loaded: 1, total: 1 });
  });

  test("a digest is checked while the file streams in", async () => {
    it.route("/m.gguf", file(STORIES));
    assert.deepEqual((await load({ model: "/m.gguf", sha256: SHA256.toUpperCase() })).ids, IDS);
    const { error } = await load({ model: "/m.gguf", sha256: SHA256.replace(/^./, (c) => (c === "0" ? "1" : "0")) });
    assert.equal(error.code, "INTEGRITY");
    assert.ok(error.message.includes(SHA256));
    assert.equal((await load({ model: "/m.gguf", sha256: "abc" })).error.code, "BAD_REQUEST");
  });
});

for (const cache of /** @type {const} */ (["auto", "none"])) describe(`network, cache: "${cache}"`, () => {
  const load = (/** @type {object} */ options) => loadIt({ cache, ...options });

  test("a cut connection goes on where it stopped, with the same file", async () => {
    it.route("/cut.gguf", file(STORIES, { cutAfter: (nth) => (nth < 3 ? 300_000 : undefined) }));
    const { ids, events } = await load({ model: "/cut.gguf", sha256: SHA256 });
    assert.deepEqual(ids, IDS);
    const asked = it.seen.filter(({ path }) => path === "/cut.gguf");
    const ranges = asked.map(({ headers }) => headers.range);
    assert.equal(ranges[0], undefined);
    assert.ok(ranges.length === 4 && ranges.slice(1).every((range) => /^bytes=\d+-$/.test(range ?? "")), `${ranges}`);
    assert.equal(asked[1].headers["if-range"], '"v1"');
    assert.equal(events.filter(({ type }) => type === "download-resumed").length, 3);
  });

  test("a server without ranges, one without lengths, and another origin: resumed all the same", async () => {
    const cutAfter = (nth) => (nth === 0 ? 500_000 : undefined);
    it.route("/whole.gguf", file(STORIES, { cutAfter, ranges: false }));
    assert.deepEqual((await load({ model: "/whole.gguf" })).ids, IDS);
    it.route("/chunked.gguf", file(STORIES, { cutAfter, chunked: true }));
    assert.deepEqual((await load({ model: "/chunked.gguf" })).ids, IDS);
    it.route("/other.gguf", file(STORIES, { cutAfter }));
    assert.deepEqual((await load({ model: `${it.other.base}/other.gguf` })).ids, IDS);
  });

  test("a file that changes between two tries is not glued together", async () => {
    const answers = inTurn(file(STORIES, { cutAfter: () => 500_000 }), file(STORIES, { etag: '"v2"' }));
    it.route("/changed.gguf", answers);
    const { error } = await load({ model: "/changed.gguf" });
    assert.equal(error.code, "DOWNLOAD_FAILED");
    assert.match(error.message, /changed on the server/);
  });

  test("a busy server is asked again, a broken one is given up with advice", async () => {
    it.route("/busy.gguf", inTurn(status(503, { "Retry-After": "0" }), status(429), file(STORIES)));
    assert.deepEqual((await load({ model: "/busy.gguf" })).ids, IDS);
    it.route("/dead.gguf", (_, response) => response.destroy());
    const { error } = await load({ model: "/dead.gguf" });
    assert.equal(error.code, "DOWNLOAD_FAILED");
    assert.match(error.message, /3 tries.*check the address and the network/);
  });

  for (const [code, advice] of /** @type {const} */ ([[404, /no such file/], [401, /headers: \{ Authorization/], [403, /refuses access/], [410, /no such file/], [418, /answered 418/]])) {
    test(`status ${code} has its own message, at once`, async () => {
      it.route("/status.gguf", status(code));
      const { error } = await load({ model: "/status.gguf" });
      assert.equal(error.code, "DOWNLOAD_FAILED");
      assert.match(error.message, advice);
      assert.equal(error.details.status, code);
      assert.equal(it.seen.filter(({ path }) => path === "/status.gguf").length, 1);
    });
  }

  test("headers go to the given origin only, through a redirect too", async () => {
    it.route("/gated.gguf", (request, response) => {
      if (request.headers.authorization !== "Bearer secret") return void response.writeHead(401).end();
      response.writeHead(302, { Location: `${it.other.base}/cdn.gguf` }).end();
    });
    it.route("/cdn.gguf", file(STORIES, { cutAfter: (nth) => (nth === 0 ? 400_000 : undefined) }));
    const { ids, error: none } = await load({ model: "/gated.gguf", headers: { Authorization: "Bearer secret" } });
    assert.deepEqual(ids, IDS, none.message);
    const elsewhere = it.seen.filter(({ origin }) => origin === "other");
    assert.ok(elsewhere.length >= 2 && elsewhere.every(({ headers }) => headers.authorization === undefined));
    assert.equal((await load({ model: "/gated.gguf", cache: "none" })).error.details.status, 401);

    it.route("/moved.gguf", (_, response) => void response.writeHead(302, { Location: `${it.other.base}/cdn.gguf` }).end());
    const { error } = await load({ model: "/moved.gguf", headers: { "X-Token": "secret" } });
    assert.equal(error.code, "DOWNLOAD_FAILED");
    assert.match(error.message, /redirects/);
    assert.ok(it.seen.every(({ origin }) => origin === "page"));
  });

  test("an aborted download ends the connection and the worker", async () => {
    const closed = new Promise((resolve) => {
      it.route("/slow.gguf", (request, response) => {
        response.writeHead(200, { "Content-Length": STORIES.length });
        response.write(STORIES.subarray(0, 200_000));
        request.on("close", resolve);
        response.on("close", resolve);
      });
    });
    const error = await it.page.evaluate(async (cache) => {
      const controller = new AbortController();
      const onProgress = ({ phase, loaded }) => phase === "download" && loaded > 0 && controller.abort(new Error("enough"));
      return failure(createEngine({ model: "/slow.gguf", cache, signal: controller.signal, onProgress }));
    }, cache);
    assert.equal(error.code, "ABORTED");
    await closed;
    await it.workersLeft();
  });
});

describe("bad files", () => {
  test("a web page instead of a file", async () => {
    it.route("/blob/m.gguf", (_, response) => void response.setHeader("Content-Type", "text/html; charset=utf-8").end("<!doctype html>"));
    const { error } = await load({ model: "/blob/m.gguf" });
    assert.equal(error.code, "NOT_A_MODEL");
    assert.match(error.message, /web page.*\/resolve\//);
  });

  test("another kind of file", async () => {
    it.route("/cat.png", file(Buffer.from("\x89PNG\r\n\x1a\n" + "x".repeat(1000), "latin1")));
    assert.equal((await load({ model: "/cat.png" })).error.code, "NOT_A_MODEL");
    assert.equal((await it.page.evaluate(() => failure(createEngine({ model: new Blob([]) })))).code, "NOT_A_MODEL");
    assert.equal((await load({ model: 42 })).error.code, "BAD_REQUEST");
  });

  test("a truncated file, in its header and in its tensors", async () => {
    for (const length of [20, 3000, 12_000, STORIES.length - 1]) {
      it.route("/short.gguf", file(STORIES.subarray(0, length)));
      const { error } = await load({ model: "/short.gguf" });
      assert.equal(error.code, "CORRUPT_FILE", `${length} bytes: ${error.message}`);
      assert.match(error.message, /truncated/);
    }
    const error = await it.page.evaluate(async () => failure(createEngine({ model: new Blob([(await bytes()).slice(0, 900_000)]).stream() })));
    assert.equal(error.code, "CORRUPT_FILE");
    await it.workersLeft();
  });

  test("one part of a split file alone", async () => {
    const [part] = split(STORIES, 2);
    it.route("/alone.gguf", file(part));
    const { error } = await load({ model: "/alone.gguf" });
    assert.equal(error.code, "BAD_REQUEST");
    assert.match(error.message, /part 1 of 2/);
  });
});
