// 33 faults x seeds through the packed router in real browsers: their own fetch, real sockets, the embedded model as the
// local one. No answer is lost, mixed, duplicated or hung, and none costs more than the budget. The same in virtual time:
// tests/router_machine/faults.rs. KINGLET_SOAK=1: 2,000 runs in Chromium.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { expected, FAULTS, randomOf, TOKENS } from "./lib/fault-scripts.mjs";
import { ALWAYS, answerOf, startFaultServer } from "./lib/fault-server.mjs";
import { launch, launchFirefox } from "./lib/browser.mjs";
import { openPackage } from "./lib/package.mjs";

const SOAK = Boolean(process.env.KINGLET_SOAK);
/** @type {[browser: string, start: () => Promise<unknown>, seeds: number][]} */
const BROWSERS = [["Chromium", launch, SOAK ? 61 : 6], ["Firefox", launchFirefox, SOAK ? 10 : 2]];
const LANES = 4; // a browser opens six connections to a host
const NET = { firstMs: 1_500, idleMs: 1_000, totalMs: 20_000, graceMs: 200, backoffMs: 60, longestWaitMs: 2_500, refreshMs: 1_000, consentMs: 5_000 };
const PRICE = { input: 3, output: 15 };
const ANSWER_USD = (TOKENS.input * PRICE.input + TOKENS.output * PRICE.output) / 1e6;
const HUNG_MS = 25_000;

/** @type {Awaited<ReturnType<typeof openPackage>>} */
let it;
/** @type {Awaited<ReturnType<typeof startFaultServer>>} */
let server;
/** @type {Map<string, () => Promise<void>>} */
const heals = new Map();
let local = "";
async function open(/** @type {() => Promise<unknown>} */ start) {
  [it, server] = await Promise.all([openPackage(start), startFaultServer({ slowMs: 2 * NET.firstMs })]);
  await it.page.exposeFunction("heal", (/** @type {string} */ url) => heals.get(url)?.());
  // Advice can tell more in a page without cross-origin isolation.
  it.route("/bare", (_, response) => {
    response.removeHeader("Cross-Origin-Embedder-Policy");
    response.setHeader("Content-Type", "text/html").end("<!doctype html><title>bare</title>");
  });
  await it.page.goto(`${it.site.base}/bare`);
  local = await it.page.evaluate(prepare);
}

/** Runs in the page: one engine for all, which cuts its answers short. Returns what it answers. */
async function prepare() {
  const { createRouter } = await import(/** @type {string} */ ("/pkg/dist/router.js"));
  const { createEngine } = await import(/** @type {string} */ ("/pkg/dist/index.js"));
  const engine = await createEngine({});
  const messages = [{ role: "user", content: "What is the capital of France?" }];
  // The limit is none of the request's: a cut answer is one to escalate.
  const create = (/** @type {object} */ request, /** @type {object} */ options) => engine.chat.completions.create(/** @type {any} */ ({ ...request, temperature: 0, max_tokens: 4 }), options);
  const heal = /** @type {any} */ (globalThis).heal;

  /** @param {Plan} plan */
  async function run({ url, mode, hold, shares, abortAfter, net, price, hungMs }) {
    const settings = { local: { chat: { completions: { create } } }, cloud: { url, model: "large", auth: ({ refresh }) => (refresh ? "fresh" : "stale"), price }, mode, net, policy: { hold }, consent: () => "once", storage: null, name: url };
    const router = await createRouter(settings);
    const explained = router.explain({ messages });
    // Enough for so many requests.
    const capped = await createRouter({ ...settings, budget: { usd: explained.mostUsd * shares } });
    const question = capped.ask({ messages });
    const timer = setTimeout(() => (hung = true, question.abort()), hungMs);
    let [hung, shown, finals, switches, whole, abortedAt] = [false, "", 0, 0, true, 0];
    const causes = [];
    if (abortAfter !== undefined) setTimeout(() => ((abortedAt = performance.timeOrigin + performance.now()), question.abort()), abortAfter);
    let [answer, error] = /** @type {[any, any]} */ ([undefined, undefined]);
    try {
      for await (const event of question) {
        if (finals > 0) finals = Infinity; // nothing may follow
        if (event.type === "token") shown += event.text;
        if (event.type === "switch") (switches++, (whole &&= event.retract === shown.length), (shown = ""));
        if (event.type === "retry") (causes.push({ cause: event.cause, advice: event.advice }), void heal(url));
        if (event.type === "final") (finals++, ({ answer } = event));
      }
    } catch (e) {
      const { code, message, details } = /** @type {any} */ (e);
      error = { code, message, details };
    }
    clearTimeout(timer);
    // What is written of the ledger after the answer.
    const costUsd = (answer ?? error?.details)?.record?.costUsd;
    let spentUsd = NaN;
    for (let i = 0; i < 100 && !(Math.abs((spentUsd = capped.stats().spentUsd) - costUsd) < 1e-9); i++) await new Promise((resolve) => setTimeout(resolve, 20));
    capped.dispose();
    router.dispose();
    return { answer, error, shown, finals, switches, whole, causes, hung, abortedAt, spentUsd, mostUsd: explained.mostUsd, preview: explained.preview?.body };
  }
  Object.assign(globalThis, { run });
  return (await create({ messages }, {})).choices[0].message.content;
}

