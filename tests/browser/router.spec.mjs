// The router in Chromium: the embedded model, real fetches, and a server that misbehaves as it is told.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { openRouters, PRICE } from "./lib/router.mjs";

/** @type {Awaited<ReturnType<typeof openRouters>>} */
let at;
/** @type {import("playwright-core").Page} */
let page;

before(async () => {
  at = await openRouters({ slowMs: 3000 });
  ({ page } = at);
});
after(() => at.close());

/** Where a server answers without any fault. */
const healthy = (/** @type {number} */ seed) => at.cloud.fault("none", seed, 0);
const kinds = (/** @type {{ type: string, source?: string }[]} */ events) => {
  const all = events.map(({ type, source }) => (source ? `${type} ${source}` : type));
  return all.filter((kind, i) => kind !== all[i - 1]);
};

test("a local answer that is good enough stays local, and no socket is opened", async () => {
  const { url, path } = await healthy(1);
  const opened = at.cloud.connections.opened;
  const { events, shown, answer } = await page.evaluate(async (url) => follow((await router(url)).ask(question("Who are you?"))), url);
  assert.deepEqual(kinds(events), ["token local", "check", "token local", "check", "token local", "check", "token local", "final"]);
  assert.match(shown, /^I am Kinglet/);
  assert.ok(answer);
  assert.equal(answer.text, shown);
  assert.equal(answer.source, "local");
  assert.equal(answer.degraded, null);
  assert.equal(answer.confidence.calibrated, true, "the file, the template, the sampler, the backend are those of the calibration");
  assert.ok(answer.confidence.pOk !== null && answer.confidence.tau !== null && answer.confidence.pOk >= answer.confidence.tau);
  const { record } = answer;
  assert.deepEqual(record.checks.map(({ k }) => k), [1, 8, 16]);
  assert.equal(record.egress.bytes, 0);
  assert.ok(Math.abs(record.features.logLength - Math.log(record.localTokens.output)) < 1e-12, "the logarithm is another library's");
  assert.ok(Math.abs(record.savedUsd - (record.localTokens.input * PRICE.input + record.localTokens.output * PRICE.output) / 1e6) < 1e-9);
  assert.deepEqual(at.cloud.posts(path), []);
  assert.equal(at.cloud.connections.opened, opened);
});

test("low confidence asks for consent, shows exactly what is sent, retracts the draft and shows the cloud's answer", async () => {
  const { url, path } = await healthy(2);
  const { events, shown, answer, preview } = await page.evaluate(async (url) => {
    /** @type {any} */
    let preview;
    const asked = (await router(url, { consent: (p) => ((preview = p), "once") })).ask(unsure());
    return { ...(await follow(asked)), preview };
  }, url);
  assert.deepEqual(kinds(events).filter((kind) => kind !== "check").filter((kind, i, all) => kind !== all[i - 1]), ["token local", "consent", "switch", "token cloud", "final"]);
  assert.ok(answer);
  assert.equal(answer.source, "cloud");
  assert.equal(answer.text, shown);
  assert.match(shown, /Paris/);
  assert.equal(answer.record.wantedCloud, "low-confidence");
  const draft = events.filter(({ type, source }) => type === "token" && source === "local").map(({ text }) => text).join("");
  assert.equal(events.find(({ type }) => type === "switch")?.retract, draft.length);
  const [sent] = at.cloud.posts(path);
  assert.equal(sent.body, preview.body);
  assert.equal(preview.to.model, "large");
  assert.deepEqual(JSON.parse(sent.body).messages, [{ role: "user", content: "Tell me a story." }]);
  assert.equal(answer.record.egress.bytes, Buffer.byteLength(sent.body));
  for (const name of ["cookie", "referer", "authorization"]) assert.equal(sent.headers[name], undefined, name);
  const { input, output } = /** @type {{ input: number, output: number }} */ (sent.billed);
  assert.ok(Math.abs(answer.record.costUsd - (input * PRICE.input + output * PRICE.output) / 1e6) < 1e-9);
});

