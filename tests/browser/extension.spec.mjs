// The Chrome extension as Chrome loads it: the panel, the context menu, reading pages, options, and what is kept.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { after, afterEach, before, test } from "node:test";
import { zip } from "../../www/extension/zip.mjs";
import { temporaryFolder } from "./lib/browser.mjs";
import { withMetadata, withTemplate } from "./lib/gguf.mjs";
import { copyWithHosts, EXTENSION, openExtension } from "./lib/extension.mjs";
import { randomOf, scriptOf } from "./lib/fault-scripts.mjs";
import { ROOT, serve } from "./lib/server.mjs";
import { accessible, fits } from "./lib/site.mjs";

const MANIFEST = JSON.parse(readFileSync(join(EXTENSION, "manifest.json"), "utf8"));
const SELECTION = "Photosynthesis turns light into sugar.";
const ARTICLE = "The kinglet weighs five grams and lives in spruce woods. ".repeat(8);
const PAGES = {
  "/article": `<title>Kinglets</title><nav>Home, shop, about</nav><aside>Buy seeds!</aside><form><input value="secret input"><textarea>secret draft</textarea></form>
    <main><h1>Goldcrests</h1><p>${ARTICLE}</p><p style="display:none">unseen words</p><script>"code"</script><p contenteditable>my own note</p><ul><li>one</li><li>two</li></ul></main><footer>imprint</footer>`,
  "/empty": "<title>Empty</title><img alt='a picture'>",
};

/** @type {Awaited<ReturnType<typeof serve>>} */ let site;
/** @type {Awaited<ReturnType<typeof openExtension>>} */ let extension;
/** What the server of "/v1/chat/completions" was sent. @type {string[]} */
const sent = [];

before(async () => {
  assert.ok(existsSync(join(EXTENSION, "sidepanel.html")), "www/extension/dist is not built: run `cargo xtask extension`");
  const answer = scriptOf("none", { random: randomOf(1), text: "Hello from the server.", slowMs: 0 }).steps;
  site = await serve({}, (request, response) => {
    if (request.url === "/v1/chat/completions") {
      let body = "";
      request.on("data", (data) => (body += data));
      request.on("end", () => {
        sent.push(body);
        response.setHeader("Content-Type", "text/event-stream");
        for (const { bytes } of answer) if (bytes) response.write(Buffer.from(bytes));
        response.end();
      });
      return true;
    }
    if (request.url === "/paper.pdf") return response.setHeader("Content-Type", "application/pdf").end("%PDF-1.1"), true;
    const page = PAGES[/** @type {keyof typeof PAGES} */ (request.url)];
    return page !== undefined && (response.setHeader("Content-Type", "text/html").end(page), true);
  }, {});
});
after(() => site?.close());
afterEach(async () => {
  const log = extension?.log() ?? [];
  await extension?.close();
  assert.deepEqual(log.filter((line) => line.startsWith("page error") || line.includes("Content Security Policy")), []);
});

const example = async () => ({ id: -1, windowId: await extension.windowId(), title: "Plants" });
const selected = (/** @type {string} */ task, text = SELECTION) => ({ menuItemId: task, selectionText: text, pageUrl: "https://example.org/plants" });

test("asks for few permissions, none for hosts, and allows no code from elsewhere", async () => {
  assert.deepEqual(MANIFEST.permissions, ["activeTab", "contextMenus", "scripting", "sidePanel", "storage", "unlimitedStorage"]);
  assert.equal(MANIFEST.host_permissions, undefined);
  assert.equal(MANIFEST.content_scripts, undefined);
  assert.equal(MANIFEST.externally_connectable, undefined);
  assert.equal(MANIFEST.web_accessible_resources, undefined);
  const policy = Object.fromEntries(MANIFEST.content_security_policy.extension_pages.split("; ").map((/** @type {string} */ part) => part.split(/ (.*)/)));
  assert.equal(policy["default-src"], "'none'");
  assert.equal(policy["script-src"], "'self' 'wasm-unsafe-eval'");
  assert.equal(policy["worker-src"], "'self'");
  extension = await openExtension();
  const granted = await extension.inWorker(() => chrome.permissions.getAll());
  assert.deepEqual(granted.permissions?.toSorted(), MANIFEST.permissions);
  assert.deepEqual(granted.origins, []);
});

