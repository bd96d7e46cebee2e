// `inspect`, and the refusal of what cannot fit: neither reads more than the header of a large file.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, beforeEach, describe, test } from "node:test";
import { llamaHeader } from "./lib/gguf.mjs";
import { openPackage, PACKAGE, STORIES } from "./lib/package.mjs";

/** @type {Awaited<ReturnType<typeof openPackage>>} */
let it;
before(async () => void (it = await openPackage()));
after(() => it.close());
beforeEach(() => it.open());

const MIB = 1 << 20;
/** 7 GB: no page holds it. */
const LARGE = llamaHeader({ layers: 32, hidden: 4096, ffn: 11_008, vocabulary: 32_000, name: "large" });

/** A header before gigabytes of nothing; counts what it sends. */
function large({ ranges = true } = {}) {
  const sent = { bytes: 0, requests: 0 };
  it.route("/large.gguf", (request, response) => {
    sent.requests++;
    const range = ranges && /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
    const start = range ? Number(range[1]) : 0;
    const end = range && range[2] ? Number(range[2]) + 1 : LARGE.bytes;
    response.writeHead(range ? 206 : 200, {
      ETag: '"v1"', "Content-Type": "application/octet-stream", "Content-Length": end - start,
      ...(range && { "Content-Range": `bytes ${start}-${end - 1}/${LARGE.bytes}` }),
    });
    let at = start;
    const send = () => {
      while (at < end && !response.destroyed) {
        const piece = Buffer.alloc(Math.min(end - at, 64 << 10));
        if (at < LARGE.header.length) LARGE.header.copy(piece, 0, at);
        at += piece.length;
        sent.bytes += piece.length;
        if (!response.write(piece)) return void response.once("drain", send);
      }
      response.end();
    };
    send();
  });
  return sent;
}

describe("inspect", () => {
  test("says of a URL, a Blob and an ArrayBuffer what they are", async () => {
    const reports = await it.page.evaluate(async () => {
      const buffer = await bytes();
      return Promise.all([url, new Blob([buffer]), buffer].map((model) => kinglet.inspect(model)));
    });
    for (const report of reports) {
      assert.equal(report.architecture, "llama");
      assert.equal(report.fileBytes, STORIES.length);
      assert.ok(report.supported && report.problems.length === 0);
      assert.equal(report.quantization[0].type, "F32");
      assert.equal(report.tensors.length, 48);
      assert.equal(report.memory?.contextLength, 128);
      assert.ok(report.memory && report.memory.total > 1e6 && report.memory.heap > report.memory.total, JSON.stringify(report.memory));
      assert.deepEqual([report.fits?.cpu, report.fits?.gpu, report.fits?.nearest], [true, true, null]);
      const [onCpu, onGpu] = [report.memory?.kvCache ?? 0, report.gpuMemory?.kvCache ?? 0];
      assert.ok(onGpu > 0 && onCpu === (onGpu * 36) / 32, "heads of 8 in 16 places of two bytes; on the CPU with a scale");
    }
  });

  test("reads the header of a large file and no more", async () => {
    const sent = large();
    const report = await it.page.evaluate(() => kinglet.inspect("/large.gguf"));
    assert.equal(report.fileBytes, LARGE.bytes);
    assert.equal(report.fits?.cpu, false);
    assert.equal(/** @type {any} */ (report.fits?.nearest)?.id, "smollm2-1.7b-instruct");
    assert.ok(report.memory && report.memory.total > 7e9);
    assert.ok(sent.bytes < LARGE.header.length + MIB, `${sent.bytes} bytes in ${sent.requests} requests for a header of ${LARGE.header.length}`);
    await it.workersLeft();
  });

  test("hangs up on a server that knows no ranges", async () => {
    const sent = large({ ranges: false });
    const report = await it.page.evaluate(() => kinglet.inspect("/large.gguf"));
    assert.equal(report.fileBytes, LARGE.bytes);
    await it.workersLeft();
    // What browser and sockets hold between them.
    assert.ok(sent.bytes < 64 * MIB, `${sent.bytes} bytes`);
  });

  test("a shorter context is proposed where it is the context that does not fit", async () => {
    const fits = await it.page.evaluate(async () => {
      const ask = async (/** @type {number} */ contextLength) => (await kinglet.inspect(url, { contextLength })).fits;
      const long = /** @type {any} */ (await ask(10_000_000));
      return [long, await ask(long.nearest.contextLength), await ask(long.nearest.contextLength + 16)];
    });
    assert.deepEqual(fits.map((fits) => fits?.cpu), [false, true, false]);
  });

  test("what is no model, or cannot be read, is an error", async () => {
    it.route("/page.gguf", (_, response) => response.setHeader("Content-Type", "text/html").end("<html>"));
    const errors = await it.page.evaluate(async () => [
      await failure(kinglet.inspect(new Blob(["hello"]))),
      await failure(kinglet.inspect("/page.gguf")),
      await failure(kinglet.inspect("/nothing.gguf")),
      await failure(kinglet.inspect(/** @type {any} */ (new Blob(["x"]).stream()))),
      await failure(kinglet.inspect(url, { signal: AbortSignal.abort() })),
    ]);
    assert.deepEqual(errors.map(({ code }) => code), ["NOT_A_MODEL", "NOT_A_MODEL", "DOWNLOAD_FAILED", "BAD_REQUEST", "ABORTED"]);
  });
});

describe("createEngine", () => {
  for (const backend of /** @type {const} */ (["cpu", "auto"])) {
    test(`"${backend}" refuses what cannot fit before it is downloaded`, async () => {
      const sent = large();
      const error = await it.page.evaluate((backend) => failure(createEngine({ model: "/large.gguf", backend })), backend);
      assert.equal(error.code, "OUT_OF_MEMORY");
      assert.ok(error.details.needBytes > 7e9 && error.details.availableBytes < 2 ** 32, JSON.stringify(error.details));
      assert.match(error.message, /SmolLM2 1\.7B Instruct \w+ fits: \S+\.gguf of bartowski\//);
      await it.workersLeft();
      assert.ok(sent.bytes < 64 * MIB, `${sent.bytes} bytes`);
    });
  }
});

test("the catalogue comes with the package", async () => {
  const found = await it.page.evaluate(async () => {
    const { catalog, addressOf } = await import(/** @type {string} */ ("/pkg/dist/catalog.js"));
    return { catalog, address: addressOf(catalog[0].files[0]) };
  });
  assert.ok(found.catalog.length >= 13 && found.catalog.every(({ files, licence }) => files.length > 0 && licence.id));
  assert.match(found.address, /^https:\/\/huggingface\.co\/[^/]+\/[^/]+\/resolve\/main\/[^/]+\.gguf$/);
  assert.match(readFileSync(join(PACKAGE, "dist/catalog.d.ts"), "utf8"), /readonly CatalogModel\[\]/);
});
