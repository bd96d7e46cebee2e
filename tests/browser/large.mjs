// A model of several gigabytes through every way there is: node large.mjs [SHAPE:MIX] [--only NAME,...] [--keep FOLDER] [--record FILE]
//
// Native on the CPU and on lavapipe, headless Chromium on its CPU path and on SwiftShader, which needs minutes for a token: one
// of them. Says what each took of memory, beside what `inspect` said before; fails where a page's heap is larger than it may
// be. The model is made first (benches/shapes), into a temporary folder or the one to keep.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { parseArgs } from "node:util";
import { machineFacts } from "../../benches/web/lib/machine.mjs";
import { launch, SWIFTSHADER } from "./lib/browser.mjs";
import { openPackage } from "./lib/package.mjs";
import { ROOT, sendFile } from "./lib/server.mjs";

const MIB = 2 ** 20;
/** What a page's heap may take: beside a GPU, whatever the model; and all that wasm32 has. */
const GPU_HEAP = 256 * MIB;
const CPU_HEAP = 4096 * MIB;
/** Enough for these tokens; the whole context's cache would take hours to fill. */
const CONTEXT = 256;
const PROMPT = "The quick brown fox";

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: { only: { type: "string", default: "native,lavapipe,chromium,swiftshader" }, keep: { type: "string" }, record: { type: "string" } },
});
const wanted = options.only.split(",");
const [model = "phi-4-mini:Q4_K_M"] = positionals;
const folder = options.keep ?? mkdtempSync(join(tmpdir(), "kinglet-large-"));
const file = join(folder, `${model.replace(":", "-")}.gguf`);
const target = process.env.CARGO_TARGET_DIR ?? join(ROOT, "target");

const megabytes = (/** @type {number} */ bytes) => Math.round(bytes / 1e6);
const peakOf = (/** @type {number | undefined} */ pid) => {
  const status = existsSync(`/proc/${pid}/status`) ? readFileSync(`/proc/${pid}/status`, "utf8") : "";
  return 1024 * Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? 0);
};

/** The command line's answer, how long it took, and its peak resident memory. */
async function native(/** @type {string} */ backend, /** @type {number} */ tokens) {
  const args = ["run", file, "--backend", backend, "--prompt", PROMPT, "--max-tokens", String(tokens), "--context-length", String(CONTEXT), "--temperature", "0", "--ignore-eos", "--json"];
  const started = performance.now();
  const child = spawn(join(target, "debug/kinglet"), args, { stdio: ["ignore", "pipe", "inherit"] });
  let peak = 0;
  const watch = setInterval(() => (peak = Math.max(peak, peakOf(child.pid))), 50);
  let text = "";
  child.stdout.on("data", (data) => (text += data));
  const code = await new Promise((resolve) => child.on("close", resolve));
  clearInterval(watch);
  assert.equal(code, 0, `kinglet run --backend ${backend} failed`);
  const { ids, prefillMs, decodeMs } = JSON.parse(text);
  assert.equal(ids.length, tokens);
  const loadMs = performance.now() - started - prefillMs - decodeMs;
  return { tokens, loadMs, prefillMs, decodeMs, peakBytes: peak, ids };
}

/** The package's answer in Chromium, its heap, and the peak of the process that holds the model. */
async function inChromium(/** @type {"cpu" | "webgpu"} */ backend, /** @type {number} */ tokens) {
  const it = await openPackage(() => launch(backend === "webgpu" ? SWIFTSHADER : []));
  try {
    it.route("/large.gguf", (request, response) => sendFile(request, response, file));
    const result = await it.page.evaluate(async ({ backend, tokens, context, prompt }) => {
      const model = "/large.gguf";
      const report = await kinglet.inspect(model, { contextLength: context });
      const started = performance.now();
      const engine = await createEngine({ model, backend, contextLength: context, cache: "none" });
      const loadMs = performance.now() - started;
      const reply = await engine.completions.create({ prompt, max_tokens: tokens, temperature: 0, ignore_eos: true });
      const { prefillMs, decodeMs } = /** @type {any} */ (engine.stats());
      const estimated = backend === "cpu" ? report.memory : report.gpuMemory;
      return { loadMs, prefillMs, decodeMs, ids: reply.choices[0].token_ids, memory: await engine.memory(), estimated, info: engine.info };
    }, { backend, tokens, context: CONTEXT, prompt: backend === "webgpu" ? "fox" : PROMPT });
    assert.equal(result.info.backend, backend);
    assert.equal(result.ids.length, tokens);
    const { ids, loadMs, prefillMs, decodeMs, memory, estimated } = result;
    return { tokens, loadMs, prefillMs, decodeMs, peakBytes: await it.peakOf(backend === "cpu" ? "renderer" : "GPU"), ids, memory, estimated };
  } finally {
    await it.close();
  }
}

/** What is measured against what was said before: a few percent, and some for a heap's gaps. */
function compare(/** @type {string} */ name, /** @type {any} */ run, /** @type {number} */ limit) {
  const { memory, estimated } = run;
  assert.ok(memory.heap < limit, `${name}: a heap of ${megabytes(memory.heap)} MB`);
  for (const [what, measured, said] of [["heap", memory.heap, estimated.heap], ["weights", memory.weights, estimated.weights], ["KV cache", memory.kvCache, estimated.kvCache]]) {
    assert.ok(Math.abs(measured - said) < 0.03 * said + 8 * MIB, `${name}: ${what} of ${megabytes(measured)} MB, of which inspect said ${megabytes(said)}`);
  }
}

try {
  const cargo = (/** @type {string[]} */ ...args) => execFileSync("cargo", args, { cwd: ROOT, stdio: "inherit" });
  cargo("build", "--quiet", "--bin", "kinglet");
  cargo("run", "--quiet", "--example", "make-model", "--", "--out", folder, model);
  const machine = machineFacts(process.env.CHROMIUM ?? "/usr/bin/chromium");
  const runs = {};
  const done = (/** @type {string} */ name, /** @type {any} */ run) => {
    runs[name] = run;
    const { tokens, loadMs, prefillMs, decodeMs, peakBytes, memory } = run;
    const heap = memory ? `, heap ${megabytes(memory.heap)} MB` : "";
    console.log(`${name}: loaded in ${Math.round(loadMs / 1e3)} s, ${tokens} tokens in ${Math.round((prefillMs + decodeMs) / 1e3)} s, peak ${megabytes(peakBytes)} MB${heap}`);
  };
  if (wanted.includes("native")) done("native", await native("cpu", 8));
  if (wanted.includes("lavapipe")) done("lavapipe", await native("webgpu", 2));
  if (wanted.includes("chromium")) {
    done("chromium", await inChromium("cpu", 8));
    compare("chromium", runs["chromium"], CPU_HEAP);
  }
  if (wanted.includes("swiftshader")) {
    done("swiftshader", await inChromium("webgpu", 1));
    compare("swiftshader", runs["swiftshader"], GPU_HEAP);
  }
  if (options.record) {
    const record = { machine, file: { name: basename(file), bytes: statSync(file).size }, context: CONTEXT, runs };
    writeFileSync(options.record, JSON.stringify(record, null, 1) + "\n");
  }
} finally {
  if (!options.keep) rmSync(folder, { recursive: true, force: true });
}
