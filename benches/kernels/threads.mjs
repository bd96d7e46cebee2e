#!/usr/bin/env node
// The package's threads without a browser, on machines with more cores than ours: `cargo xtask pack`, then
//   npx -y node@26 benches/kernels/threads.mjs MODEL.gguf ... [--threads 1,2,4] [--rounds 3] [-p 128] [-n 64] [--wasm FOLDER]
//
// One engine of pkg/wasm/threads in a process of its own for each number of threads, interleaved; prefill and decode in tokens/s and in times of the
// first number's, medians. `--wasm`: another build of it.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads';
import { fileSource } from './file-source.mjs';

const SELF = fileURLToPath(import.meta.url);
const HELPER_STACK_BYTES = 256 << 10;
const args = process.argv.slice(2);
const option = (name, otherwise) => {
  const at = args.indexOf(name);
  return at < 0 ? otherwise : args.splice(at, 2)[1];
};
const median = (values) => values.sort((a, b) => a - b)[values.length >> 1];
const load = (folder) => import(pathToFileURL(path.join(folder, 'kinglet.js')));

/** In a process of its own: the engine of this many threads, and what three answers took. */
async function engine(folder, file, threads, promptTokens, newTokens) {
  const { default: init, Engine, shared, use_threads } = await load(folder);
  const module = await WebAssembly.compile(fs.readFileSync(path.join(folder, 'kinglet_bg.wasm')));
  const { memory } = await init({ module_or_path: module });
  const workers = await Promise.all(Array.from({ length: threads - 1 }, (_, i) => new Promise((resolve, reject) => {
    const worker = new Worker(SELF, { workerData: { folder, module, memory, thread: i + 1 } });
    worker.on('message', () => resolve(worker)).on('error', reject);
  })));
  use_threads(threads);

  const running = await Engine.load([fileSource(file, memory)], JSON.stringify({ backend: 'cpu', contextLength: promptTokens + newTokens + 1 }), () => {});
  const prompt = running.detokenize(Uint32Array.from({ length: promptTokens }, (_, i) => 300 + (i * 7) % 200));
  const options = { temperature: 0, max_tokens: newTokens, ignore_eos: true, cache_prompt: false, drafts: 'never' };
  const runs = [];
  for (let i = 0; i < 4; i++) {
    running.start(JSON.stringify({ prompt, options }));
    while (!runs[i]) runs[i] = (await running.step()).stats;
  }
  const warm = runs.slice(1);
  console.log(JSON.stringify({
    prefill: median(warm.map((run) => (1e3 * run.promptTokens) / run.prefillMs)),
    decode: median(warm.map((run) => (1e3 * (run.completionTokens - 1)) / run.decodeMs)),
  }));
  for (const worker of workers) worker.terminate();
  process.exit();
}

if (!isMainThread) {
  const { folder, module, memory, thread } = workerData;
  const { default: init, help } = await load(folder);
  await init({ module_or_path: module, memory, thread_stack_size: HELPER_STACK_BYTES });
  parentPort.postMessage('ready');
  help(thread);
} else if (args[0] === '--engine') {
  const [, folder, file, ...numbers] = args;
  await engine(folder, file, ...numbers.map(Number));
} else {
  const counts = option('--threads', '1,2').split(',');
  const rounds = Number(option('--rounds', 3));
  const [prompt, answer] = [option('-p', '128'), option('-n', '64')];
  const folder = path.resolve(option('--wasm', path.join(import.meta.dirname, '../../pkg/wasm/threads')));
  if (args.length === 0) {
    console.error('usage: npx -y node@26 benches/kernels/threads.mjs MODEL.gguf ... [--threads 1,2,4] [--rounds 3] [-p 128] [-n 64] [--wasm FOLDER]');
    process.exit(2);
  }
  console.log('| model | threads | prefill tok/s | | decode tok/s | |\n|---|--:|--:|--:|--:|--:|');
  for (const file of args) {
    const found = counts.map(() => []);
    for (let round = 0; round < rounds; round++) {
      for (const [i, threads] of counts.entries()) {
        const line = execFileSync(process.execPath, [SELF, '--engine', folder, file, threads, prompt, answer], { encoding: 'utf8' });
        found[i].push(JSON.parse(line));
      }
    }
    const rates = found.map((runs) => ['prefill', 'decode'].map((what) => median(runs.map((run) => run[what]))));
    for (const [i, rate] of rates.entries()) {
      const cells = rate.flatMap((value, what) => [value.toFixed(1), `${(value / rates[0][what]).toFixed(2)}x`]);
      console.log(`| ${path.basename(file, '.gguf')} | ${counts[i]} | ${cells.join(' | ')} |`);
    }
  }
}
