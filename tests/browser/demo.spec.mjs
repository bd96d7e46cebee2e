// The demo page as a person uses it: the site of www/dist in real Chromium, with the embedded model and with other files.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, test } from "node:test";
import { launch, logOf } from "./lib/browser.mjs";
import { DATA, sendFile, serve } from "./lib/server.mjs";
import { accessible, SITE } from "./lib/site.mjs";

const STORIES = join(DATA, "stories260K/stories260K.gguf");
const hasData = existsSync(STORIES);
if (!hasData && process.env.CI) throw new Error(`${DATA} is missing`);
const needsData = hasData ? {} : { skip: `SKIPPED: ${DATA} is missing` };

/** @type {Awaited<ReturnType<typeof serve>>} */ let site;
/** @type {Awaited<ReturnType<typeof serve>>} */ let elsewhere;
/** @type {import("playwright-core").Browser} */ let browser;
/** @type {string[]} */ let log = [];
/** @type {Promise<void> | undefined} Holds the embedded model back until it resolves. */ let held;

before(async () => {
  assert.ok(existsSync(join(SITE, "index.html")), "www/dist is not built: run `cargo xtask pack`");
  site = await serve({ "/": SITE, "/data/": DATA }, (request, response) => {
    if (!held || !request.url?.endsWith(".gguf")) return false;
    held.then(() => sendFile(request, response, join(SITE, request.url ?? "")));
    return true;
  });
  elsewhere = await serve({ "/": DATA }, (_, response) => {
    response.setHeader("Access-Control-Allow-Origin", "*");
    response.setHeader("Cross-Origin-Resource-Policy", "cross-origin");
  });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  site?.close();
  elsewhere?.close();
});
afterEach(async () => {
  held = undefined;
  for (const context of browser.contexts()) await context.close();
  assert.deepEqual(log.filter((line) => line.startsWith("page error") || line.includes("Content Security Policy")), []);
});

/** @param {string} address @param {import("playwright-core").BrowserContextOptions} [options] */
async function open(address = "/?seed=1", options = {}) {
  const page = await browser.newPage(options);
  page.setDefaultTimeout(60_000);
  log = logOf(page);
  await page.goto(site.base + address);
  const answers = page.locator('[role="log"] [data-from="assistant"]');
  const box = page.locator("textarea");
  return {
    page, answers, box,
    alert: page.locator('[role="alert"]'),
    model: page.locator("#model-name"),
    ready: () => page.locator("#where.ready").waitFor(),
    async ask(question) {
      await box.fill(question);
      await box.press("Enter");
    },
    /** The newest answer, once it is complete. */
    async answer() {
      await page.locator('[role="log"] [data-from="assistant"]:last-of-type[aria-busy="true"]').waitFor({ state: "detached" });
      return (await answers.last().textContent()) ?? "";
    },
  };
}

test("asks the embedded model, and the answer streams in", async () => {
  const { page, answers, box, ready, ask } = await open();
  /** @type {string[]} */
  const requests = [];
  page.on("request", (request) => requests.push(request.url()));
  await ready();
  assert.equal(await page.locator("textarea").count(), 1);
  assert.equal(await page.locator('[role="log"]').count(), 1);
  assert.equal(await answers.count(), 0);
  await page.evaluate(() => {
    const states = /** @type {string[]} */ ([]);
    const log = /** @type {Element} */ (document.querySelector('[role="log"]'));
    new MutationObserver(() => {
      const answer = log.querySelector('[data-from="assistant"]');
      if (answer) states.push(`${answer.getAttribute("aria-busy")} ${answer.textContent}`);
    }).observe(log, { subtree: true, childList: true, characterData: true, attributes: true });
    Object.assign(window, { states });
  });
  await ask("Tell me a story about a bird.");
  assert.equal(await box.inputValue(), "");
  await page.locator('[data-from="assistant"][aria-busy="false"]').waitFor();
  const answer = (await answers.textContent()) ?? "";
  assert.match(answer, /[a-z]+ [a-z]+ [a-z]+/, "an answer has words");
  assert.equal(await answers.getAttribute("data-source"), "local");
  assert.equal(await page.locator('[data-from="user"]').textContent(), "Tell me a story about a bird.");
  const states = await page.evaluate(() => /** @type {any} */ (window).states.map((state) => state.split(/ (.*)/s)));
  const streamed = new Set(states.filter(([busy]) => busy === "true").map(([, text]) => text));
  // One a frame, of which a busy machine draws few.
  assert.ok([...streamed].some((text) => text && text !== answer), `a part of the answer was shown before its end: ${[...streamed]}`);
  for (const text of streamed) assert.ok(answer.startsWith(text), "what was shown stays");
  assert.match((await page.locator(".note").textContent()) ?? "", /\d tokens · [\d,.]+ tokens\/s/);
  assert.deepEqual(requests.filter((url) => !url.startsWith(site.base)), [], "nothing is fetched from elsewhere");
});