test("offline the draft is the answer at once, and what waits in the outbox is asked when the network is back", async () => {
  const { url, path } = await healthy(5);
  await page.context().setOffline(true);
  const offline = await page.evaluate(async (url) => {
    const delivered = /** @type {any[]} */ ([]);
    // The binary is there already: the page has had routers before.
    const made = await router(url, { outbox: { persist: true, onAnswer: (entry, answer) => void delivered.push([entry, answer]) } });
    Object.assign(globalThis, { made, delivered });
    const { answer } = await follow(made.ask(unsure()));
    return { answer, waits: await made.outbox.list() };
  }, url);
  assert.equal(offline.answer?.source, "local");
  assert.equal(offline.answer?.degraded?.blockedBy, "offline");
  assert.match(offline.answer?.degraded?.advice ?? "", /offline/);
  assert.deepEqual(offline.waits.map(({ id, wanted }) => [id, wanted]), [[offline.answer?.outbox, "low-confidence"]]);
  assert.deepEqual(at.cloud.posts(path), []);
  await page.context().setOffline(false);
  const online = await page.evaluate(async () => {
    const { made, delivered } = /** @type {any} */ (globalThis);
    for (let i = 0; i < 250 && delivered.length === 0; i++) await new Promise((resolve) => setTimeout(resolve, 20));
    return { delivered, waits: await made.outbox.list() };
  });
  assert.equal(online.delivered.length, 1);
  const [entry, answer] = online.delivered[0];
  assert.equal(entry.id, offline.answer?.outbox);
  assert.equal(answer.source, "cloud");
  assert.match(answer.text, /Paris/);
  assert.deepEqual(online.waits, []);
});

test("a 429 with Retry-After is waited for; a cut answer is discarded and asked again; nothing is mixed", async () => {
  for (const [name, cause] of [["429 with seconds", "http-429"], ["cut inside a token", "cut"], ["503 storm", "http-503"]]) {
    const { url, path } = await at.cloud.fault(name, 6, 1);
    const { events, shown, answer } = await page.evaluate(async (url) => follow((await router(url)).ask(unsure())), url);
    const retry = events.find(({ type }) => type === "retry");
    assert.equal(retry?.cause, cause, name);
    assert.equal(answer?.source, "cloud", name);
    assert.equal(answer?.text, shown, name);
    assert.match(shown, /^Attempt 2 /, name);
    assert.equal(answer?.record.attempts.length, 2, name);
    const [first, second] = at.cloud.posts(path);
    if (cause === "http-429") assert.ok(second.at - first.at >= 1000, `waited ${second.at - first.at} ms`);
  }
});

test("a fault that stays leaves the draft, with what a developer can do about it", async () => {
  const { url } = await at.cloud.fault("404", 7);
  const { answer } = await page.evaluate(async (url) => follow((await router(url)).ask(unsure())), url);
  assert.equal(answer?.source, "local");
  assert.equal(answer?.degraded?.blockedBy, "http-404");
  assert.match(answer?.degraded?.advice ?? "", /check url and model/);
});

test("a server that gives no CORS headers and one that is not there are told apart, where the browser lets us", async () => {
  const cors = await at.cloud.fault("CORS refusal", 8);
  const gone = await at.cloud.fault("refused", 8);
  const advice = async (/** @type {import("playwright-core").Page} */ tab, /** @type {string} */ url) => {
    const { answer } = await tab.evaluate(async (url) => follow((await router(url, { net: { backoffMs: 10, retries: 1 } })).ask(unsure())), url);
    assert.equal(answer?.degraded?.blockedBy, "network");
    return answer?.degraded?.advice ?? "";
  };
  const { origin } = new URL(at.site.base);
  const blocked = new RegExp(`does not allow ${origin}: .*OLLAMA_ORIGINS=${origin}`);
  // A page with Cross-Origin-Embedder-Policy: require-corp may not even see that something came back.
  for (const { url } of [cors, gone]) {
    const said = await advice(page, url);
    assert.match(said, blocked);
    assert.match(said, /nothing answers at http:\/\/localhost:\d+, or it does not allow/);
  }
  at.route("/plain", (_, response) => {
    response.removeHeader("Cross-Origin-Embedder-Policy");
    response.setHeader("Content-Type", "text/html").end("<!doctype html><title>plain</title>");
  });
  const plain = await at.tab("/plain");
  assert.match(await advice(plain, cors.url), blocked);
  assert.doesNotMatch(await advice(plain, cors.url), /nothing answers/);
  assert.match(await advice(plain, gone.url), /nothing answers at http:\/\/localhost:\d+: start the server/);
  await plain.close();
});

test("an abort closes the socket within 50 ms, and nothing follows", async () => {
  const delays = [];
  for (let i = 0; i < 10; i++) {
    const { url, path } = await at.cloud.fault("endless", 100 + i);
    const { aborted, code, late, record } = await page.evaluate(async (url) => {
      const made = await router(url, { mode: "only-cloud" });
      const asked = made.ask(question("Go on for ever."));
      let late = 0;
      let aborted = 0;
      try {
        for await (const event of asked) {
          if (aborted) late++;
          if (event.type === "token" && !aborted) {
            aborted = performance.timeOrigin + performance.now();
            asked.abort();
          }
        }
      } catch (e) {
        const error = /** @type {any} */ (e);
        return { aborted, code: error.code, late, record: error.details.record };
      }
      throw new Error("it ended");
    }, url);
    assert.equal(code, "ABORTED");
    // What had arrived before is read; it is not much.
    assert.ok(late <= 3, `${late} events after the abort`);
    assert.equal(record.source, null);
    assert.ok(record.costIsBound && record.costUsd > 0, "it may have been billed");
    const [entry] = at.cloud.posts(path);
    for (let wait = 0; wait < 50 && entry.closedAt === undefined; wait++) await new Promise((resolve) => setTimeout(resolve, 10));
    delays.push((entry.closedAt ?? Infinity) - aborted);
  }
  delays.sort((a, b) => a - b);
  console.log(`abort to closed socket: median ${delays[5].toFixed(1)} ms, longest ${delays[9].toFixed(1)} ms`);
  assert.ok(delays[5] <= 50, delays.join(" "));
});

