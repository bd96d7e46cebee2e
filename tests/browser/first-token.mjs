// The time to the first token on the GPU path: node first-token.mjs MODEL.gguf ... [--record FILE]
//
// Cold: a browser with an empty profile, from before the package is imported to the first token of a short prompt. Warm: the
// page once more in the same browser, whose caches have the engine's code and what it compiled. Loaded: another prompt of
// the same engine. In Chromium on SwiftShader and in Firefox on lavapipe, where software plays the GPU.
import { statSync, writeFileSync } from "node:fs";
import { basename } from "node:path";
import { parseArgs } from "node:util";
import { machineFacts } from "../../benches/web/lib/machine.mjs";
import { launch, launchFirefox, SWIFTSHADER } from "./lib/browser.mjs";
import { openPackage } from "./lib/package.mjs";
import { sendFile } from "./lib/server.mjs";

const { values: options, positionals: models } = parseArgs({ allowPositionals: true, options: { record: { type: "string" } } });
if (models.length === 0) {
  console.error("usage: node first-token.mjs MODEL.gguf ... [--record FILE]");
  process.exit(2);
}
const machine = machineFacts(process.env.CHROMIUM ?? "/usr/bin/chromium");
const browsers = /** @type {const} */ ([["Chromium, SwiftShader", () => launch(SWIFTSHADER)], ["Firefox, lavapipe", launchFirefox]]);

/** Milliseconds of one visit. */
const visit = async (/** @type {Awaited<ReturnType<typeof openPackage>>} */ it) => {
  await it.page.goto(it.site.base + "/");
  return it.page.evaluate(async () => {
    const ids = [1, 2, 3, 4, 5, 6, 7, 8].map((i) => 40 + 7 * i);
    const started = performance.now();
    const { createEngine } = await import(/** @type {string} */ ("/pkg/dist/index.js"));
    const engine = await createEngine({ model: "/first-token.gguf", backend: "webgpu", contextLength: 128, cache: "none", testing: { tune: false } });
    const loaded = performance.now() - started;
    const first = async (/** @type {number[]} */ ids) => {
      const before = performance.now();
      await engine.completions.create({ prompt: await engine.detokenize(ids), temperature: 0, max_tokens: 1, ignore_eos: true });
      return performance.now() - before;
    };
    const firstToken = loaded + (await first(ids));
    const again = await first(ids.map((id) => id + 1));
    const { adapter } = engine.info;
    await engine.dispose();
    return { loaded, firstToken, again, adapter };
  });
};

const runs = [];
for (const file of models) {
  for (const [name, start] of browsers) {
    const it = await openPackage(start);
    try {
      it.route("/first-token.gguf", (request, response) => sendFile(request, response, file));
      const [cold, warm] = [await visit(it), await visit(it)];
      const run = { model: basename(file), bytes: statSync(file).size, browser: name, adapter: cold.adapter, cold, warm };
      runs.push(run);
      console.log(`${run.model}, ${name}: first token cold ${Math.round(cold.firstToken)} ms, warm ${Math.round(warm.firstToken)} ms, loaded ${Math.round(warm.again)} ms`);
    } finally {
      await it.close();
    }
  }
}
if (options.record) writeFileSync(options.record, JSON.stringify({ machine, runs }, null, 1) + "\n");
