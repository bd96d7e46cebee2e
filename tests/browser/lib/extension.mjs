// The extension as the tests use it: loaded unpacked, its panel in a tab, its service worker spoken to.
import assert from "node:assert/strict";
import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { launchWithExtension, logOf, temporaryFolder } from "./browser.mjs";
import { ROOT } from "./server.mjs";

export const EXTENSION = join(ROOT, "www/extension/dist");

/** A copy that may read the pages of some hosts and reach them from the start: nobody can click on the browser's own questions here. */
export function copyWithHosts(/** @type {string[]} */ hosts) {
  const folder = temporaryFolder("extension");
  cpSync(EXTENSION, folder, { recursive: true });
  const manifest = JSON.parse(readFileSync(join(folder, "manifest.json"), "utf8"));
  writeFileSync(join(folder, "manifest.json"), JSON.stringify({ ...manifest, host_permissions: hosts }));
  return folder;
}

/** Starts a browser with the extension in `folder`. */
export async function openExtension(folder = EXTENSION) {
  const browser = await launchWithExtension(folder);
  const worker = browser.serviceWorkers()[0] ?? (await browser.waitForEvent("serviceworker"));
  const base = new URL(".", worker.url()).href;
  const session = await /** @type {import("playwright-core").Browser} */ (browser.browser()).newBrowserCDPSession();
  /** The result of an expression in whatever has this address: also what is no page to Playwright, and a service worker that was started again. */
  const evaluate = async (/** @type {string} */ name, /** @type {string} */ expression) => {
    const { targetInfos } = await session.send("Target.getTargets");
    const target = targetInfos.find(({ url }) => url === base + name);
    if (!target) return undefined;
    const { sessionId } = await session.send("Target.attachToTarget", { targetId: target.targetId, flatten: false });
    try {
      const answer = new Promise((resolve) => session.on("Target.receivedMessageFromTarget", (event) => {
        const message = JSON.parse(event.message);
        if (event.sessionId === sessionId && message.id === 1) resolve(message);
      }));
      const params = { expression, awaitPromise: true, returnByValue: true };
      await session.send("Target.sendMessageToTarget", { sessionId, message: JSON.stringify({ id: 1, method: "Runtime.evaluate", params }) });
      const { result, error } = await answer;
      assert.ok(!error && !result.exceptionDetails, JSON.stringify(error ?? result.exceptionDetails));
      return result.result.value;
    } finally {
      await session.send("Target.detachFromTarget", { sessionId });
    }
  };
  // A worker is told of before its script has run.
  const listens = `globalThis.chrome?.contextMenus?.onClicked.hasListeners() ?? false`;
  while (!(await evaluate("background.js", listens))) await new Promise((resolve) => setTimeout(resolve, 50));
  /** Of every page and worker. @type {string[]} */
  const requests = [];
  browser.on("request", (request) => requests.push(request.url()));
  /** @type {string[][]} */
  const logs = [];
  const inWorker = (/** @type {Function} */ script, /** @type {unknown} */ argument = undefined) => evaluate("background.js", `(${script})(${JSON.stringify(argument)})`);
  const open = async (/** @type {string} */ name, size = { width: 360, height: 720 }) => {
    const page = await browser.newPage();
    page.setDefaultTimeout(60_000);
    logs.push(logOf(page));
    await page.setViewportSize(size);
    await page.goto(base + name);
    return page;
  };
  return {
    browser, base, requests, evaluate, inWorker, open,
    log: () => logs.flat(),
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
