// The packed npm package in a page of its own: what the tests of the package share.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { launch, logOf } from "./browser.mjs";
import { DATA, ROOT, serve } from "./server.mjs";

export const STORIES = readFileSync(join(DATA, "stories260K/stories260K.gguf"));
const golden = JSON.parse(readFileSync(join(DATA, "stories260K/golden_greedy.json"), "utf8"));
/** The 200 ids after BOS, and their text. */
export const GOLDEN = { ids: /** @type {number[]} */ (golden.greedy_ids_from_BOS.slice(1)), text: /** @type {string} */ (golden.text) };

/** What npm packs, as a user would have it; the folder itself while there is no pack. */
function packageFolder() {
  const tgz = readdirSync(join(ROOT, "pkg")).find((name) => name.endsWith(".tgz"));
  if (!tgz || process.env.KINGLET_UNPACKED) {
    if (!existsSync(join(ROOT, "pkg/dist/index.js"))) throw new Error("the package is not built: run `cargo xtask pack`");
    return join(ROOT, "pkg");
  }
  const folder = mkdtempSync(join(tmpdir(), "kinglet-package-"));
  execFileSync("tar", ["xzf", join(ROOT, "pkg", tgz), "-C", folder, "--strip-components=1"]);
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
  return folder;
}
export const PACKAGE = packageFolder();

const PAGE = "<!doctype html><meta charset=utf-8><title>package</title>";

/** @typedef {(request: import("node:http").IncomingMessage, response: import("node:http").ServerResponse, nth: number) => void} Route */

/**
 * A browser, a server for page and package, and a page where `kinglet` (the module) and the helpers of `inPage` are global.
 * Routes answer under both servers; the second one is another origin.
 * @param {() => Promise<unknown>} start of the browser: Playwright's or Puppeteer's, which agree in what is used here
 * @param {Record<string, string>} [headers] of the page's server; by default the page is isolated
 */
export async function openPackage(start = launch, headers = undefined) {
  /** @type {Map<string, { answer: Route, calls: number }>} */
  const routes = new Map();
  /** @type {{ path: string, origin: "page" | "other", headers: import("node:http").IncomingHttpHeaders }[]} */
  const seen = [];
  const hook = (/** @type {"page" | "other"} */ origin) => (request, response) => {
    const path = new URL(request.url, "http://localhost").pathname;
    if (!path.endsWith(".js")) seen.push({ path, origin, headers: request.headers });
    if (path === "/") return response.setHeader("Content-Type", "text/html").end(PAGE), true;
    if (origin === "other") {
      response.setHeader("Cross-Origin-Resource-Policy", "cross-origin");
      response.setHeader("Access-Control-Allow-Origin", "*");
      response.setHeader("Access-Control-Allow-Headers", "authorization, range, x-token");
      response.setHeader("Access-Control-Expose-Headers", "ETag, Content-Range");
      if (request.method === "OPTIONS") return response.writeHead(204).end(), true;
    }
    const route = routes.get(path);
    if (!route) return false;
    route.answer(request, response, route.calls++);
    return true;
  };
  const mounts = { "/pkg/": PACKAGE, "/data/": DATA, "/golden/": join(ROOT, "tests/fixtures/golden") };
  const [site, other, started] = await Promise.all([serve(mounts, hook("page"), headers), serve(mounts, hook("other")), start()]);
  const browser = /** @type {import("playwright-core").Browser} */ (started);
  const page = await browser.newPage();
  const log = logOf(page);
  /** The browser's processes of a kind. */
  const pids = async (/** @type {string} */ wanted) => {
    const session = await browser.newBrowserCDPSession();
    const { processInfo } = await session.send("SystemInfo.getProcessInfo");
    await session.detach();
    return processInfo.filter(({ type }) => type === wanted).map(({ id }) => id);
  };
  /** Bytes of each of the browser's processes of a kind. */
  const processes = async (/** @type {string} */ wanted, /** @type {"VmSize" | "VmHWM"} */ figure) => {
    const ids = await pids(wanted);
    return ids.map((id) => 1024 * Number(new RegExp(`${figure}:\\s+(\\d+)`).exec(readFileSync(`/proc/${id}/status`, "utf8"))?.[1] ?? 0));
  };
  /** Loads the page anew; what it stored stays. */
  const reload = async () => {
    await page.goto(site.base + "/");
    seen.length = 0;
    await page.evaluate(inPage);
  };
  const open = async () => {
    await reload();
    await page.evaluate(() => emptied());
  };
  await open();
  return {
    page, site, other, log, seen,
    /** @param {string} path @param {Route} answer */
    route(path, answer) {
      routes.set(path, { answer, calls: 0 });
      seen.length = 0;
    },
    /** @param {string} path */
    unroute: (path) => void routes.delete(path),
    /** All engines' workers but so many have ended. */
    async workersLeft(count = 0) {
      const left = () => page.workers().filter((worker) => !worker.url().endsWith("pool.js")).length;
      for (let i = 0; i < 100 && left() !== count; i++) await new Promise((resolve) => setTimeout(resolve, 50));
      assert.equal(left(), count);
    },
    /** Threads of all renderers that are workers', nested ones too: so many are left, in the end. */
    async workerThreadsLeft(count = 0) {
      let left = -1;
      for (let i = 0; i < 100 && left !== count; i++) {
        if (i > 0) await new Promise((resolve) => setTimeout(resolve, 100));
        left = (await pids("renderer")).flatMap(threadNames).filter((name) => name.startsWith("DedicatedWorker")).length;
      }
      assert.equal(left, count, "threads of workers");
    },
    /** Of all renderers, in GB. */
    async addressSpace() {
      return (await processes("renderer", "VmSize")).reduce((a, b) => a + b, 0) / 2 ** 30;
    },
    /** Peak resident bytes of the largest process of a kind: "renderer" or "GPU". */
    async peakOf(/** @type {string} */ type) {
      return Math.max(...(await processes(type, "VmHWM")));
    },
    /** Ends every engine of the last test by leaving its page, and forgets what was stored. */
    open,
    reload,
    inPage,
    /** Another tab of the same browser, where it has a profile. */
    async newTab() {
      const tab = await browser.newPage();
      await tab.goto(site.base + "/");
      await tab.evaluate(inPage);
      return tab;
    },
    async close() {
      await browser.close();
      site.close();
      other.close();
    },
  };
}

