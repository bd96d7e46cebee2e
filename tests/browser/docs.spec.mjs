// Every JavaScript block of the package's documentation runs, in a page of its own, as it stands there.
import assert from "node:assert/strict";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { after, before, test } from "node:test";
import { launch, launchWithExtension } from "./lib/browser.mjs";
import { scriptOf, randomOf } from "./lib/fault-scripts.mjs";
import { bundleLangchain } from "./lib/langchain.mjs";
import { CALIBRATION } from "./lib/router.mjs";
import { PACKAGE } from "./lib/package.mjs";
import { ROOT, serve } from "./lib/server.mjs";

/** @type {import("playwright-core").Browser} */
let browser;
/** @type {Awaited<ReturnType<typeof serve>>} */
let site;
/** As the package's own `exports` say. */
const { exports } = JSON.parse(readFileSync(join(PACKAGE, "package.json"), "utf8"));
const modules = Object.entries(exports).filter(([name, entry]) => typeof entry === "object" && !name.includes("*"));
const IMPORTS = Object.fromEntries(modules.map(([name, entry]) => [name.replace(/^\./, "kinglet"), entry.default.replace(/^\./, "/pkg")]));
/** What kinglet/langchain wants of the app. */
const langchain = await bundleLangchain();
const PAGE = `<!doctype html><meta charset=utf-8><script type="importmap">${JSON.stringify({ imports: { ...IMPORTS, ...langchain.imports } })}</script>`;

before(async () => {
  browser = await launch();
  site = await serve({ "/pkg/": PACKAGE }, (request, response) => {
    if (request.url === "/") return response.setHeader("Content-Type", "text/html").end(PAGE), true;
    const module = langchain.files.get(request.url ?? "");
    if (module !== undefined) return response.setHeader("Content-Type", "text/javascript").end(module), true;
    if (request.url === "/calibration.json") return response.setHeader("Content-Type", "application/json").end(JSON.stringify(CALIBRATION)), true;
  });
});
after(async () => {
  await browser.close();
  site.close();
});

/** What the server that the documents call ai.example.com says. */
const answer = Buffer.concat(scriptOf("none", { random: randomOf(1), text: "Hello from the cloud.", slowMs: 0 }).steps.map(({ bytes }) => Buffer.from(bytes ?? [])));

const folder = join(ROOT, "pkg/docs");
const pages = [join(ROOT, "README.md"), join(ROOT, "pkg/README.md"), ...readdirSync(folder).map((name) => join(folder, name))].filter((path) => path.endsWith(".md"));
/** The blocks of a page in a language. */
const blocks = (/** @type {string} */ path, /** @type {string} */ language) => [...readFileSync(path, "utf8").matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\`$`, "gms"))].map(([, code]) => code);

/** The JavaScript of a page; blocks that begin with a file's name are files, by that name. */
function blocksOf(/** @type {string} */ path) {
  const all = blocks(path, "js");
  const fileOf = (/** @type {string} */ code) => /^\/\/ ([\w-]+\.js)\n/.exec(code)?.[1];
  return { scripts: all.filter((code) => !fileOf(code)), files: Object.fromEntries(all.filter(fileOf).map((code) => [fileOf(code), code])) };
}

