// The demo page of www/dist in real Chromium: what its tests share.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { logOf } from "./browser.mjs";
import { DATA, ROOT, serve } from "./server.mjs";

export const SITE = join(ROOT, "www/dist");
const AXE = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/**
 * @param {Parameters<typeof serve>[1]} [hook]
 * @param {Record<string, string>} [headers]
 * @param {string} [prefix] of the page's address
 */
export async function serveSite(hook, headers, prefix = "/") {
  assert.ok(existsSync(join(SITE, "index.html")), "www/dist is not built: run `cargo xtask pack`");
  return serve({ [prefix]: SITE, "/data/": DATA, "/fixtures/": join(ROOT, "tests/fixtures") }, hook, headers);
}

/**
 * The page, with what a person does there.
 * @param {import("playwright-core").BrowserContext} context
 * @param {string} address
 */
export async function openSite(context, address) {
  const page = await context.newPage();
  page.setDefaultTimeout(60_000);
  const log = logOf(page);
  await page.goto(address);
  const answers = page.locator('[role="log"] [data-from="assistant"]');
  const box = page.locator("textarea");
  return {
    page, answers, box, log,
    alert: page.locator('[role="alert"]'),
    ready: () => page.locator("#where.ready").waitFor(),
    /** Asks, and waits for the whole answer; the text of its article. */
    async ask(/** @type {string} */ question) {
      const before = await answers.count();
      await box.fill(question);
      await box.press("Enter");
      const answer = answers.nth(before);
      await answer.and(page.locator('[aria-busy="false"]')).waitFor();
      return (await answer.textContent()) ?? "";
    },
    async openPanel(/** @type {string} */ section) {
      if (!(await page.locator("#panel").isVisible())) await page.locator("#open-panel").click();
      const details = page.locator("#panel details", { has: page.locator("summary", { hasText: section }) });
      if ((await details.getAttribute("open")) === null) await details.locator("summary").first().click();
      return details;
    },
    /** A file with this content is chosen in a hidden input. */
    choose: (/** @type {string} */ input, /** @type {string} */ name, /** @type {Buffer | string} */ content) =>
      page.locator(input).setInputFiles({ name, mimeType: "", buffer: Buffer.from(content) }),
    /** No error on the page, nothing against its Content-Security-Policy. */
    quiet: () => assert.deepEqual(log.filter((line) => line.startsWith("page error") || line.includes("Content Security Policy")), []),
  };
}

/** axe-core finds nothing to complain about: names, roles, contrast, landmarks. */
export async function accessible(/** @type {import("playwright-core").Page} */ page, /** @type {string} */ where) {
  await page.evaluate(AXE);
  const violations = await page.evaluate(async () => {
    const { violations } = await /** @type {any} */ (window).axe.run();
    return violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(" ")}`);
  });
  assert.deepEqual(violations, [], where);
}

/** Nothing scrolls sideways. */
export async function fits(/** @type {import("playwright-core").Page} */ page, /** @type {string} */ where) {
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${where} scrolls sideways`);
}

/** A conversation as the page exports it. */
export const conversation = (/** @type {object[]} */ messages) => JSON.stringify({ format: "kinglet-conversation", version: 1, messages });
