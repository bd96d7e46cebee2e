// Embeddings through the package, in Chromium: OpenAI's shapes, on the CPU and on a GPU.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, SWIFTSHADER } from "./lib/browser.mjs";
import { openPackage } from "./lib/package.mjs";

/** @type {Awaited<ReturnType<typeof openPackage>>} */
let at;
before(async () => {
  at = await openPackage(() => launch(SWIFTSHADER));
  await at.page.evaluate(async () => {
    Object.assign(globalThis, { engine: await createEngine({ backend: "cpu" }) });
  });
});
after(() => at.close());

const cosine = (/** @type {number[]} */ a, /** @type {number[]} */ b) => a.reduce((sum, x, i) => sum + x * b[i], 0);

test("texts and ids, floats and base64, with the tokens counted", async () => {
  const found = await at.page.evaluate(async () => {
    const texts = ["A dog runs in the park.", "The puppy plays in the garden.", "What is seven plus five?"];
    const reply = await engine.embeddings.create({ input: texts });
    const one = await engine.embeddings.create({ input: texts[0], encoding_format: "base64" });
    const ids = await engine.embeddings.create({ input: [await engine.tokenize(texts[0])] });
    const bytes = Uint8Array.from(atob(String(one.data[0].embedding)), (c) => c.charCodeAt(0));
    return { reply, same: [...new Float32Array(bytes.buffer)], ids: ids.data[0].embedding, usage: one.usage, length: (await engine.tokenize(texts[0])).length };
  });
  const { reply, same, ids } = found;
  assert.equal(reply.object, "list");
  assert.deepEqual(reply.data.map(({ index, object }) => [index, object]), [[0, "embedding"], [1, "embedding"], [2, "embedding"]]);
  const [dog, puppy, sum] = reply.data.map(({ embedding }) => /** @type {number[]} */ (embedding));
  assert.equal(dog.length, 192);
  assert.ok(Math.abs(cosine(dog, dog) - 1) < 1e-5);
  assert.ok(cosine(dog, puppy) > cosine(dog, sum) + 0.05, `${cosine(dog, puppy)} and ${cosine(dog, sum)}`);
  assert.deepEqual(same, dog);
  assert.deepEqual(ids, dog);
  assert.deepEqual(found.usage, { prompt_tokens: found.length, total_tokens: found.length });
});

test("a GPU gives the same", async () => {
  const [cpu, gpu] = await at.page.evaluate(async () => {
    const other = await createEngine({ backend: "webgpu" });
    const input = "Once upon a time there was a little bird.";
    const embeddings = [await engine.embeddings.create({ input }), await other.embeddings.create({ input })].map(({ data }) => /** @type {number[]} */ (data[0].embedding));
    await other.dispose();
    return embeddings;
  });
  assert.ok(1 - cosine(cpu, gpu) < 1e-3, `1 - cosine is ${1 - cosine(cpu, gpu)}`);
});

test("they queue with answers, can be aborted, and say what is wrong", async () => {
  const found = await at.page.evaluate(async () => {
    const messages = [{ role: /** @type {const} */ ("user"), content: "Who are you?" }];
    const [before, embedded, later] = await Promise.all([
      engine.chat.completions.create({ messages, temperature: 0 }), engine.embeddings.create({ input: "x" }), engine.chat.completions.create({ messages, temperature: 0 }),
    ]);
    const controller = new AbortController();
    const many = failure(engine.embeddings.create({ input: Array(2000).fill("a long text ".repeat(20)) }, { signal: controller.signal }));
    setTimeout(() => controller.abort(), 50);
    const aborted = await many;
    const bad = [{}, { input: [] }, { input: [[1e9]] }, { input: "x", encoding_format: "int8" }, { input: "x", dimensions: 8 }, { input: "word ".repeat(600) }];
    const errors = [];
    for (const request of bad) errors.push(await failure(engine.embeddings.create(/** @type {any} */ (request))));
    return { texts: [before, later].map(({ choices }) => choices[0].message.content), embedded: embedded.data.length, aborted: aborted.code, errors: errors.map(({ code, message }) => `${code} ${message}`) };
  });
  assert.equal(found.texts[0], found.texts[1]);
  assert.equal(found.embedded, 1);
  assert.equal(found.aborted, "ABORTED");
  const wanted = [/^BAD_REQUEST input must be/, /^BAD_REQUEST input must be/, /^BAD_REQUEST input must be/, /^BAD_REQUEST encoding_format/, /^BAD_REQUEST dimensions/, /^CONTEXT_EXCEEDED/];
  found.errors.forEach((error, i) => assert.match(error, wanted[i]));
});
