// Every JavaScript block of the package's documentation runs, in a page of its own, as it stands there.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { launch } from "./lib/browser.mjs";
import { scriptOf, randomOf } from "./lib/fault-scripts.mjs";
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
const PAGE = `<!doctype html><meta charset=utf-8><script type="importmap">${JSON.stringify({ imports: IMPORTS })}</script>`;

before(async () => {
  browser = await launch();
  site = await serve({ "/pkg/": PACKAGE }, (request, response) => {
    if (request.url === "/") return response.setHeader("Content-Type", "text/html").end(PAGE), true;
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
for (const name of readdirSync(folder).filter((name) => name.endsWith(".md"))) {
  const blocks = [...readFileSync(join(folder, name), "utf8").matchAll(/^```js\n(.*?)^```$/gms)];
  blocks.forEach(([, code], i) =>
    test(`${name}, block ${i + 1}`, async () => {
      const page = await browser.newPage();
      // Chromium's own would have no model here.
      await page.addInitScript(() => void delete (/** @type {any} */ (globalThis).LanguageModel));
      page.on("dialog", (dialog) => void dialog.accept());
      await page.route("https://ai.example.com/**", (route) => route.fulfill({ contentType: "text/event-stream", headers: { "Access-Control-Allow-Origin": "*" }, body: answer }));
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
        return shown.map(String);
      }, code);
      assert.ok(shown.length > 0, "it shows something");
      await page.close();
    }),
  );
}

test("each error code has its line in the troubleshooting page", () => {
  const codes = [.../** @type {RegExpExecArray} */ (/type ErrorCode =([^;]+);/.exec(readFileSync(join(ROOT, "pkg/src/errors.ts"), "utf8")))[1].matchAll(/"(\w+)"/g)].map(([, code]) => code);
  const lines = [...readFileSync(join(folder, "troubleshooting.md"), "utf8").matchAll(/^\| `(\w+)` \|/gm)].map(([, code]) => code);
  assert.deepEqual(lines, codes);
});