test("a question that comes before the model waits for it", async () => {
  let release = () => {};
  held = new Promise((resolve) => (release = () => resolve()));
  const { page, answers, ask, answer } = await open();
  await ask("Hello!");
  await page.locator("#loading").waitFor();
  assert.equal(await answers.textContent(), "");
  assert.equal(await answers.getAttribute("aria-busy"), "true");
  release();
  assert.notEqual((await answer()).trim(), "");
});

test("a conversation goes on, and starts anew", async () => {
  const { page, answers, ask, answer, ready } = await open();
  await ready();
  const context = async () => Number(/context ([\d,]+) of/.exec((await page.locator(".note").last().textContent()) ?? "")?.[1].replace(",", ""));
  await ask("Hello!");
  await answer();
  const first = await context();
  await ask("How are you?");
  await page.locator(".note").nth(1).waitFor();
  assert.equal(await answers.count(), 2);
  assert.ok((await context()) > first, "the second question brings the first with it");
  await page.getByRole("button", { name: "New conversation" }).click();
  assert.equal(await page.locator("[data-from]").count(), 0);
  await ask("Hello!");
  await page.locator(".note").waitFor();
  assert.equal(await answers.count(), 1);
});

test("stops when told to, and answers again", async () => {
  const { page, answers, ask, answer, ready } = await open();
  await ready();
  for (const stop of ["the button", "Escape"]) {
    // The model is quicker than a test that talks to the browser: the page itself stops it at the first words.
    await page.evaluate((stop) => {
      const log = /** @type {Element} */ (document.querySelector('[role="log"]'));
      new MutationObserver((_, observer) => {
        if (!log.querySelector('[aria-busy="true"]')?.textContent) return;
        observer.disconnect();
        if (stop === "Escape") dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" }));
        else document.querySelector("button[aria-label=Stop]")?.dispatchEvent(new MouseEvent("click"));
      }).observe(log, { subtree: true, childList: true, characterData: true });
    }, stop);
    await ask("Tell me a story about a dog.");
    await answer();
    const text = await answers.last().textContent();
    assert.notEqual(text, "");
    assert.equal(await page.locator(".note").last().textContent(), "stopped", stop);
    await page.waitForTimeout(300);
    assert.equal(await answers.last().textContent(), text, "nothing is added after the stop");
    await page.getByRole("button", { name: "Send" }).waitFor();
  }
  await ask("Hello!");
  await answers.nth(2).waitFor();
  assert.notEqual((await answer()).trim(), "");
});

test("takes a GGUF file dropped on the page", needsData, async () => {
  const { page, model, ask, answer, ready } = await open();
  await ready();
  await page.evaluate(async () => {
    const bytes = await (await fetch("/data/stories260K/stories260K.gguf")).arrayBuffer();
    const transfer = new DataTransfer();
    transfer.items.add(new File([bytes], "stories260K.gguf"));
    document.body.dispatchEvent(new DragEvent("dragover", { bubbles: true, cancelable: true, dataTransfer: transfer }));
    document.body.dispatchEvent(new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer: transfer }));
  });
  await page.waitForFunction(() => document.getElementById("where-text")?.textContent?.includes("F32"));
  await page.locator("#open-models").click();
  await page.getByText("The model in use").click();
  await page.getByText("A file on this device").waitFor();
  assert.match((await page.locator("#facts").textContent()) ?? "", /llama.*F32.*128 tokens/s);
  await page.locator("#close-models").click();
  assert.notEqual(await model.textContent(), "");
  await ask("Once upon a time, there was a little girl");
  assert.match(await answer(), /[a-z]+ [a-z]+/);
});

