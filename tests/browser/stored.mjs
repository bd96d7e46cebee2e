// How long a model takes to load over localhost and from each store: node stored.mjs MODEL.gguf ... [--record FILE]
//
// The CPU backend, in a browser with a profile on the disk, each load in a page of its own. "none": downloaded, nothing kept.
// "first": downloaded, stored, read back and hashed on the way. "again": from the store, with no request to the server.
import assert from "node:assert/strict";
import { statSync, writeFileSync } from "node:fs";
import { basename } from "node:path";
import { parseArgs } from "node:util";
import { machineFacts } from "../../benches/web/lib/machine.mjs";
import { launchFirefox, launchWithProfile } from "./lib/browser.mjs";
import { openPackage } from "./lib/package.mjs";
import { sendFile } from "./lib/server.mjs";

const ROUNDS = 3;
const { values: options, positionals: models } = parseArgs({ allowPositionals: true, options: { record: { type: "string" } } });
if (models.length === 0) {
  console.error("usage: node stored.mjs MODEL.gguf ... [--record FILE]");
  process.exit(2);
}
const machine = machineFacts(process.env.CHROMIUM ?? "/usr/bin/chromium");
const browsers = /** @type {const} */ ([["Chromium", () => launchWithProfile(), ["opfs", "cache-api"]], ["Firefox", launchFirefox, ["opfs"]]]);

/** Milliseconds of one load. */
const load = async (/** @type {Awaited<ReturnType<typeof openPackage>>} */ it, /** @type {string} */ cache) => {
  await it.reload();
  return it.page.evaluate(async (cache) => {
    const started = performance.now();
    const engine = await createEngine({ model: "/stored.gguf", backend: "cpu", contextLength: 256, cache: /** @type {any} */ (cache) });
    const ms = performance.now() - started;
    await engine.dispose();
    return ms;
  }, cache);
};
const median = (/** @type {number[]} */ values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];

const runs = [];
for (const file of models) {
  for (const [browser, start, stores] of browsers) {
    const it = await openPackage(start);
    try {
      it.route("/stored.gguf", (request, response) => sendFile(request, response, file));
      const loads = { none: [], ...Object.fromEntries(stores.flatMap((store) => [[`${store}, first`, []], [`${store}, again`, []]])) };
      await load(it, "none"); // compiles the engine's code
      for (let round = 0; round < ROUNDS; round++) {
        loads.none.push(await load(it, "none"));
        for (const store of stores) {
          await it.open();
          loads[`${store}, first`].push(await load(it, store));
          loads[`${store}, again`].push(await load(it, store));
          assert.equal(it.seen.filter(({ path }) => path === "/stored.gguf").length, 0, "it was downloaded again");
        }
      }
      const run = { model: basename(file), bytes: statSync(file).size, browser, loads: Object.fromEntries(Object.entries(loads).map(([how, ms]) => [how, median(ms)])) };
      runs.push(run);
      console.log(`${run.model}, ${browser}: ${Object.entries(run.loads).map(([how, ms]) => `${how} ${Math.round(ms)} ms`).join(", ")}`);
    } finally {
      await it.close();
    }
  }
}
if (options.record) writeFileSync(options.record, JSON.stringify({ machine, rounds: ROUNDS, runs }, null, 1) + "\n");
