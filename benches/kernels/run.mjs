#!/usr/bin/env node
// The CPU backend alone: node benches/kernels/run.mjs [--formats Q4_0,Q8_0] [--node] [--features relaxed,plain] [--products] [--signals] [--drafts]
//
// Builds both flavours and times, on the shapes of SmolLM2-135M (512 columns in place of 576 for the K formats), decode
// at position 128 and prefill of 128 tokens; with --products also each matrix shape, with --signals instead what the
// router's signals add to decoding, on the shapes of SmolLM2-135M and Qwen2.5-0.5B, with --drafts instead what checking a
// draft costs in single tokens, on those of SmolLM2-135M, 360M and 1.7B, and how often the 135M would have to be right as a draft
// model of the others. In Chromium (playwright-core of
// benches/web) by the clock; with --node in Node's V8 by processor time, which a busy machine disturbs less.
import { execFileSync } from 'node:child_process';
import path from 'node:path';
import { build, GGML, option } from './build.mjs';

const ROOT = path.join(import.meta.dirname, '../..');
const formats = option('formats', 'Q4_0,Q8_0,Q4_K,Q5_0,Q6_K,F16').split(',');
const flavours = option('features', 'relaxed,plain').split(',');
const inNode = process.argv.includes('--node');
if (inNode && flavours.includes('relaxed') && parseInt(process.versions.node) < 22 && !process.execArgv.join().includes('relaxed')) {
  execFileSync(process.execPath, ['--experimental-wasm-relaxed-simd', ...process.argv.slice(1)], { stdio: 'inherit' });
  process.exit();
}

// Runs where the measurement is taken; `now` in milliseconds.
async function measure({ binaries, formats, GGML, products, signals, drafts }, now) {
  const best = (runs, f) => {
    let least = Infinity;
    for (let i = 0; i < runs; i++) {
      const t = now();
      f(i);
      least = Math.min(least, now() - t);
    }
    return least;
  };
  const rows = [];
  for (const format of formats) {
    for (const [flavour, base64] of Object.entries(binaries)) {
      const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
      const wasm = (await WebAssembly.instantiate(bytes)).instance.exports;
      if (signals) {
        const TOKENS = 32;
        for (const [name, ...shape] of [['135M', 576, 1536, 9, 3, 30, 49152], ['0.5B', 896, 4864, 14, 2, 24, 151936]]) {
          const vocab = shape.at(-1);
          wasm.model(GGML[format], ...shape);
          wasm.forward(128, 0);
          wasm.logits(TOKENS, vocab);
          // Interleaved: what disturbs one disturbs the others.
          const least = { decode: Infinity, signals: Infinity, greedy: Infinity };
          for (let i = 0; i < 24; i++) {
            for (const [what, act] of [['decode', () => wasm.forward(1, 128 + i)], ['signals', () => wasm.signals(vocab)], ['greedy', () => wasm.greedy(vocab)]]) {
              least[what] = Math.min(least[what], best(1, act));
            }
          }
          rows.push({ format, flavour, name, vocab, decode: 1e3 * least.decode, signals: (1e3 * least.signals) / TOKENS, greedy: (1e3 * least.greedy) / TOKENS });
        }
        continue;
      }
      if (drafts) {
        const sizes = [1, 2, 3, 4, 5, 6, 8, 9, 12, 16];
        const small = format.endsWith('K') ? [['135M', 512, 1536, 8, 2, 30, 49152], ['360M', 1024, 2560, 16, 4, 32, 49152]] : [['135M', 576, 1536, 9, 3, 30, 49152], ['360M', 960, 2560, 15, 5, 32, 49152]];
        const shapes = [...small, ['1.7B', 2048, 8192, 32, 32, 24, 49152]];
        for (const [name, ...shape] of shapes) {
          wasm.model(GGML[format], ...shape);
          wasm.forward(128, 0);
          const least = sizes.map(() => Infinity);
          for (let i = 0; i < 12; i++) sizes.forEach((size, k) => (least[k] = Math.min(least[k], best(1, () => wasm.check_draft(size, 128)))));
          rows.push({ format, flavour, name, sizes, least });
        }
        continue;
      }
      const hidden = format.endsWith('K') ? 512 : 576;
      const [heads, kvHeads, layers, ffn, vocab] = [hidden / 64, hidden === 576 ? 3 : 2, 30, 1536, 49152];
      const kv = kvHeads * 64;
      const weights = wasm.model(GGML[format], hidden, ffn, heads, kvHeads, layers, vocab);
      wasm.forward(128, 0);
      for (let i = 0; i < 4; i++) wasm.forward(1, 128 + i);
      const prefill = best(6, () => wasm.forward(128, 0));
      const decode = best(40, (i) => wasm.forward(1, 128 + i));
      const layer = 2 * hidden * hidden + 2 * kv * hidden + 3 * ffn * hidden;
      const macs = 128 * layers * layer + vocab * hidden;
      rows.push({ format, flavour, what: 'model', prefill: 128e3 / prefill, gmacs: macs / prefill / 1e6, decode: 1e3 / decode, gbs: weights / decode / 1e6 });
      if (!products) continue;
      for (const [r, c] of [[hidden, hidden], [kv, hidden], [ffn, hidden], [hidden, ffn], [vocab, hidden]]) {
        const copies = Math.max(1, Math.round(5e7 / (r * c)));
        const size = wasm.matrices(GGML[format], r, c, copies);
        const one = best(8, () => wasm.products(1));
        const many = best(3, () => wasm.products(32));
        rows.push({ format, flavour, what: `${r}x${c}`, prefill: NaN, gmacs: (32 * copies * r * c) / many / 1e6, decode: NaN, gbs: size / one / 1e6 });
      }
    }
  }
  return rows;
}

