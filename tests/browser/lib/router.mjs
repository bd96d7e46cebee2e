// A page with the embedded model and the router, in front of the server that misbehaves: what the tests of the router share.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { launchWithProfile } from "./browser.mjs";
import { startFaultServer } from "./fault-server.mjs";
import { openPackage } from "./package.mjs";
import { ROOT } from "./server.mjs";

/** Made for the embedded model's greedy answers on the CPU: tests/fixtures/make_calibration.py. */
export const CALIBRATION = JSON.parse(readFileSync(join(ROOT, "tests/fixtures/calibration.json"), "utf8"));
export const DIGEST = /** @type {string} */ (CALIBRATION.madeFor.model);
/** Dollars for a million tokens. */
export const PRICE = { input: 1000, output: 2000 };

/** @param {Parameters<typeof startFaultServer>[0]} [how] */
export async function openRouters(how) {
  const [opened, cloud] = await Promise.all([openPackage(() => launchWithProfile()), startFaultServer(how)]);
  await opened.page.evaluate(routerInPage, { calibration: CALIBRATION, digest: DIGEST, price: PRICE });
  return {
    ...opened,
    cloud,
    /** Another tab of the same origin. */
    async tab(path = "/") {
      const page = await opened.page.context().newPage();
      await page.goto(opened.site.base + path);
      await page.evaluate(routerInPage, { calibration: CALIBRATION, digest: DIGEST, price: PRICE });
      return page;
    },
    async close() {
      await opened.close();
      cloud.close();
    },
  };
}

/** Runs in the page. */
async function routerInPage({ calibration, digest, price }) {
  const { createEngine } = await import(/** @type {string} */ ("/pkg/dist/index.js"));
  const { createRouter } = await import(/** @type {string} */ ("/pkg/dist/router.js"));
  const engine = await createEngine({ backend: "cpu", sha256: digest });
  Object.assign(globalThis, {
    engine,
    calibration,
    createRouter,
    /** Greedy answers of a router in a store of its own. */
    router: (/** @type {string} */ url, options = {}) => createRouter({
      local: engine, calibration, cloud: { url, model: "large", price }, consent: () => "once", name: crypto.randomUUID(),
      net: { backoffMs: 50, graceMs: 200 }, ...options,
    }),
    question: (/** @type {string} */ content, more = {}) => ({ messages: [{ role: "user", content }], temperature: 0, ...more }),
    /** So hot that the model is sure of nothing it says. */
    unsure: (more = {}) => ({ messages: [{ role: "user", content: "Tell me a story." }], temperature: 5, top_k: 0, seed: 1, max_tokens: 24, ...more }),
    /** All of a question: its events, what they show in the end, and the answer or the error. */
    async follow(ask) {
      const events = [];
      let shown = "";
      try {
        for await (const event of ask) {
          if (event.type === "token") shown += event.text;
          if (event.type === "switch") shown = shown.slice(0, shown.length - event.retract);
          const { decide, ...plain } = event;
          events.push(plain);
        }
      } catch (e) {
        const error = /** @type {any} */ (e);
        return { events, shown, error: { code: error.code, message: error.message, details: error.details, text: error.text } };
      }
      return { events, shown, answer: await ask.answer };
    },
  });
}
