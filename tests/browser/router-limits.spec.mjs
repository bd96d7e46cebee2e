// What bounds the router, in Chromium: consent, privacy, money, tokens, settings.
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

test("a no keeps the draft, says why, and sends nothing; a consent that throws or never comes is a no", async () => {
  const { url, path } = await healthy(3);
  const found = await page.evaluate(async (url) => {
    const notices = /** @type {any[]} */ ([]);
    const onEvent = (notice) => notices.push(notice.type);
    const ways = [
      { consent: () => "deny" },
      { consent: () => Promise.reject(new Error("the dialog broke")), onEvent },
      { consent: () => new Promise(() => {}), net: { consentMs: 200 } },
      { consent: undefined, net: { consentMs: 200 } },
    ];
    const ends = [];
    for (const way of ways) ends.push(await follow((await router(url, /** @type {any} */ (way))).ask(unsure())));
    // Who listens may decide in place of the callback.
    const asked = (await router(url, { consent: undefined })).ask(unsure());
    for await (const event of asked) if (event.type === "consent") event.decide("deny");
    return { ends: [...ends, { ...ends[0], answer: await asked.answer }], notices };
  }, url);
  for (const { answer } of found.ends) {
    assert.equal(answer?.source, "local");
    assert.deepEqual([answer?.degraded?.wanted, answer?.degraded?.blockedBy], ["low-confidence", "consent-denied"]);
    assert.equal(answer?.record.egress.bytes, 0);
  }
  assert.deepEqual(found.notices.filter((notice) => notice !== "not-calibrated"), ["callback-failed"]);
  assert.deepEqual(at.cloud.posts(path), []);
});

test("\"always\" is kept for the next router and the next tab, until it is revoked in any", async () => {
  const { url } = await healthy(4);
  const other = await at.tab();
  const ask = async (/** @type {import("playwright-core").Page} */ tab, /** @type {string} */ decision) => tab.evaluate(async ({ url, decision }) => {
    let asked = 0;
    const made = await router(url, { name: "always", consent: () => (asked++, /** @type {any} */ (decision)) });
    Object.assign(globalThis, { made, asked: () => asked });
    const { answer } = await follow(made.ask(unsure()));
    return { asked, source: answer?.source, grants: made.grants() };
  }, { url, decision });
  assert.deepEqual(await ask(page, "always"), { asked: 1, source: "cloud", grants: [{ host: new URL(url).host, model: "large" }] });
  assert.deepEqual(await ask(page, "deny"), { asked: 0, source: "cloud", grants: [{ host: new URL(url).host, model: "large" }] });
  assert.equal((await ask(other, "deny")).asked, 0);
  await page.evaluate(async () => {
    const { made } = /** @type {any} */ (globalThis);
    await made.revoke(made.grants()[0]);
  });
  const after = await other.evaluate(async () => {
    const { made } = /** @type {any} */ (globalThis);
    for (let i = 0; i < 100 && made.grants().length > 0; i++) await new Promise((resolve) => setTimeout(resolve, 20));
    const { answer } = await follow(made.ask(unsure()));
    return { source: answer?.source, blockedBy: answer?.degraded?.blockedBy };
  });
  assert.deepEqual(after, { source: "local", blockedBy: "consent-denied" });
  assert.equal((await ask(page, "deny")).asked, 1);
  await other.close();
});

test("private labels and secrets never leave; personal data becomes placeholders that are restored in the answer", async () => {
  const { url, path } = await at.cloud.fault("echo", 10);
  const found = await page.evaluate(async (url) => {
    const made = await router(url, { mode: "prefer-cloud" });
    const ask = async (/** @type {any} */ request) => follow(made.ask({ temperature: 0, max_tokens: 8, ...request }));
    const user = (/** @type {string} */ content, more = {}) => ({ messages: [{ role: "user", content, ...more }] });
    return {
      private: [await ask({ ...user("My diary."), private: true }), await ask(user("My diary.", { private: true })), await ask(user("My diary.", { labels: ["private"] }))],
      secret: [await ask(user("Use sk-abcdefghijklmnopqrstuvwxyz123456 please")), await ask(user("-----BEGIN RSA PRIVATE KEY-----\nMIIE"))],
      personal: await ask(user("Write to jane.doe@example.com, call +1 212 555 0123 or pay to DE89370400440532013000.")),
    };
  }, url);
  for (const { answer } of found.private) assert.deepEqual([answer?.source, answer?.degraded?.blockedBy], ["local", "private"]);
  for (const { answer } of found.secret) assert.deepEqual([answer?.source, answer?.degraded?.blockedBy], ["local", "secret"]);
  const { answer, shown } = found.personal;
  assert.equal(answer?.source, "cloud");
  assert.equal(shown, "Write to jane.doe@example.com, call +1 212 555 0123 or pay to DE89370400440532013000.");
  assert.deepEqual(answer?.record.egress.redactions, { email: 1, phone: 1, iban: 1 });
  const bodies = at.cloud.posts(path).map(({ body }) => body);
  assert.equal(bodies.length, 1);
  for (const canary of ["diary", "sk-abc", "BEGIN", "jane", "212", "DE89"]) assert.ok(!bodies[0].includes(canary), bodies[0]);
});