test("takes the address of a model, from another server too", needsData, async () => {
  const address = `${elsewhere.base}/stories260K/stories260K.gguf`;
  const first = await open(`/?model=${encodeURIComponent(address)}`);
  await first.page.waitForFunction(() => document.getElementById("where-text")?.textContent?.includes("F32"));
  const second = await open();
  await second.ready();
  await second.page.locator("#open-models").click();
  await second.page.getByLabel("Address of a GGUF file").fill(address);
  await second.page.getByRole("button", { name: "Load", exact: true }).click();
  await second.page.waitForFunction(() => document.getElementById("where-text")?.textContent?.includes("F32"));
  assert.equal(new URL(second.page.url()).searchParams.get("model"), address);
});

test("says what is wrong with a file, and goes on with the model it had", async () => {
  const { page, alert, ask, answer, ready } = await open();
  await ready();
  for (const [name, content, problem] of [
    ["paper.pdf", "%PDF-1.7 and so on, for a while", /paper\.pdf: .*GGUF/],
    ["cut.gguf", "GGUF\x03\0\0\0\x01", /cut\.gguf: .*truncated/],
  ]) {
    await page.locator("#file").setInputFiles({ name: `${name}`, mimeType: "", buffer: Buffer.from(`${content}`, "latin1") });
    await alert.getByText(problem).waitFor();
    await ready();
    await page.getByRole("button", { name: "Close" }).first().click();
    assert.equal(await alert.textContent(), "");
  }
  const wrong = await open("/?model=no-such-file.gguf");
  await wrong.alert.getByText(/no-such-file\.gguf: .*404/).waitFor();
  assert.equal(await wrong.alert.getByRole("button", { name: "Try again" }).count(), 1);
  const unknown = await open("/?model=smolm2");
  await unknown.alert.getByText(/not in the catalogue/).waitFor();
  assert.equal(await unknown.alert.getByRole("button", { name: "Try again" }).count(), 0, "it would be the same");
  await ask("Hello!");
  assert.notEqual((await answer()).trim(), "");
});

test("a question too long for the context comes back, with advice", async () => {
  const { page, alert, box, ask, answer, ready } = await open();
  await ready();
  const question = "a bird and a tree and ".repeat(2000);
  await ask(question);
  await alert.getByText(/the prompt has \d+ tokens/i).waitFor();
  assert.equal((await box.inputValue()).trim(), question.trim());
  assert.equal(await page.locator("[data-from]").count(), 0);
  await page.getByRole("button", { name: "New conversation" }).first().click();
  await ask("Hello!");
  assert.notEqual((await answer()).trim(), "");
});

test("shows text as text", async () => {
  const { page, ask, answer, ready } = await open();
  await ready();
  const question = "<img src=x onerror=alert(1)> <b>bold</b> &amp; <|im_start|>system";
  await ask(question);
  await answer();
  assert.equal(await page.locator('[data-from="user"]').textContent(), question);
  assert.equal(await page.locator('[role="log"] :is(img, b, script)').count(), 0);
});

test("the page stays awake while the model loads and answers", async () => {
  const { page, ask, answer } = await open();
  await page.evaluate(() => {
    const tasks = { total: 0, start: performance.now() };
    new PerformanceObserver((list) => list.getEntries().forEach((entry) => (tasks.total += entry.duration))).observe({ type: "longtask", buffered: true });
    Object.assign(window, { tasks });
  });
  await ask("Tell me a story about a bird.");
  await answer();
  const { total, start } = await page.evaluate(() => /** @type {any} */ (window).tasks);
  const share = total / ((await page.evaluate(() => performance.now())) - start);
  assert.ok(share < 0.25, `the main thread was blocked for ${(share * 100).toFixed(0)} % of the time`);
});

for (const colorScheme of /** @type {const} */ (["light", "dark"])) {
  test(`fits a phone and a screen reader, ${colorScheme}`, async () => {
    const { page, ask, answer, ready } = await open("/?seed=1", { viewport: { width: 360, height: 640 }, colorScheme, hasTouch: true, isMobile: true });
    await ready();
    const fits = async (where) => assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${where} scrolls sideways`);
    await fits("the welcome");
    await accessible(page, "the welcome");
    await ask(`Hello! ${"x".repeat(200)}`);
    await answer();
    await fits("the conversation");
    await accessible(page, "the conversation");
    await page.locator("#open-models").click();
    await page.getByText("The model in use").click();
    await page.locator("#facts dd").first().waitFor();
    await fits("the dialog");
    await accessible(page, "the dialog");
  });
}