/** Of one process. */
function threadNames(/** @type {number} */ pid) {
  return readdirSync(`/proc/${pid}/task`).flatMap((id) => {
    try {
      return [readFileSync(`/proc/${pid}/task/${id}/comm`, "utf8").trim()];
    } catch {
      return []; // ended meanwhile
    }
  });
}

/**
 * Runs an engine in the page to its first words: what it was and told on the way, or why it was not.
 * @param {import("playwright-core").Page} page @param {object} options
 */
export function firstWords(page, options) {
  return page.evaluate(async (options) => {
    const events = [];
    const phases = [];
    let [ids, info] = [[], /** @type {any} */ (undefined)];
    const error = await failure((async () => {
      const engine = await createEngine({ backend: "cpu", onEvent: (event) => events.push(event), onProgress: (progress) => phases.push(progress), ...options });
      ids = /** @type {any} */ (await greedy(engine)).choices[0].token_ids;
      ({ info } = engine);
      await engine.dispose();
    })());
    return { error, ids, info, events, phases };
  }, options);
}

/** Runs in the page. */
async function inPage() {
  const kinglet = await import(/** @type {string} */ ("/pkg/dist/index.js"));
  const url = "/data/stories260K/stories260K.gguf";
  Object.assign(globalThis, {
    kinglet,
    url,
    createEngine: kinglet.createEngine,
    bytes: async () => (await fetch(url)).arrayBuffer(),
    /** A worker that the test can reach: `trap()` makes its wasm trap. */
    spy() {
      /** @type {Int32Array | undefined} */
      let posted;
      const spied = { worker: /** @type {Worker | undefined} */ (undefined), started: 0 };
      return Object.assign(spied, {
        start() {
          spied.started++;
          const worker = new Worker("/pkg/dist/worker.js", { type: "module" });
          worker.postMessage = (message, transfer) => {
            if (message.type === "load") ({ posted } = message);
            Worker.prototype.postMessage.call(worker, message, transfer);
          };
          return (spied.worker = worker);
        },
        /** Counted like the package's own messages. */
        trap(helper = false) {
          spied.worker?.postMessage({ type: "trap", helper });
          if (posted) Atomics.add(posted, 0, 1);
        },
      });
    },
    /** A worker in which this script runs before the package's own. */
    patched(/** @type {string} */ patch) {
      const script = `
        ${patch}
        const kept = [];
        self.onmessage = (e) => kept.push(e);
        await import("${location.origin}/pkg/dist/worker.js");
        for (const e of kept) self.dispatchEvent(new MessageEvent("message", { data: e.data, ports: e.ports }));`;
      const address = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
      return () => new Worker(address, { type: "module" });
    },
    /** A worker whose browser knows only the wasm that this source text of a function accepts. */
    limited: (/** @type {string} */ accepts) => patched(`
      const { validate } = WebAssembly;
      WebAssembly.validate = (bytes) => validate(bytes) && (${accepts})(bytes);`),
    /** What a promise rejects with, as data. */
    async failure(promise) {
      try {
        await promise;
      } catch (error) {
        const e = /** @type {any} */ (error);
        // A copy: what occurs twice gets lost on the way out of Firefox.
        return { name: e.name, isKinglet: e instanceof kinglet.KingletError, code: e.code, message: e.message, details: e.details, text: e.text, ids: e.ids && [...e.ids] };
      }
      return { code: "nothing failed" };
    },
    /** Nothing is stored of any model. */
    async emptied() {
      const root = await navigator.storage.getDirectory();
      for (let tries = 0; ; tries++) {
        try {
          await root.removeEntry("kinglet-models", { recursive: true });
        } catch (e) {
          // The handles of the last page's workers live a little longer.
          if (/** @type {Error} */ (e).name !== "NotFoundError" && tries < 100) {
            await new Promise((resolve) => setTimeout(resolve, 20));
            continue;
          }
        }
        break;
      }
      await caches.delete("kinglet-models");
    },
    greedy: (engine, options) => engine.completions.create({ prompt: "", temperature: 0, max_tokens: 40, ...options }),
    async collect(stream) {
      const chunks = [];
      for await (const chunk of stream) chunks.push(chunk);
      return chunks;
    },
  });
}