test("only-local opens no socket, whatever happens, and neither does a router without a cloud", async () => {
  const { url } = await healthy(11);
  const opened = at.cloud.connections.opened;
  at.site.requests.length = 0;
  const found = await page.evaluate(async (url) => {
    const sources = [];
    for (const made of [await router(url, { mode: "only-local" }), await router(url, { cloud: undefined })]) {
      for (const request of [question("Who are you?"), unsure(), question("Hello")]) sources.push((await follow(made.ask(request))).answer?.source);
    }
    const made = await router(url, { cloud: undefined });
    return { sources, unsure: (await made.ask(unsure()).answer).degraded };
  }, url);
  assert.deepEqual(found.sources, Array(6).fill("local"));
  assert.equal(found.unsure?.blockedBy, "not-configured");
  assert.equal(at.cloud.connections.opened, opened);
  assert.deepEqual(at.site.requests, []);
});

test("a budget is a cap: what would pass it stays local, in all tabs together", async () => {
  const { url, path } = await healthy(12);
  const other = await at.tab();
  // Each answer holds some 0.2 dollars while it is under way (a byte may be a token), and takes 0.032.
  const race = (/** @type {import("playwright-core").Page} */ tab) => tab.evaluate(async (url) => {
    const made = await router(url, { name: "budget", mode: "prefer-cloud", budget: { usd: 0.6 } });
    const asks = Array.from({ length: 20 }, () => follow(made.ask(question("Hello", { max_tokens: 10 }))));
    const ends = await Promise.all(asks);
    return { sources: ends.map(({ answer }) => answer?.source), blocked: ends.map(({ answer }) => answer?.degraded?.blockedBy), stats: made.stats(), bound: ends.some(({ answer }) => answer?.record.costIsBound) };
  }, url);
  const ends = await Promise.all([race(page), race(other)]);
  await other.close();
  const sources = ends.flatMap(({ sources }) => sources);
  const billed = at.cloud.posts(path).reduce((sum, { billed }) => sum + (billed ? (billed.input * PRICE.input + billed.output * PRICE.output) / 1e6 : 0), 0);
  const sent = sources.filter((source) => source === "cloud").length;
  assert.ok(billed <= 0.6, `${billed} dollars`);
  assert.ok(sent >= 3 && sent < 40, `${sent} answers of the cloud`);
  for (const { sources, blocked } of ends) sources.forEach((source, i) => source === "local" && assert.equal(blocked[i], "budget"));
  const spent = ends.reduce((sum, { stats }) => sum + stats.costUsd, 0);
  assert.ok(Math.abs(spent - billed) < 1e-9, `${spent} of ${billed}`);
  assert.ok(!ends.some(({ bound }) => bound));
  assert.ok(ends.every(({ stats }) => stats.spentUsd <= 0.6));
});

test("what is saved is within 1 % of the truth on a scripted log", async () => {
  const { url, path } = await healthy(13);
  const { stats, tokens } = await page.evaluate(async (url) => {
    const made = await router(url);
    let tokens = { input: 0, output: 0 };
    for (const request of [question("Who are you?"), unsure(), question("Hello"), unsure({ seed: 2 }), question("How are you?")]) {
      const { usage, source } = await made.ask(request).answer;
      if (source === "local") tokens = { input: tokens.input + usage.input, output: tokens.output + usage.output };
    }
    return { stats: made.stats(), tokens };
  }, url);
  const cost = ({ input, output }) => (input * PRICE.input + output * PRICE.output) / 1e6;
  const posts = at.cloud.posts(path).map(({ billed }) => cost(/** @type {any} */ (billed)));
  assert.equal(posts.length, 2);
  // What the cloud would have taken for all, less what it took; an escalated answer would have cost what it did.
  const paid = posts.reduce((a, b) => a + b, 0);
  const truth = cost(tokens) + paid - paid;
  assert.ok(Math.abs(stats.savedUsd - truth) <= 0.01 * truth, `${stats.savedUsd} against ${truth}`);
  assert.ok(Math.abs(stats.costUsd - paid) < 1e-9);
  assert.equal(stats.localShare, 3 / 5);
});

test("a dry run says what would be done, with the exact body, and sends nothing", async () => {
  const { url, path } = await healthy(18);
  const explained = await page.evaluate(async (url) => {
    const made = await router(url, { privacy: { terms: ["Kowalski"] } });
    return [made.explain("Write to kowalski@example.com about Kowalski."), made.explain(question("x", { private: true })), made.explain(question("x", { mode: "only-local" }))];
  }, url);
  const [open, labelled, local] = explained;
  assert.deepEqual([open.local, open.cloudBlockedBy, open.needsConsent, open.mode], [true, null, true, "auto"]);
  assert.ok(open.preview && !/kowalski/i.test(open.preview.body), open.preview?.body);
  assert.ok((open.mostUsd ?? 0) > 0);
  assert.equal(labelled.cloudBlockedBy, "private");
  assert.equal(local.cloudBlockedBy, "mode");
  assert.deepEqual(at.cloud.posts(path), []);
});