/** @typedef {{ url: string, mode: string, hold: boolean, shares: number, abortAfter?: number, net: object, price: typeof PRICE, hungMs: number }} Plan */

/** How runs ended, and what else was seen. */
let tally = { cloud: 0, local: 0, failed: 0, budget: 0, aborted: 0, resent: 0 };
/** @type {number[]} Milliseconds from an abort until the server saw the socket close. */
let closes = [];

/** @param {string} name @param {import("./lib/fault-scripts.mjs").Heals} outcome @param {number} seed */
async function run(name, outcome, seed) {
  const random = randomOf(seed * 1_009 + FAULTS.findIndex(([known]) => known === name));
  const persists = seed % 2 === 0;
  /** @template T @param {...T} choices */
  const oneOf = (...choices) => choices[random(choices.length)];
  const at = await server.fault(name, seed, persists ? ALWAYS : 1);
  if (!persists) heals.set(at.url, at.heal);
  const mode = oneOf("auto", "prefer-local", "prefer-cloud", "only-cloud");
  const plan = {
    url: at.url, mode, hold: random(4) === 0,
    shares: oneOf(1.1, 2.2, 50),
    abortAfter: name === "endless" ? 500 : random(8) === 0 ? random(120) : undefined,
    // Until it is healed some milliseconds pass.
    net: name === "refused" ? { ...NET, backoffMs: 400 } : NET,
    price: PRICE, hungMs: HUNG_MS,
  };
  /** @type {Awaited<ReturnType<typeof evaluated>>} */
  const got = await evaluated(plan);
  const { answer, error } = got;
  const record = answer?.record ?? error?.details?.record;
  const label = `${name}, seed ${seed}, ${JSON.stringify({ ...plan, net: undefined })}: ${JSON.stringify({ ...got, shown: got.shown.slice(0, 200), answer: undefined, preview: undefined, record: { ...record, features: undefined } })}`.slice(0, 2_000);
  const posts = server.posts(at.path);

  assert.ok(!got.hung, `hung: ${label}`);
  assert.equal(got.finals, answer ? 1 : 0, `more or less than one end: ${label}`);
  assert.ok(record, `neither an answer nor a record: ${label}`);
  assert.ok(got.whole, `a switch that takes back less than all: ${label}`);
  if (answer) assert.ok(answer.text === got.shown, `what is shown is not the answer: ${label}`);
  // Chromium sends again by itself what a kept connection did not answer, or answered with 408; nobody hears of it.
  const resent = name === "reset before headers" || name === "408" ? Math.max(posts.length - record.attempts.length, 0) : 0;
  tally.resent += resent;
  // What was aborted may not have left yet.
  const unsent = error?.code === "ABORTED" ? Math.max(record.attempts.length - posts.length, 0) : 0;
  if (name !== "refused" && name !== "CORS refusal") assert.equal(posts.length, record.attempts.length + resent - unsent, label);
  // Money: the cap holds, and nothing else that the server billed was missed.
  assert.ok(got.spentUsd <= got.mostUsd * plan.shares + 1e-12, `over the budget: ${label}`);
  assert.ok(Math.abs(record.costUsd - got.spentUsd) < 1e-9, `the record and the ledger differ: ${label}`);
  const billed = (posts.filter(({ billed }) => billed).length - (name === "408" ? 0 : resent)) * ANSWER_USD;
  assert.ok(got.spentUsd >= billed - 1e-9, `the server billed ${billed}: ${label}`);
  for (const { body } of posts) assert.ok(body === got.preview, `sent other than previewed: ${label}`);
  assert.ok(record.attempts.length <= 5, label);

  if (error?.code === "ABORTED") {
    assert.ok(plan.abortAfter !== undefined, label);
    for (const entry of posts) {
      for (let i = 0; i < 200 && entry.closedAt === undefined; i++) await new Promise((resolve) => setTimeout(resolve, 10));
      const { closedAt = Infinity } = entry;
      if (closedAt > got.abortedAt) closes.push(closedAt - got.abortedAt);
    }
    tally.aborted++;
    return;
  }
  if (record.blockedBy === "budget") {
    assert.ok(plan.shares < 50, label);
    if (mode === "only-cloud") assert.equal(error?.code, "NO_ANSWER", label);
    else assert.ok(answer?.source === "local" && answer.text === local, label);
    tally.budget++;
    return;
  }
  const cloud = outcome === "answers" || (outcome === "again" && !persists);
  if (cloud) {
    // What refuses before anything arrives does not count at the server.
    const attempt = outcome === "answers" || name === "refused" ? 1 : 2;
    const said = answerOf(at.path, attempt);
    const text = outcome === "answers" ? expected(name, said) : said;
    assert.ok(answer?.source === "cloud" && answer.text === text && answer.degraded === null, label);
    if (outcome === "again" && resent === 0) assert.ok(record.attempts.length >= 2, label);
    tally.cloud++;
  } else if (mode === "only-cloud") {
    assert.equal(error?.code, "NO_ANSWER", label);
    tally.failed++;
  } else {
    assert.ok(answer?.source === "local" && answer.text === local && answer.degraded?.advice, label);
    tally.local++;
  }
  if (plan.hold) assert.equal(got.switches, 0, `shown before it was decided: ${label}`);
  const advice = got.causes.find(({ cause }) => cause === "network")?.advice;
  if (name === "refused") assert.match(String(advice), /nothing answers at http:\/\/localhost/, label);
  if (name === "CORS refusal") assert.match(String(advice), /Access-Control-Allow-Origin/, label);
}

