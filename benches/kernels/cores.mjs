#!/usr/bin/env node
// What threads can gain: npx -y node@26 benches/kernels/cores.mjs [--cores 2] [--features relaxed]
//
// One token's products over matrices that the caches hold and over ones that they do not, alone and on several cores at once, each for itself, with
// nothing to wait for: G weights/s and GB/s of a core, medians.
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads';
import { build, GGML } from './build.mjs';

const option = (name, otherwise) => {
  const i = process.argv.indexOf('--' + name);
  return i < 0 ? otherwise : process.argv[i + 1];
};
const CASES = [['Q4_0', 1536, 576, 1], ['Q4_0', 1536, 576, 300], ['Q4_0', 2048, 2048, 40], ['Q8_0', 1536, 576, 1], ['Q8_0', 1536, 576, 200]];
const LASTS_MS = 1500;

async function measure(binary) {
  const lines = [];
  for (const [format, rows, cols, copies] of CASES) {
    const wasm = (await WebAssembly.instantiate(binary)).instance.exports;
    const bytes = wasm.matrices(GGML[format], rows, cols, copies);
    const [times, passes, end] = [[], Math.ceil(300 / copies), performance.now() + LASTS_MS];
    while (performance.now() < end) {
      const start = performance.now();
      for (let i = 0; i < passes; i++) wasm.products(1);
      times.push((performance.now() - start) / passes);
    }
    const ms = times.sort((a, b) => a - b)[times.length >> 1];
    lines.push(`${format} ${copies} x ${rows} x ${cols}: ${(rows * cols * copies / ms / 1e6).toFixed(1)} G weights/s, ${(bytes / ms / 1e6).toFixed(1)} GB/s`);
  }
  return lines;
}

if (!isMainThread) parentPort.postMessage(await measure(workerData));
else {
  const binary = Buffer.from(build(option('features', 'relaxed')), 'base64');
  const of = (count) => Promise.all(Array.from({ length: count }, () => new Promise((resolve, reject) => new Worker(new URL(import.meta.url), { workerData: binary }).on('message', resolve).on('error', reject))));
  for (const count of [1, Number(option('cores', 2))]) for (const [i, lines] of (await of(count)).entries()) console.log(`core ${i + 1} of ${count}\n  ${lines.join('\n  ')}`);
}
