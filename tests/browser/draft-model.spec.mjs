// A draft model beside the engine's, in real Chromium: the same answers, whatever becomes of it.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { file, status } from "./lib/hub.mjs";
import { openPackage, STORIES } from "./lib/package.mjs";
import { ROOT } from "./lib/server.mjs";

const TINY = readFileSync(join(ROOT, "models/kinglet-tiny.gguf"));

/** Runs in the page. */
function inPage() {
  Object.assign(globalThis, {
    ask: (engine, content, more = {}) => engine.chat.completions.create({ messages: [{ role: "user", content }], temperature: 0, max_tokens: 60, ...more }),
    told: ({ choices, usage }) => ({ ids: choices[0].token_ids, reason: choices[0].finish_reason, cached: usage.prompt_tokens_details.cached_tokens, ...usage.completion_tokens_details }),
  });
}

/** @type {Awaited<ReturnType<typeof openPackage>>} */
let it;
before(async () => void (it = await openPackage()));
after(() => it.close());
beforeEach(async () => {
  await it.open();
  it.route("/tiny.gguf", file(TINY));
  it.route("/draft.gguf", file(TINY));
  await it.page.evaluate(inPage);
});

test("the answers are the same; it is downloaded, kept and counted as the model is", async () => {
  const got = await it.page.evaluate(async () => {
    const progress = [];
    const engine = await createEngine({ model: "/tiny.gguf", draft: "/draft.gguf", backend: "cpu", onProgress: (p) => progress.push(p) });
    const { info } = engine;
    const weights = (await engine.memory()).weights;
    const pairs = [];
    const cases = [{}, { temperature: 0.9, seed: 5 }, { stop: ["tree"] }, { max_tokens: 3 }, { logprobs: true, top_logprobs: 3 }, { logit_bias: { 20: 3 }, repeat_penalty: 1.2 }];
    for (const more of cases) {
      const [plain, drafted] = [await ask(engine, "Tell me a story about a bird.", { ...more, drafts: "never" }), await ask(engine, "Tell me a story about a bird.", { ...more, drafts: "always" })];
      pairs.push([plain.choices[0], drafted.choices[0], engine.stats()]);
    }
    // Left in the middle of what was checked.
    const stream = await ask(engine, "Tell me a story about a bird.", { drafts: "always", stream: true });
    let chunks = 0;
    for await (const _ of stream) if (++chunks === 6) break;
    const after = told(await ask(engine, "Tell me a story about a bird.", { drafts: "always" }));
    await engine.dispose();
    const alone = await createEngine({ model: "/tiny.gguf", backend: "cpu" });
    const single = { draft: alone.info.draft, weights: (await alone.memory()).weights };
    await alone.dispose();
    return { info, weights, pairs, after, single, progress, kept: (await kinglet.models.list()).map(({ model }) => new URL(model).pathname) };
  });
  assert.equal(got.info.draft, "Kinglet Tiny");
  assert.deepEqual([got.single.draft, got.weights], [null, 2 * got.single.weights]);
  for (const [plain, drafted] of got.pairs) assert.deepEqual(drafted, plain);
  const [[plain, , stats]] = got.pairs;
  const ids = plain.token_ids;
  assert.deepEqual(got.after.ids, ids);
  assert.ok(stats && stats.modelAcceptedTokens > 0.7 * ids.length && stats.modelAcceptedTokens >= 0.9 * stats.modelDraftedTokens - 8, JSON.stringify(stats));
  assert.ok(stats.draftMs > 0 && stats.draftMs < stats.decodeMs, JSON.stringify(stats));
  assert.deepEqual(got.kept.toSorted(), ["/draft.gguf", "/tiny.gguf"]);
  const phases = (draft) => [...new Set(got.progress.filter((p) => p.draft === draft).map(({ phase }) => phase))];
  assert.deepEqual([phases(undefined), phases(true)], [["compile", "download", "load", "ready"], ["download", "load"]]);
  assert.equal(got.progress.findLast(({ phase, draft }) => phase === "load" && draft)?.loaded, got.progress.findLast(({ phase, draft }) => phase === "load" && draft)?.total);
  assert.equal(it.seen.filter(({ path }) => path === "/draft.gguf").length, 1);
});