test("a refused token is asked for once more, then the endpoint is left alone until somebody signs in", async () => {
  const { startFaultServer } = await import("./lib/fault-server.mjs");
  const strict = await startFaultServer({ token: "fresh" });
  const { url, path } = await strict.fault("none", 20, 0);
  const found = await page.evaluate(async (url) => {
    const calls = /** @type {boolean[]} */ ([]);
    let token = "stale";
    const auth = ({ refresh }) => (calls.push(refresh), refresh && token === "stale" && calls.length < 3 ? "fresh" : token);
    const made = await router(url, { mode: "prefer-cloud", cloud: { url, model: "large", auth } });
    const first = await made.ask(question("Hello")).answer;
    const second = await made.ask(question("Hello")).answer;
    // Another one, whose token stays stale.
    const shut = await router(url, { mode: "prefer-cloud", cloud: { url, model: "large", auth: () => token } });
    const refused = await shut.ask(question("Hello")).answer;
    const closed = await shut.ask(question("Hello")).answer;
    token = "fresh";
    shut.authChanged();
    const open = await shut.ask(question("Hello")).answer;
    return { calls, first: first.source, second: second.source, refused: refused.degraded, closed: closed.degraded, open: open.source };
  }, url);
  assert.deepEqual(found.calls, [false, true]);
  assert.deepEqual([found.first, found.second, found.open], ["cloud", "cloud", "cloud"]);
  assert.equal(found.refused?.blockedBy, "http-401");
  assert.equal(found.closed?.blockedBy, "auth");
  assert.equal(strict.posts(path).filter(({ headers }) => headers.authorization === "Bearer fresh").length, 3);
  strict.close();
});

test("what cannot be honoured is refused with the setting's name", async () => {
  const { url } = await healthy(21);
  const errors = await page.evaluate(async (url) => {
    const { calibration: file } = globalThis;
    const cloud = { url, model: "large" };
    const bad = [
      { mode: "sometimes" }, { cloud: { ...cloud, url: "http://example.com/v1/chat/completions" } }, { cloud: { ...cloud, model: "" } },
      { cloud: { ...cloud, auth: "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789" } }, { cloud: { ...cloud, auth: 7 } }, { budget: { usd: 1 }, cloud },
      { polices: {} }, { policy: { early: 2 } }, { privacy: { pii: "hide" } }, { local: {} }, { net: { patience: 1 } }, { calibration: "{" }, { calibration: { ...file, certified: [] } },
    ];
    const messages = [];
    for (const options of bad) messages.push(await failure(router(url, /** @type {any} */ (options))));
    const made = await router(url);
    messages.push(await failure((async () => made.ask({ messages: [] }))()), await failure((async () => made.ask(/** @type {any} */ (question("x", { mode: "now" }))))()));
    made.dispose();
    messages.push(await failure((async () => made.ask("x"))()));
    return messages.map(({ code, message }) => [code, message]);
  }, url);
  const wanted = [
    /mode must be one of only-local/, /http sends everything readably/, /cloud.model is missing/, /provider's key.*proxy/, /cloud.auth must be/, /budget needs cloud.price/,
    /polices is no option/, /policy.early/, /privacy.pii must be one of/, /local must be an engine/, /net.patience is not known/, /calibration cannot be used/, /calibration cannot be used/,
    /messages must be/, /mode must be one of/, /disposed/,
  ];
  errors.forEach(([code, message], i) => {
    assert.equal(code, "BAD_REQUEST", message);
    assert.match(message, wanted[i]);
  });
  assert.equal(errors.length, wanted.length);
});

test("what a listener throws is the page's to hear of, and costs no answer", async () => {
  const { url } = await healthy(23);
  const found = await page.evaluate(async (url) => {
    const heard = /** @type {string[]} */ ([]);
    const hear = (/** @type {ErrorEvent} */ e) => {
      e.preventDefault();
      heard.push(e.message);
    };
    addEventListener("error", hear);
    const broken = (/** @type {string} */ what) => () => {
      throw new Error(`${what} broke`);
    };
    const made = await router(url, { onRecord: broken("onRecord"), onEvent: broken("onEvent") });
    const sources = [(await made.ask(unsure()).answer).source, (await made.ask(question("Who are you?")).answer).source];
    await new Promise((resolve) => setTimeout(resolve, 50));
    removeEventListener("error", hear);
    return { heard, sources };
  }, url);
  assert.deepEqual(found.sources, ["cloud", "local"]);
  assert.ok(found.heard.some((message) => message.includes("onRecord broke")) && found.heard.some((message) => message.includes("onEvent broke")), found.heard.join());
});

test("nothing was thrown in the page that nobody caught", () => {
  assert.deepEqual(at.log.filter((line) => line.startsWith("page error")), []);
});
