#!/usr/bin/env node
// Where a token's time goes: node benches/kernels/steps.mjs [--shapes 135M,0.5B] [--format Q4_0] [--at 128,1024,4096]
//   [--tokens 1] [--layers N] [--kv int8] [--features relaxed] [--rounds 24] [--old FILE.wasm]
//
// Decodes (or evaluates batches of --tokens) at these positions in Node's V8, one thread, and prints for each kind of step the
// least of a pass over all layers, in milliseconds. --old: another build's binary, in turn with this one's. One layer
// instead of the shape's shows what attention takes in the caches.
import { binaries, GGML, option, withRelaxedSimd } from './build.mjs';

withRelaxedSimd();

// hidden, ffn, heads, KV heads, head dim, layers, vocabulary, window, period of its layers
const SHAPES = {
  '135M-K': [512, 1536, 8, 2, 64, 30, 49152, 0, 0],
  '135M': [576, 1536, 9, 3, 64, 30, 49152, 0, 0],
  '360M': [960, 2560, 15, 5, 64, 32, 49152, 0, 0],
  '0.5B': [896, 4864, 14, 2, 64, 24, 151936, 0, 0],
  'gemma-270M': [640, 2048, 4, 1, 256, 18, 262144, 512, 6],
  'gemma-1B': [1152, 6912, 4, 1, 256, 26, 262144, 512, 6],
};
const STEPS = ['qkv', 'attention', 'attention_out', 'gate_up', 'down', 'head'];
const [format, tokens, rounds] = [option('format', 'Q4_0'), Number(option('tokens', 1)), Number(option('rounds', 24))];
const positions = option('at', '128,1024,4096').split(',').map(Number);
const measured = binaries();

const least = (values) => Math.min(...values);
console.log(`${format}, ${tokens} token(s) a pass, ms a pass`);
console.log('shape       binary   position ' + [...STEPS, 'all'].map((s) => s.padStart(14)).join('') + '   cache MB');
for (const name of option('shapes', '135M,0.5B,gemma-270M').split(',')) {
  const [hidden, ffn, heads, kvHeads, dim, ofShape, vocab, window, period] = SHAPES[name];
  const layers = Number(option('layers', ofShape));
  for (const at of positions) {
    const models = [];
    for (const [binary, bytes] of Object.entries(measured)) {
      const wasm = (await WebAssembly.instantiate(bytes)).instance.exports;
      wasm.shape(GGML[format], hidden, ffn, heads, kvHeads, dim, layers, vocab, at + tokens + 128, window, period, option('kv') === 'int8');
      for (let start = 0; start < at; start += 128) wasm.embed(Math.min(128, at - start), start);
      models.push({ binary, wasm, times: STEPS.map(() => []), totals: [] });
    }
    for (let round = -3; round < rounds; round++) {
      for (const { wasm, times, totals } of models) {
        const spent = STEPS.map(() => 0);
        const timed = (kind, layer) => {
          const t = performance.now();
          wasm.step(kind, layer);
          spent[kind] += performance.now() - t;
        };
        const t = performance.now();
        wasm.embed(tokens, at);
        for (let layer = 0; layer < layers; layer++) for (let kind = 0; kind < 5; kind++) timed(kind, layer);
        timed(5, 0);
        if (round < 0) continue;
        totals.push(performance.now() - t);
        spent.forEach((ms, kind) => times[kind].push(ms));
      }
    }
    for (const { binary, wasm, times, totals } of models) {
      const cells = [...times.map(least), least(totals)].map((ms) => ms.toFixed(3).padStart(14)).join('');
      console.log(name.padEnd(12) + binary.padEnd(9) + String(at).padStart(8) + ' ' + cells + (wasm.cache_bytes() / 1e6).toFixed(1).padStart(11));
    }
  }
}