for (const path of pages) {
  blocksOf(path).scripts.forEach((code, i) =>
    test(`${relative(ROOT, path)}, block ${i + 1}`, async () => {
      const page = await browser.newPage();
      // Chromium's own would have no model here.
      await page.addInitScript(() => void delete (/** @type {any} */ (globalThis).LanguageModel));
      page.on("dialog", (dialog) => void dialog.accept());
      await page.route("https://ai.example.com/**", (route) => route.fulfill({ contentType: "text/event-stream", headers: { "Access-Control-Allow-Origin": "*" }, body: answer }));
      await page.route(/^https:\/\/(huggingface\.co|example\.org)\//, (route) => route.fulfill({ headers: { "Access-Control-Allow-Origin": "*" }, path: join(PACKAGE, "dist/default.gguf") }));
      await page.goto(site.base + "/");
      const shown = await page.evaluate(async (code) => {
        const shown = /** @type {unknown[]} */ ([]);
        Object.assign(globalThis, { show: (/** @type {unknown[]} */ ...values) => shown.push(...values) });
        await new Promise((resolve, reject) => {
          Object.assign(globalThis, { ended: resolve });
          addEventListener("error", (e) => reject(new Error(e.message)));
          addEventListener("unhandledrejection", (e) => reject(new Error(String(e.reason))));
          const script = Object.assign(document.createElement("script"), { type: "module", textContent: `${code}\nended();` });
          document.head.append(script);
        });
        return [...shown.map(String), ...(document.body?.innerText ? [document.body.innerText] : [])];
      }, code);
      assert.ok(shown.length > 0, "it shows something");
      await page.close();
    }),
  );
}

test("offline.md: its page is isolated by its service worker, and answers without a server", async () => {
  const { files } = blocksOf(join(folder, "offline.md"));
  const app = await serve({ "/pkg/": PACKAGE }, (request, response) => {
    const file = files[request.url?.slice(1) ?? ""];
    if (request.url === "/") return response.setHeader("Content-Type", "text/html").end(`${PAGE}<script>globalThis.show = (text) => void (document.title = text);</script><script type="module" src="page.js"></script>`), true;
    if (file) return response.setHeader("Content-Type", "text/javascript").end(file), true;
  }, {});
  const page = await browser.newPage();
  const answered = () => page.waitForFunction(() => document.title.startsWith("I am Kinglet"), undefined, { timeout: 60_000 });
  try {
    await page.goto(app.base + "/");
    await answered();
    assert.ok(await page.evaluate(() => crossOriginIsolated), "isolated");
    app.close();
    await page.context().setOffline(true);
    await page.reload();
    await answered();
    assert.ok(await page.evaluate(() => crossOriginIsolated), "isolated without a server");
  } finally {
    await page.close();
    app.close();
  }
});

test("extension.md: its extension answers in the panel, isolated and without a network", async () => {
  const path = join(folder, "extension.md");
  const extension = mkdtempSync(join(tmpdir(), "kinglet-extension-"));
  for (const part of ["dist", "wasm"]) cpSync(join(PACKAGE, part), join(extension, "kinglet", part), { recursive: true });
  writeFileSync(join(extension, "manifest.json"), blocks(path, "json")[0]);
  writeFileSync(join(extension, "panel.html"), blocks(path, "html")[0]);
  for (const [name, code] of Object.entries(blocksOf(path).files)) writeFileSync(join(extension, name), code);
  const chrome = await launchWithExtension(extension);
  try {
    const [background = await chrome.waitForEvent("serviceworker")] = chrome.serviceWorkers();
    await chrome.setOffline(true);
    const panel = await chrome.newPage();
    await panel.goto(new URL("panel.html", background.url()).href);
    await panel.fill("textarea", "Who are you?");
    await panel.click("button");
    await panel.waitForFunction(() => document.querySelector("#answer")?.textContent?.startsWith("I am Kinglet"), undefined, { timeout: 60_000 });
    assert.ok(await panel.evaluate(() => crossOriginIsolated), "isolated");
  } finally {
    await chrome.close();
    rmSync(extension, { recursive: true });
  }
});

test("each error code has its line in the troubleshooting page", () => {
  const codes = [.../** @type {RegExpExecArray} */ (/type ErrorCode =([^;]+);/.exec(readFileSync(join(ROOT, "pkg/src/errors.ts"), "utf8")))[1].matchAll(/"(\w+)"/g)].map(([, code]) => code);
  const lines = [...readFileSync(join(folder, "troubleshooting.md"), "utf8").matchAll(/^\| `(\w+)` \|/gm)].map(([, code]) => code);
  assert.deepEqual(lines, codes);
});

test("each option of a request has its place in the page of requests", () => {
  const source = readFileSync(join(ROOT, "pkg/src/request.ts"), "utf8");
  const list = (/** @type {RegExp} */ block, /** @type {RegExp} */ name) => [.../** @type {RegExpExecArray} */ (block.exec(source))[1].matchAll(name)].map(([, option]) => option);
  const known = [...list(/const SAMPLING.*?{\n(.*?)^};/ms, /^  (\w+):/gm), ...list(/const REFUSED.*?{\n(.*?)^};/ms, /^  (\w+):/gm), ...list(/const KNOWN = new Set\(\[(.*?)\]\)/s, /"(\w+)"/g)];
  const documented = [...readFileSync(join(folder, "requests.md"), "utf8").matchAll(/^\| (`\w+`.*?) \|/gm)].flatMap(([, cell]) => [...cell.matchAll(/`(\w+)`/g)].map(([, option]) => option));
  assert.deepEqual(documented.sort(), known.sort());
});
