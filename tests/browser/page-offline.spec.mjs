// The demo page as an app: kept for days without a network, isolated on hosts without headers, new versions; and the bench page.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, before, after, test } from "node:test";
import { launch } from "./lib/browser.mjs";
import { serve } from "./lib/server.mjs";
import { accessible, fits, openSite, serveSite, SITE } from "./lib/site.mjs";

/** @type {import("playwright-core").Browser} */ let browser;
/** @type {{ close(): void }[]} */ let servers = [];

before(async () => void (browser = await launch()));
after(() => browser?.close());
afterEach(async () => {
  for (const context of browser.contexts()) await context.close();
  for (const server of servers.splice(0)) server.close();
});

/** @template {{ close(): void }} T @param {T} server */
const started = (server) => (servers.push(server), server);

const kept = async (/** @type {import("playwright-core").Page} */ page) => {
  await page.waitForFunction(() => document.getElementById("offline-state")?.textContent?.includes("works without a network"));
};

test("opens and answers without a network after the first visit, in a subfolder too, isolated where the host sets no headers", async () => {
  const site = started(await serveSite(undefined, {}, "/some/folder/"));
  const it = await openSite(await browser.newContext(), `${site.base}/some/folder/?seed=1`);
  const { page, ready, ask, quiet } = it;
  await page.waitForFunction(() => crossOriginIsolated);
  await ready();
  assert.match((await page.locator("#where-text").textContent()) ?? "", /CPU, \d+ threads/);
  await kept(page);
  const answer = await ask("Who are you?");
  site.close();
  await page.goto(`${site.base}/some/folder/?seed=1`);
  await ready();
  assert.ok(await page.evaluate(() => crossOriginIsolated));
  assert.equal(await page.locator('[data-from="assistant"]').textContent(), answer, "the conversation is there");
  await page.getByRole("button", { name: "New conversation" }).click();
  assert.equal(await ask("Who are you?"), answer);
  // One worker, and no model in its cache but the one that is part of the page.
  const [workers, models] = await page.evaluate(async () => {
    const registrations = await navigator.serviceWorker.getRegistrations();
    const names = await caches.keys();
    const urls = (await Promise.all(names.filter((name) => name.startsWith("kinglet-page")).map(async (name) => (await (await caches.open(name)).keys()).map(({ url }) => url)))).flat();
    return [registrations.length, urls.filter((url) => url.includes(".gguf"))];
  });
  assert.equal(workers, 1);
  assert.deepEqual(models.map((/** @type {string} */ url) => new URL(url).pathname), ["/some/folder/kinglet/dist/default.gguf"]);
  quiet();
});

test("a new version waits until it is wanted, and downloads only what changed", async () => {
  const folder = mkdtempSync(join(tmpdir(), "kinglet-site-"));
  try {
    cpSync(SITE, folder, { recursive: true });
    const site = started(await serve({ "/": folder }));
    const { page, ready, quiet } = await openSite(await browser.newContext(), site.base + "/");
    await ready();
    await kept(page);
    const index = readFileSync(join(folder, "index.html"), "utf8");
    const changed = index.replace("A language model in this page", "Another headline");
    const digest = (/** @type {string} */ text) => createHash("sha256").update(text).digest("hex");
    writeFileSync(join(folder, "index.html"), changed);
    const worker = readFileSync(join(folder, "sw.js"), "utf8");
    const version = /kinglet-page [\s\S]*?"([0-9a-f]{16})"/.exec(worker)?.[1] ?? "";
    assert.ok(worker.includes(digest(index)) && version);
    writeFileSync(join(folder, "sw.js"), worker.replace(digest(index), digest(changed)).replace(version, "0123456789abcdef"));
    const before = site.requests.length;
    await page.evaluate(async () => (await navigator.serviceWorker.getRegistration())?.update());
    await page.getByText("A new version of this page is here.").waitFor();
    assert.deepEqual(site.requests.slice(before).filter((request) => !request.endsWith("/sw.js")), ["GET /index.html"]);
    await page.reload();
    await page.getByRole("heading", { name: "A language model in this page" }).waitFor();
    await page.getByText("A new version of this page is here.").waitFor();
    await page.getByRole("button", { name: "Reload" }).click();
    await page.getByRole("heading", { name: "Another headline" }).waitFor();
    quiet();
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("the manifest is one that browsers install, with icons of their sizes", async () => {
  const site = started(await serveSite());
  const context = await browser.newContext();
  const { page, ready } = await openSite(context, site.base + "/");
  await ready();
  const session = await context.newCDPSession(page);
  const { errors, data } = await session.send("Page.getAppManifest");
  assert.deepEqual(errors, []);
  const { icons } = JSON.parse(data ?? "{}");
  assert.ok(icons.some(({ purpose }) => purpose === "maskable"));
  for (const { src, sizes } of icons.filter(({ type }) => type === "image/png")) {
    const size = await page.evaluate(async (src) => {
      const picture = await createImageBitmap(await (await fetch(src)).blob());
      return `${picture.width}x${picture.height}`;
    }, src);
    assert.equal(size, sizes);
  }
  const { installabilityErrors } = await session.send("Page.getInstallabilityErrors");
  assert.deepEqual(installabilityErrors.filter(({ errorId }) => errorId !== "in-incognito"), []);
});

for (const colorScheme of /** @type {const} */ (["light", "dark"])) {
  test(`the bench page measures, draws and exports, and sends nothing, ${colorScheme}`, async () => {
    const site = started(await serveSite());
    const page = await browser.newPage({ viewport: { width: 360, height: 640 }, colorScheme });
    page.setDefaultTimeout(120_000);
    /** @type {string[]} */
    const requests = [];
    page.on("request", (request) => requests.push(`${request.method()} ${request.url()}`));
    await page.goto(`${site.base}/bench.html`);
    await page.getByRole("button", { name: "Measure" }).click();
    await page.getByText("Done.").waitFor();
    await accessible(page, "the bench page");
    await fits(page, "the bench page");
    const [download] = await Promise.all([page.waitForEvent("download"), page.locator("#export").click()]);
    const { limits, runs, failed, device } = JSON.parse(await readFile(await download.path(), "utf8"));
    assert.deepEqual(failed, []);
    assert.equal(device.crossOriginIsolated, true);
    assert.equal(limits.length, runs.length);
    for (const { bytesPerSecond, macsPerSecond } of limits) assert.ok(bytesPerSecond > 1e8 && bytesPerSecond < 1e13 && macsPerSecond > 1e8 && macsPerSecond < 1e14, `${bytesPerSecond} ${macsPerSecond}`);
    for (const { run, limit } of runs) {
      assert.ok(run.decode > 0 && run.prefill > 0 && run.threads === limit.threads);
      assert.ok(run.macsPerToken > 0 && run.prefill * run.macsPerToken < 2 * limit.macsPerSecond, "no engine multiplies faster than the cores");
    }
    assert.equal(await page.locator(".card").count(), runs.length);
    assert.deepEqual(requests.filter((request) => !request.startsWith(`GET ${site.base}/`) && !request.startsWith("GET blob:")), []);
  });
}