test("an abort stops the local model, by signal and by leaving the loop", async () => {
  const { url } = await healthy(9);
  const found = await page.evaluate(async (url) => {
    const made = await router(url);
    const long = question("Tell me a story.", { ignore_eos: true, max_tokens: 400 });
    const controller = new AbortController();
    const asked = made.ask(long, { signal: controller.signal });
    setTimeout(() => controller.abort(), 20);
    const { error } = await follow(asked);
    for await (const event of made.ask(long)) if (event.type === "token") break;
    // The engine is free again at once.
    const started = performance.now();
    const { answer } = await follow(made.ask(question("Who are you?")));
    return { error, answer, ms: performance.now() - started, stats: made.stats() };
  }, url);
  assert.equal(found.error?.code, "ABORTED");
  assert.match(found.answer?.text ?? "", /^I am Kinglet/);
  assert.equal(found.stats.aborted, 2);
  assert.equal(found.stats.local, 1);
});

test("a page that does not route loads nothing of the router", async () => {
  at.site.requests.length = 0;
  const other = await page.context().newPage();
  await other.goto(at.site.base + "/");
  await other.evaluate(async () => {
    const { createEngine } = await import(/** @type {string} */ ("/pkg/dist/index.js"));
    await (await createEngine({ backend: "cpu" })).chat.completions.create({ messages: [{ role: "user", content: "Hello" }], max_tokens: 2 });
  });
  await other.close();
  assert.ok(at.site.requests.length >= 4);
  assert.deepEqual(at.site.requests.filter((request) => request.includes("router")), []);
});

test("the engine's face: whole, streamed, and never a mixture", async () => {
  const { url } = await at.cloud.fault("cut inside a token", 14, 1);
  const found = await page.evaluate(async (url) => {
    const made = await router(url);
    const whole = await made.chat.completions.create(question("Who are you?"));
    const chunks = await collect(await made.chat.completions.create({ ...unsure(), stream: true, stream_options: { include_usage: true } }));
    const nobody = await router(url, { consent: undefined });
    const started = performance.now();
    const kept = await nobody.chat.completions.create(unsure());
    const nowhere = await router(url, { local: undefined, cloud: undefined });
    return { whole, chunks, kept, ms: performance.now() - started, failed: await failure(nowhere.chat.completions.create(question("Hello"))), many: await failure(made.chat.completions.create(question("Hello", { n: 2 }))) };
  }, url);
  const { whole, chunks, kept } = found;
  assert.match(whole.choices[0].message.content, /^I am Kinglet/);
  assert.equal(whole.router.source, "local");
  assert.equal(whole.usage.total_tokens, whole.usage.prompt_tokens + whole.usage.completion_tokens);
  const text = chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("");
  assert.match(text, /^Attempt 2 .*France\.$/);
  assert.equal(chunks.at(-2)?.choices[0].finish_reason, "stop");
  assert.equal(chunks.at(-2)?.router?.source, "cloud");
  assert.equal(chunks.at(-2)?.model, "large");
  assert.equal(chunks.at(-1)?.usage?.completion_tokens, 9);
  assert.equal(kept.router.degraded?.blockedBy, "consent-denied");
  assert.ok(found.ms < 5000, "nobody was waited for");
  assert.equal(found.failed.code, "NO_ANSWER");
  assert.match(found.failed.message, /no local model.*no cloud is configured/);
  assert.deepEqual([found.many.code, found.many.message], ["BAD_REQUEST", "n must be 1: a router gives one answer"]);
});

test("with hold nothing is shown before it is decided, and nothing is retracted", async () => {
  const { url } = await healthy(15);
  const ends = await page.evaluate(async (url) => {
    const made = await router(url, { policy: { hold: true } });
    return [await follow(made.ask(unsure())), await follow(made.ask(question("Who are you?")))];
  }, url);
  for (const { events } of ends) assert.ok(!events.some(({ type }) => type === "switch"));
  assert.deepEqual(kinds(ends[0].events), ["consent", "token cloud", "final"]);
  assert.deepEqual(kinds(ends[1].events), ["token local", "final"]);
});