test("the zip holds what is loaded unpacked, with the same bytes each time; from it the panel answers from a cold start without a network", async () => {
  const name = `kinglet-extension-${MANIFEST.version}.zip`;
  const file = join(ROOT, "www/extension", name);
  const paths = readdirSync(EXTENSION, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const files = Object.fromEntries(paths.map((path) => [relative(EXTENSION, path).replaceAll("\\", "/"), readFileSync(path)]));
  assert.ok(readFileSync(file).equals(zip(files)), "built from dist again, it is the same");
  const folder = temporaryFolder("zip");
  execFileSync("python3", ["-m", "zipfile", "-e", file, folder]);
  extension = await openExtension(folder);
  await extension.browser.setOffline(true);
  const { page, ask, answer } = await extension.panel();
  assert.equal(await page.locator("textarea").count(), 1);
  assert.equal(await page.locator("[data-from]").count(), 0);
  await ask("Who are you?");
  assert.match(await answer(), /Kinglet/);
  assert.ok(await page.evaluate(() => crossOriginIsolated), "isolated, for threads");
  assert.match((await page.locator("#where-text").textContent()) ?? "", /^On this device · CPU/);
  assert.deepEqual(extension.requests.filter((url) => !url.startsWith(extension.base)), [], "nothing is asked of anybody");
  assert.ok(extension.requests.some((url) => url.endsWith(".wasm") || url.endsWith(".gguf")), "requests were seen");
});

test("explains a selection: with the panel closed, loading and open, in its own window, once", async () => {
  extension = await openExtension();
  const here = await example();
  await extension.menu(selected("explain"), here);
  await extension.menu(selected("summarise"), { ...here, windowId: here.windowId + 1000 });
  const { page, questions, answer } = await extension.panel();
  assert.notEqual(await answer(1), "");
  assert.equal(await questions.textContent(), `Explain: “${SELECTION}”`);
  const twin = await extension.panel(); // a second one in the same window, which still loads
  await extension.menu(selected("rewrite"), here);
  const asked = async () => (await questions.count()) + (await twin.questions.count());
  while ((await asked()) < 2) await page.waitForTimeout(50);
  await page.waitForTimeout(500);
  assert.equal(await asked(), 2, "one of them asks, and a window's second panel does not take up the first one's conversation");
  await twin.page.close();
  const before = await questions.count();
  await extension.menu(selected("summarise"), here);
  assert.notEqual(await answer(before + 1), "");
  assert.equal(await questions.last().textContent(), `Summarise: “${SELECTION}”`);
  const from = page.locator("details.excerpt").last();
  assert.match((await from.locator("summary").textContent()) ?? "", /^Plants · example\.org\s*38 characters/);
  assert.equal(await from.locator("p").textContent(), SELECTION);
  const left = await extension.inWorker(() => chrome.storage.session.get(null));
  assert.deepEqual(Object.values(left).map(({ windowId }) => windowId), [here.windowId + 1000], "another window's waits for its own panel");
});

test("a long selection is cut to the context, and the cut is told", async () => {
  extension = await openExtension();
  const { page, ready, answer } = await extension.panel();
  await ready();
  const long = "Light falls on leaves, and leaves make sugar. ".repeat(400);
  await extension.menu(selected("summarise", long), await example());
  await answer();
  const [, kept, whole] = /the first ([\d,]+) of ([\d,]+) characters/.exec((await page.locator(".excerpt summary").textContent()) ?? "") ?? [];
  assert.equal(Number(whole.replace(",", "")), long.length);
  const read = (await page.locator(".excerpt p").textContent()) ?? "";
  assert.equal(Number(kept.replace(",", "")), read.length);
  assert.ok(read.length > 200 && long.startsWith(read) && read.endsWith("."), "up to the end of a sentence");
});

test("the menu goes on after the service worker was ended; the language of translations is an option", async () => {
  extension = await openExtension();
  const options = await extension.open("options.html");
  await options.locator("#language").selectOption("de");
  await options.waitForFunction(() => chrome.storage.local.get("language").then(({ language }) => language === "de"));
  const panel = await extension.panel();
  await panel.ready();
  await extension.menu(selected("explain"), await example());
  await panel.answer(1);
  const running = () => panel.page.evaluate(async () => (await chrome.runtime.getContexts({ contextTypes: ["BACKGROUND"] })).map(({ contextId }) => contextId));
  const before = await running();
  const session = await extension.browser.newCDPSession(panel.page);
  await session.send("ServiceWorker.enable");
  await session.send("ServiceWorker.stopAllWorkers");
  while ((await running()).length > 0) await panel.page.waitForTimeout(50);
  // Any event starts it again; here the panel's message.
  await panel.page.evaluate(() => chrome.runtime.sendMessage({ type: "hello" }).catch(() => {}));
  while ((await running()).length === 0) await panel.page.waitForTimeout(50);
  assert.notDeepEqual(await running(), before, "it is another one");
  const error = await extension.inWorker(() => new Promise((resolve) => chrome.contextMenus.update("translate", {}, () => resolve(chrome.runtime.lastError?.message))));
  assert.equal(error, undefined, "its menu is still there");
  await extension.menu(selected("translate"), await example());
  await panel.answer(2);
  assert.equal(await panel.questions.last().textContent(), `Translate into German: “${SELECTION}”`);
});

test("the browser's own side panel opens with the engine in it, answers, and reads the page beside it", async () => {
  extension = await openExtension(copyWithHosts(["http://localhost/*"]));
  const page = await extension.open("erased.html");
  const { windowId } = await example();
  await page.evaluate((windowId) => document.addEventListener("click", () => void chrome.sidePanel.open({ windowId })), windowId);
  await extension.menu(selected("explain"), await example());
  await page.locator("h1").click();
  const state = () => extension.evaluate("sidepanel.html", `[...document.querySelectorAll('[data-from="user"], [data-from="assistant"][aria-busy="false"]')].map((message) => message.textContent)`);
  let said = /** @type {string[]} */ ([]);
  for (let i = 0; i < 300 && said.length < 2; i++) {
    said = (await state()) ?? [];
    await page.waitForTimeout(100);
  }
  assert.equal(said[0], `Explain: “${SELECTION}”`);
  assert.notEqual(said[1], "");
  await page.goto(`${site.base}/article`);
  await extension.evaluate("sidepanel.html", `document.querySelector("#read-page").click()`);
  let attached = "";
  for (let i = 0; i < 100 && !attached; i++) {
    attached = await extension.evaluate("sidepanel.html", `document.querySelector("#attached").textContent`);
    await page.waitForTimeout(50);
  }
  assert.match(attached, /^Kinglets · localhost/);
});

/** A tab with a page of the test's server, as the context menu has it. */
async function tabWith(/** @type {string} */ address) {
  const page = await extension.browser.newPage();
  await page.goto(address);
  const id = await extension.inWorker(async () => (await chrome.tabs.query({ active: true }))[0].id);
  return { page, tab: { id, windowId: await extension.windowId(), title: "a page" } };
}

test("without leave nothing is read, and a message says what to do", async () => {
  extension = await openExtension();
  const panel = await extension.panel();
  const { tab } = await tabWith(`${site.base}/article`);
  await panel.page.evaluate(() => {
    const { addHostAccessRequest: real } = chrome.permissions;
    chrome.permissions.addHostAccessRequest = (request) => real(request).then(() => Object.assign(globalThis, { offered: request }));
  });
  await extension.menu({ menuItemId: "read-page", pageUrl: `${site.base}/article` }, tab);
  await panel.alert.getByText(/may not read this page yet.*toolbar/).waitFor();
  assert.ok(await panel.page.locator("#attached").isHidden());
  assert.deepEqual(await panel.page.evaluate(() => /** @type {any} */ (globalThis).offered), { tabId: tab.id }, "the browser's toolbar offers to allow this site");
  const { tab: own } = await tabWith("chrome://version/");
  await extension.menu({ menuItemId: "read-page", pageUrl: "chrome://version/" }, own);
  await panel.alert.getByText(/a page of the browser itself/).waitFor();
  await panel.page.getByRole("button", { name: "Read this page" }).click(); // the panel itself is in front
  await panel.alert.getByText(/a page of the browser itself|may not read/).waitFor();
  assert.ok(!JSON.stringify(await panel.page.evaluate(() => document.body.textContent)).includes("spruce"));
});

test("reads a page when told to: what a reader sees of its content, once, with the question", async () => {
  extension = await openExtension(copyWithHosts(["http://localhost/*"]));
  const panel = await extension.panel();
  await panel.ready();
  const { tab, page } = await tabWith(`${site.base}/article`);
  await extension.menu({ menuItemId: "read-page", pageUrl: page.url() }, tab);
  const attached = panel.page.locator("#attached");
  await attached.getByText("Kinglets · localhost").waitFor();
  assert.equal(await panel.questions.count(), 0, "nothing is asked by itself");
  await panel.ask("How heavy is a kinglet?");
  await panel.answer(1);
  assert.ok(await attached.isHidden());
  assert.equal(await panel.questions.textContent(), "How heavy is a kinglet?");
  const read = (await panel.page.locator(".excerpt p").textContent()) ?? "";
  assert.ok(read.startsWith("Goldcrests\n\nThe kinglet weighs five grams"), read);
  for (const unwanted of ["secret", "shop", "seeds", "unseen", "code", "my own note", "imprint"]) assert.ok(!read.includes(unwanted), unwanted);
  await panel.ask("And where does it live?");
  await panel.answer(2);
  assert.equal(await panel.page.locator(".excerpt").count(), 1, "the page goes along once");
  const { tab: empty } = await tabWith(`${site.base}/empty`);
  await extension.menu({ menuItemId: "read-page", pageUrl: `${site.base}/empty` }, empty);
  await panel.alert.getByText(/No text was found/).waitFor();
  const { tab: pdf } = await tabWith(`${site.base}/paper.pdf`);
  await extension.menu({ menuItemId: "read-page", pageUrl: `${site.base}/paper.pdf` }, pdf);
  await panel.alert.getByText(/This is a PDF/).waitFor();
});

test("a server: the consent shows what would be sent, a no keeps the local answer, the token is not kept", async () => {
  extension = await openExtension(copyWithHosts(["http://localhost/*"]));
  const options = await extension.open("options.html", { width: 900, height: 900 });
  const form = options.locator("#router form");
  await form.getByLabel("Who answers").selectOption("prefer-cloud");
  await form.getByLabel("Address of the chat completions").fill(`${site.base}/v1/chat/completions`);
  await form.getByLabel("Model there").fill("large");
  const token = form.getByLabel(/^Token/);
  await token.fill("sk-abcdefghijklmnopqrstuvwxyz0123456789");
  await form.getByRole("button", { name: "Switch on" }).click();
  await options.locator("#router-state").getByText(/Not switched on.*key/).waitFor();
  await token.fill("short-lived-token");
  await form.getByRole("button", { name: "Switch on" }).click();
  await options.locator("#router-state").getByText(/^On/).waitFor();
  const kept = await extension.inWorker(async () => ({ local: JSON.stringify(await chrome.storage.local.get(null)), session: JSON.stringify(await chrome.storage.session.get(null)), sync: JSON.stringify(await chrome.storage.sync.get(null)) }));
  assert.ok(!kept.local.includes("short-lived-token") && kept.session.includes("short-lived-token"), "in memory only");
  assert.equal(kept.sync, "{}");

  const panel = await extension.panel();
  await panel.ready();
  await panel.page.waitForFunction(() => document.querySelector("#router")?.textContent?.includes("On: the server is asked first"));
  await panel.ask("Who are you?");
  const dialog = panel.page.locator("dialog.consent");
  await dialog.waitFor();
  assert.match((await dialog.locator("pre").textContent()) ?? "", /Who are you\?/);
  assert.match((await dialog.textContent()) ?? "", /localhost/);
  await dialog.getByRole("button", { name: "Keep it here" }).click();
  assert.match(await panel.answer(1), /Kinglet/);
  assert.equal(await panel.answers.first().getAttribute("data-source"), "local");
  assert.equal(sent.length, 0, "nothing left");
  await panel.ask("Who are you?");
  const preview = await dialog.locator("pre").textContent();
  await dialog.getByRole("button", { name: "Send once" }).click();
  assert.equal(await panel.answer(2), "Hello from the server.");
  assert.equal(await panel.answers.last().getAttribute("data-source"), "cloud");
  assert.deepEqual(JSON.parse(sent[0]), JSON.parse(preview ?? ""));
  await options.getByRole("button", { name: "Switch off" }).click();
  await panel.page.waitForFunction(() => document.querySelector("#router")?.textContent?.includes("Off: nothing leaves"));
  await panel.ask("Who are you?");
  await panel.answer(3);
  assert.equal(sent.length, 1);
  await options.getByRole("button", { name: "Remove this server" }).click();
  await options.waitForFunction(async () => Object.keys({ ...(await chrome.storage.local.get(null)), ...(await chrome.storage.session.get(null)) }).length === 0);
});

test("a model's template is the package's, not the file's; where the package has none, it says what to do", async () => {
  extension = await openExtension();
  const panel = await extension.panel();
  await panel.ready();
  const options = await extension.open("options.html");
  const use = async (/** @type {string} */ name, /** @type {Buffer} */ buffer) => {
    await options.locator("#import-model").setInputFiles({ name: `${name}.gguf`, mimeType: "application/octet-stream", buffer });
    await options.getByRole("button", { name: new RegExp(`^Use: ${name}`) }).click();
  };
  const embedded = readFileSync(join(EXTENSION, "kinglet/dist/default.gguf"));
  await use("raising", withTemplate(embedded, "{{ raise_exception('this is written in the file') }}"));
  await panel.page.waitForFunction(() => localStorage["kinglet-model"]?.includes("local:raising.gguf"));
  await panel.ready();
  await panel.ask("Who are you?");
  assert.match(await panel.answer(1), /Kinglet/, "as the embedded model answers, whose template the package has");
  const stories = readFileSync(join(ROOT, "../shared/data/stories260K/stories260K.gguf"));
  await use("stories", withMetadata(stories, { "tokenizer.chat_template": "[INST]{{ messages[0].content }}[/INST]" }));
  await panel.alert.getByText(/no chat template for this model.*Choose another model\. The page goes on/).waitFor();
  await panel.page.locator("#where.ready").waitFor();
});

test("conversations stay until they are deleted; deleting everything leaves nothing", async () => {
  extension = await openExtension();
  const panel = await extension.panel();
  await panel.ask("Who are you?");
  await panel.answer(1);
  await panel.page.reload();
  await panel.answer(1);
  await panel.page.getByRole("button", { name: "New conversation" }).click();
  assert.equal(await panel.answers.count(), 0);
  const options = await extension.open("options.html");
  await options.locator("#import-model").setInputFiles(join(EXTENSION, "kinglet/dist/default.gguf"));
  await options.locator("#stored li").waitFor();
  await options.locator("#language").selectOption("fr");
  await panel.ready();
  await options.getByRole("button", { name: /^Use: default/ }).click();
  await panel.page.locator("#facts").waitFor({ state: "attached" });
  await panel.page.waitForFunction(() => localStorage["kinglet-model"]?.includes("local:default.gguf"));
  await panel.ready();
  const kept = () => options.evaluate(async () => {
    const files = [];
    for await (const name of (await navigator.storage.getDirectory()).keys()) files.push(name);
    const databases = (await indexedDB.databases()).map(({ name }) => name);
    const stored = { ...(await chrome.storage.local.get(null)), ...(await chrome.storage.session.get(null)), ...(await chrome.storage.sync.get(null)) };
    return { files, databases, stored: Object.keys(stored), caches: await caches.keys(), local: { ...localStorage }, origins: (await chrome.permissions.getAll()).origins };
  });
  const full = await kept();
  assert.ok(full.files.length > 0 && full.databases.length > 0 && full.stored.length > 0 && Object.keys(full.local).length > 0, JSON.stringify(full));
  options.on("dialog", (dialog) => void dialog.accept());
  await options.getByRole("button", { name: "Delete everything" }).click();
  await options.getByRole("heading", { name: "Everything was deleted" }).waitFor();
  assert.deepEqual(await kept(), { files: [], databases: [], stored: [], caches: [], local: {}, origins: [] });
  await panel.page.getByRole("heading", { name: "Everything was deleted" }).waitFor();
  await panel.page.getByRole("link", { name: "Start again" }).click();
  await panel.ask("Who are you?");
  await panel.answer(1);
});

test("axe finds nothing to complain about, in light and dark, at 280 pixels too", async () => {
  extension = await openExtension();
  const check = async (/** @type {import("playwright-core").Page} */ page, /** @type {string} */ what) => {
    for (const colorScheme of /** @type {const} */ (["light", "dark"])) {
      await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
      await accessible(page, `${what}, ${colorScheme}`);
      await fits(page, what);
    }
  };
  const panel = await extension.panel();
  await panel.page.setViewportSize({ width: 280, height: 600 });
  await panel.ready();
  await check(panel.page, "welcome");
  await extension.menu(selected("explain"), await example());
  await panel.answer(1);
  await panel.page.locator(".excerpt summary").click();
  await check(panel.page, "conversation");
  await panel.page.getByRole("button", { name: "Settings and panels" }).click();
  for (const section of await panel.page.locator("#panel details").all()) await section.evaluate((details) => details.setAttribute("open", ""));
  await check(panel.page, "settings");
  await panel.page.getByRole("button", { name: "Close the settings" }).click();
  await panel.page.locator("#open-models").click();
  await panel.page.locator("#catalogue li").first().waitFor();
  await check(panel.page, "models");
  await check(await extension.open("options.html", { width: 900, height: 900 }), "options");
  await check(await extension.open("privacy.html", { width: 900, height: 900 }), "privacy");
});