for (const kind of ["URL", "Blob", "ArrayBuffer"]) {
  test(`after a crash the ${kind} is loaded again`, async () => {
    const got = await it.page.evaluate(async (kind) => {
      const spied = spy();
      const events = [];
      const buffer = await (await fetch("/tiny.gguf")).arrayBuffer();
      const model = { URL: "/tiny.gguf", Blob: new Blob([buffer]), ArrayBuffer: buffer }[kind];
      const engine = await createEngine({ model, draft: model, backend: "cpu", cache: "none", worker: spied.start, onEvent: ({ type }) => events.push(type) });
      const first = told(await ask(engine, "Who are you?", { drafts: "always" }));
      const crash = failure(ask(engine, "Tell me a story.", { max_tokens: 300, ignore_eos: true, drafts: "always" }));
      spied.trap();
      const { code } = await crash;
      const second = told(await ask(engine, "Who are you?", { drafts: "always" }));
      const accepted = engine.stats()?.modelAcceptedTokens ?? 0;
      await engine.dispose();
      return { first, second, code, accepted, events, workers: spied.started };
    }, kind);
    assert.equal(got.code, "ENGINE_CRASHED");
    assert.deepEqual(got.second.ids, got.first.ids);
    assert.ok(got.accepted > 0);
    assert.deepEqual([got.events, got.workers], [["engine-crashed", "engine-restarted"], 2]);
    await it.workersLeft();
  });
}

test("an answer in a form keeps it", async () => {
  const [plain, drafted, accepted] = await it.page.evaluate(async () => {
    const engine = await createEngine({ model: "/tiny.gguf", draft: "/tiny.gguf", backend: "cpu" });
    const response_format = { type: "json_schema", json_schema: { name: "birds", schema: { type: "array", minItems: 3, maxItems: 5, items: { type: "string", maxLength: 8 } } } };
    const answers = [];
    for (const drafts of ["never", "always"]) answers.push((await ask(engine, "Which birds?", { response_format, max_tokens: 100, drafts })).choices[0].message.content);
    return [...answers, engine.stats()?.acceptedTokens ?? 0];
  });
  assert.equal(drafted, plain);
  assert.ok(Array.isArray(JSON.parse(String(plain))) && Number(accepted) > 0, `${plain} ${accepted}`);
});

test("what cannot be had is told in an event, what is wrong in an error", async () => {
  it.route("/missing.gguf", status(404));
  it.route("/broken.gguf", file(Buffer.from("no model at all, but a text")));
  it.route("/other.gguf", file(STORIES));
  const got = await it.page.evaluate(async () => {
    const events = [];
    const engine = await createEngine({ model: "/tiny.gguf", draft: "/missing.gguf", backend: "cpu", onEvent: (event) => events.push(event) });
    const answer = told(await ask(engine, "Who are you?"));
    const { draft } = engine.info;
    await engine.dispose();
    const wrong = [];
    for (const draft of ["/other.gguf", "/broken.gguf", [], 7, "no-such-model", new Blob([]).stream()]) {
      wrong.push(await failure(createEngine({ model: "/tiny.gguf", draft: /** @type {any} */ (draft), backend: "cpu" })));
    }
    return { answer, draft, events, wrong };
  });
  assert.ok(got.answer.ids.length > 0 && got.draft === null);
  assert.deepEqual(got.events.map(({ type }) => type), ["draft-unavailable"]);
  assert.match(/** @type {any} */ (got.events[0]).reason, /missing\.gguf/);
  const [other, broken, ...options] = got.wrong;
  assert.equal(other.code, "BAD_REQUEST");
  assert.match(other.message, /draft model .* does not go with Kinglet Tiny: it has 512 tokens, not 2560/);
  assert.equal(broken.code, "NOT_A_MODEL");
  for (const { code, message } of options) {
    assert.equal(code, "BAD_REQUEST");
    assert.match(message, /^draft/);
  }
  await it.workersLeft();
});
