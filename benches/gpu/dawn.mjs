#!/usr/bin/env node
// The package's wasm in Node on Dawn (npm's `webgpu`), the WebGPU of Chromium without the browser:
//   npm install --prefix benches/gpu && node --experimental-wasm-relaxed-simd benches/gpu/dawn.mjs MODEL.gguf [-p 128] [-n 64] [--ids]
// Needs `cargo xtask pack`. On a machine with a GPU this is the browser's speed less the browser.
import fs from 'node:fs';
import path from 'node:path';
import { create, globals } from 'webgpu';
import { fileSource } from '../kernels/file-source.mjs';

const ROOT = path.join(import.meta.dirname, '../..');
const [file, ...rest] = process.argv.slice(2);
if (!file) {
  console.error('usage: node --experimental-wasm-relaxed-simd benches/gpu/dawn.mjs MODEL.gguf [-p 128] [-n 64] [--ids]');
  process.exit(2);
}
const option = (name, otherwise) => {
  const i = rest.indexOf(name);
  return i < 0 ? otherwise : Number(rest[i + 1]);
};
const [promptTokens, newTokens] = [option('-p', 128), option('-n', 64)];

// What wgpu looks for in a worker's scope.
Object.assign(globalThis, globals);
const gpu = create(['enable-dawn-features=allow_unsafe_apis']);
class WorkerGlobalScope {}
globalThis.WorkerGlobalScope = WorkerGlobalScope;
Object.setPrototypeOf(globalThis, WorkerGlobalScope.prototype);
Object.defineProperty(globalThis, 'navigator', { value: { gpu }, configurable: true });
globalThis.kingletPanic = (message) => console.error(message);

const { default: init, Engine } = await import(path.join(ROOT, 'pkg/wasm/relaxed/kinglet.js'));
const { memory } = await init({ module_or_path: fs.readFileSync(path.join(ROOT, 'pkg/wasm/relaxed/kinglet_bg.wasm')) });

const adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' });
if (!adapter) throw new Error('Dawn finds no GPU; on Linux it needs a Vulkan driver');
const prototype = Object.getPrototypeOf(adapter);
const { requestDevice } = prototype;
prototype.requestDevice = function (descriptor = {}) {
  const features = new Set(descriptor.requiredFeatures ?? []);
  if (this.features.has('subgroups')) features.add('subgroups');
  return requestDevice.call(this, { ...descriptor, requiredFeatures: [...features] });
};
const { info } = adapter;
const options = {
  backend: 'webgpu',
  contextLength: promptTokens + newTokens + 1,
  gpu: {
    subgroups: adapter.features.has('subgroups'),
    minSubgroupSize: info.subgroupMinSize ?? 4,
    packedDot: true,
    adapter: info.description || `${info.vendor} ${info.architecture}`,
  },
};

const start = performance.now();
const engine = await Engine.load([fileSource(file, memory)], JSON.stringify(options), () => {});
const loaded = performance.now();
const prompt = rest.includes('--ids') ? '' : engine.detokenize(Uint32Array.from({ length: promptTokens }, (_, i) => 300 + (i * 7) % 200));
const runs = [];
for (let i = 0; i < 3; i++) {
  engine.start(JSON.stringify({ prompt, options: { temperature: 0, max_tokens: newTokens, ignore_eos: true, cache_prompt: false } }));
  const ids = [];
  for (;;) {
    const step = await engine.step();
    if (step.type === 'token') ids.push(step.id);
    if (step.type === 'done') {
      runs.push({ ...step.stats, ids });
      break;
    }
  }
}
if (rest.includes('--ids')) console.log(JSON.stringify(runs[0].ids));
const median = (values) => values.sort((a, b) => a - b)[values.length >> 1];
console.error(`${options.gpu.adapter}: loaded in ${(loaded - start).toFixed(0)} ms, heap ${(memory.buffer.byteLength / 1e6).toFixed(0)} MB`);
for (const run of runs.slice(0, 1)) console.error(`first run: first token after ${run.prefillMs.toFixed(0)} ms`);
console.error(`prefill ${(1e3 / median(runs.map((r) => r.prefillMs / (r.promptTokens - r.cachedTokens)))).toFixed(1)} tokens/s, decode ${median(runs.map((r) => (1e3 * (r.completionTokens - 1)) / r.decodeMs)).toFixed(1)} tokens/s, ${runs[0].dispatchesPerToken} dispatches a token`);
process.exit();
