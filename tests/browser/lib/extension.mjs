// The extension as the tests use it: loaded unpacked, its panel in a tab, its service worker spoken to.
import assert from "node:assert/strict";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { launchWithExtension, logOf } from "./browser.mjs";
import { ROOT } from "./server.mjs";

export const EXTENSION = join(ROOT, "www/extension/dist");

/** A copy that may read the pages of some hosts and reach them from the start: nobody can click on the browser's own questions here. */
export function copyWithHosts(/** @type {string[]} */ hosts) {
  const folder = mkdtempSync(join(tmpdir(), "kinglet-extension-"));
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
  cpSync(EXTENSION, folder, { recursive: true });
  const manifest = JSON.parse(readFileSync(join(folder, "manifest.json"), "utf8"));
  writeFileSync(join(folder, "manifest.json"), JSON.stringify({ ...manifest, host_permissions: hosts }));
  return folder;
}

/** Starts a browser with the extension in `folder`. */
export async function openExtension(folder = EXTENSION) {
  const browser = await launchWithExtension(folder);
  const worker = async () => browser.serviceWorkers()[0] ?? (await browser.waitForEvent("serviceworker"));
  const base = new URL(".", (await worker()).url()).href;
  /** Of every page and worker. @type {string[]} */
  const requests = [];
  browser.on("request", (request) => requests.push(request.url()));
  /** @type {string[]} */
  let log = [];
  const inWorker = async (script, argument) => (await worker()).evaluate(script, argument);
  const open = async (/** @type {string} */ name, size = { width: 360, height: 720 }) => {
    const page = await browser.newPage();
    page.setDefaultTimeout(60_000);
    log = logOf(page);
    await page.setViewportSize(size);
    await page.goto(base + name);
    return page;
  };
  return {
    browser, base, requests, inWorker, open,
    log: () => log,
    /** The panel, in a tab of the window: the browser's own side panel is no page to Playwright. */
    async panel() {
      const page = await open("sidepanel.html");
      const answers = page.locator('[role="log"] [data-from="assistant"]');
      return {
        page, answers,
        questions: page.locator('[role="log"] [data-from="user"]'),
        alert: page.locator('[role="alert"]'),
        ready: () => page.locator("#where.ready").waitFor(),
        async ask(/** @type {string} */ question) {
          await page.locator("textarea").fill(question);
          await page.locator("textarea").press("Enter");
        },
        /** So many answers, all complete: the last one's text. */
        async answer(count = 1) {
          await page.locator('[data-from="assistant"][aria-busy="false"]').nth(count - 1).waitFor();
          await page.locator('[data-from="assistant"][aria-busy="true"]').waitFor({ state: "detached" });
          assert.equal(await answers.count(), count);
          return (await answers.last().textContent()) ?? "";
        },
      };
    },
    /** Of the window that all tabs are in. */
    windowId: () => inWorker(async () => (await chrome.windows.getLastFocused()).id),
    /** As a click on an item of the context menu, which no test can make: without its leave to open the panel. */
    menu: (/** @type {object} */ info, /** @type {object} */ tab) => inWorker(([info, tab]) => chrome.contextMenus.onClicked.dispatch(info, tab), [info, tab]),
    async close() {
      await browser.close();
    },
  };
}