test("an early check may ask the cloud while the local model goes on", async () => {
  const { url } = await healthy(16);
  const { events, answer } = await page.evaluate(async (url) => follow((await router(url, { policy: { early: 0.3 } })).ask(unsure({ max_tokens: 400, ignore_eos: true }))), url);
  assert.equal(answer?.source, "cloud");
  assert.equal(answer?.record.wantedCloud, "early-rejection");
  assert.ok((answer?.record.localTokens.output ?? 400) < 400 || events.filter(({ source }) => source === "local").length < 400, "it was stopped");
});

test("an answer of another kind than the calibration's is not called calibrated, and it is said aloud once", async () => {
  const { url } = await healthy(17);
  const found = await page.evaluate(async (url) => {
    const notices = /** @type {any[]} */ ([]);
    const made = await router(url, { onEvent: (notice) => notices.push(notice) });
    const warm = { temperature: 0.1, seed: 1 };
    const answers = [await made.ask(question("Who are you?", warm)).answer, await made.ask(question("Hello", warm)).answer];
    const explained = made.explain(question("Hello"));
    return { calibrated: answers.map(({ confidence }) => confidence.calibrated), notices, explained };
  }, url);
  assert.deepEqual(found.calibrated, [false, false]);
  assert.deepEqual(found.notices, [{ type: "not-calibrated", differs: ["sampler"] }]);
  assert.deepEqual(found.explained.calibration?.differs, ["sampler"]);
  assert.equal(found.explained.calibration?.feasibility.certifiable, true);
});

test("a local model that fails is replaced by the cloud; where both fail, both are named", async () => {
  const { url } = await healthy(19);
  const gone = await at.cloud.fault("404", 19);
  const found = await page.evaluate(async ({ url, gone }) => {
    const broken = { chat: { completions: { create: () => engine.chat.completions.create({ messages: [] }) } } };
    const notices = /** @type {any[]} */ ([]);
    const onEvent = (notice) => notices.push([notice.type, notice.error?.code]);
    return {
      good: await follow((await router(url, { local: broken, onEvent })).ask(question("Hello"))),
      bad: await follow((await router(gone, { local: broken })).ask(question("Hello"))),
      more: await follow((await router(url)).ask(question("Hello", { modalities: ["audio"] }))),
      notices,
    };
  }, { url, gone: gone.url });
  assert.equal(found.good.answer?.source, "cloud");
  assert.equal(found.good.answer?.record.wantedCloud, "local-failed");
  assert.deepEqual(found.notices, [["local-failed", "BAD_REQUEST"]]);
  assert.equal(found.bad.error?.code, "NO_ANSWER");
  assert.match(found.bad.error?.message ?? "", /the local model failed.*check url and model.*messages must be a list/);
  assert.equal(found.bad.error?.details.blockedBy, "http-404");
  assert.equal(found.more.answer?.source, "cloud", "what the engine cannot do, the cloud may");
});

test("a call of a tool with a token that is a guess is weak, and the cloud is asked; one that is sure stays", async () => {
  const { url } = await healthy(22);
  const found = await page.evaluate(async (url) => {
    /** A model that calls one tool, as sure of its argument as is said. */
    const calling = (/** @type {number} */ logprob) => ({
      chat: {
        completions: {
          async *chunks() {
            const piece = (/** @type {object} */ call, /** @type {number} */ logprob) => ({ choices: [{ delta: { tool_calls: [{ index: 0, ...call }] }, logprobs: { content: [{ logprob }] }, finish_reason: null }] });
            yield piece({ id: "c", type: "function", function: { name: "weather", arguments: "" } }, -0.01);
            yield piece({ function: { arguments: '{"city":"Paris"}' } }, logprob);
            yield { choices: [{ delta: {}, finish_reason: "tool_calls" }], usage: { prompt_tokens: 5, completion_tokens: 5 } };
          },
          create() {
            return Promise.resolve(this.chunks());
          },
        },
      },
    });
    const ask = async (/** @type {number} */ logprob) => {
      const made = await router(url, { local: /** @type {any} */ (calling(logprob)), calibration: undefined });
      return made.ask(question("What is the weather?", { tools: [{ type: "function", function: { name: "weather" } }] })).answer;
    };
    const [sure, guess] = [await ask(-0.1), await ask(-3)];
    return { sure: [sure.source, sure.toolCalls], guess: [guess.source, guess.record.wantedCloud] };
  }, url);
  assert.deepEqual(found.sure, ["local", [{ id: "c", type: "function", function: { name: "weather", arguments: '{"city":"Paris"}' } }]]);
  assert.deepEqual(found.guess, ["cloud", "veto-weak-tool-call"]);
});

test("nothing was thrown in the page that nobody caught", () => {
  assert.deepEqual(at.log.filter((line) => line.startsWith("page error")), []);
});