/** @param {Plan} plan @returns {Promise<any>} */
const evaluated = (plan) => it.page.evaluate((plan) => /** @type {any} */ (globalThis).run(plan), plan);

for (const [browser, start, seeds] of BROWSERS) {
  describe(`33 faults over real sockets in ${browser}`, () => {
    before(async () => {
      tally = { cloud: 0, local: 0, failed: 0, budget: 0, aborted: 0, resent: 0 };
      closes = [];
      await open(start);
    });
    after(() => (it.close(), server.close()));

    test("every one ends as the table says", { timeout: 30 * 60_000 }, async () => {
      const start = performance.now();
      // An answer without end is one that a user ends.
      const scripts = /** @type {typeof FAULTS} */ ([...FAULTS, ["endless", "answers"]]);
      const todo = Array.from({ length: seeds }, (_, i) => scripts.map(([name, outcome]) => ({ name, outcome, seed: i + 1 }))).flat();
      const count = todo.length;
      /** @type {string[]} */
      const wrong = [];
      await Promise.all(Array.from({ length: LANES }, async () => {
        for (let next; (next = todo.shift()); ) await run(next.name, next.outcome, next.seed).catch((error) => wrong.push(String(error.message)));
      }));
      const seconds = Math.round((performance.now() - start) / 1_000);
      closes.sort((a, b) => a - b);
      const [usual, slowest] = [closes[Math.floor(0.95 * (closes.length - 1))] ?? 0, closes.at(-1) ?? 0];
      const figures = Object.entries(tally).map(([what, count]) => `${count} ${what}`).join(", ");
      console.log(`${browser}: ${count} runs of ${FAULTS.length} faults and an endless answer in ${seconds} s: ${figures}, ${wrong.length} wrong; ${server.seen.length} requests on ${server.connections.opened} connections; ` +
        `an abort closed the socket in ${usual.toFixed(1)} ms (95 %), ${slowest.toFixed(1)} ms (all ${closes.length})`);
      for (const message of wrong.slice(0, 10)) console.log(message);
      assert.equal(wrong.length, 0);
      assert.ok(tally.cloud > count / 4 && tally.local > count / 8, JSON.stringify(tally));
      // Four lanes on a busy machine; router.spec.mjs measures one.
      assert.ok(closes.length > 0 && slowest < 1_000, `a socket closed ${slowest} ms after the abort`);
    });
  });
}