const work = { binaries: Object.fromEntries(flavours.map((f) => [f, build(f)])), formats, GGML, products: process.argv.includes('--products'), signals: process.argv.includes('--signals'), drafts: process.argv.includes('--drafts') };
let rows;
if (inNode) {
  rows = await measure(work, () => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1e3;
  });
} else {
  const { chromium } = await import(path.join(ROOT, 'benches/web/node_modules/playwright-core/index.mjs'));
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox', '--disable-dev-shm-usage'] });
  const page = await browser.newPage();
  const code = `${measure}; onmessage = async ({ data }) => postMessage(await measure(data, () => performance.now()));`;
  rows = await page.evaluate(({ work, code }) => {
    const worker = new Worker(URL.createObjectURL(new Blob([code], { type: 'text/javascript' })));
    return new Promise((ok, no) => {
      worker.onmessage = (e) => ok(e.data);
      worker.onerror = (e) => no(new Error(e.message));
      worker.postMessage(work);
    });
  }, { work, code });
  await browser.close();
}
const cell = (x, digits) => (Number.isNaN(x) ? '' : x.toFixed(digits)).padStart(9);
if (work.signals) {
  console.log('format flavour shape  vocabulary  us a token: decode   signals  greedy alone   signals/decode');
  for (const r of rows) {
    const cells = [r.decode, r.signals, r.greedy].map((x) => x.toFixed(1).padStart(10)).join(' ');
    console.log(r.format.padEnd(7) + r.flavour.padEnd(8) + r.name.padEnd(7) + String(r.vocab).padStart(10) + '            ' + cells + ((100 * r.signals) / r.decode).toFixed(2).padStart(14) + ' %');
  }
  process.exit();
}
if (work.drafts) {
  let draft;
  for (const { format, flavour, name, sizes, least } of rows) {
    console.log(`${format.padEnd(7)}${flavour.padEnd(8)}${name}: ${least[0].toFixed(2)} ms a token; ` + sizes.map((size, k) => `${size}: ${(least[k] / least[0]).toFixed(2)}`).slice(1).join('  '));
    if (name === '135M') draft = least[0];
    else {
      // Tokens in the time of a single one, where each guess is right with probability p; the best number of guesses.
      const gain = (p) => Math.max(...sizes.flatMap((size, k) => (size < 2 || size > 8 ? [] : (least[0] * ((1 - p ** size) / (1 - p))) / (least[k] + (size - 1) * draft))));
      let even = 0.01;
      while (even < 1 && gain(even) < 1.05) even += 0.01;
      console.log(`${''.padEnd(15)}the 135M as its draft model: ${(draft / least[0]).toFixed(2)} tokens each; ${even < 1 ? `pays from ${(100 * even).toFixed(0)} % right` : 'never pays'}; gain at ` + [0.6, 0.7, 0.8, 0.9, 0.99].map((p) => `${100 * p} %: ${gain(p).toFixed(2)}`).join('  '));
    }
  }
  process.exit();
}
console.log('format flavour what        tok/s:  prefill   GMAC/s   decode     GB/s');
for (const r of rows) console.log(r.format.padEnd(7) + r.flavour.padEnd(8) + r.what.padEnd(19) + cell(r.prefill, 0) + cell(r.gmacs, 1) + cell(r.decode, 1) + cell(r.gbs, 1));
