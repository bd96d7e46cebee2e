#!/usr/bin/env node
// Products of single matrices: npx -y node@26 benches/kernels/products.mjs [--formats Q4_0,Q8_0] [--tokens 1,2,4,128] [--shape 1536,512,1]
//   [--features relaxed] [--rounds 40] [--old FILE.wasm] [--save FILE.wasm]
//
// In Node's V8, one thread. --shape: rows, columns and how many such matrices are multiplied in turn; one stays in the caches, 40 of 2048 x 2048 do
// not. The least of the rounds, in ms, G multiply-adds/s and GB/s of packed weights. --save keeps this build's binary, --old compares with such a one, in turn.
import fs from 'node:fs';
import { binaries, GGML, option, withRelaxedSimd } from './build.mjs';

withRelaxedSimd();

/** Multiply-adds of a measurement, at least. */
const ENOUGH = 5e7;

const [rows, cols, copies] = option('shape', '1536,512,1').split(',').map(Number);
const rounds = Number(option('rounds', 40));
const measured = binaries();
if (option('save')) fs.writeFileSync(option('save'), Object.values(measured).at(-1));

console.log(`${rows} x ${cols} x ${copies}\nformat  tokens  binary        ms  G madds/s    GB/s  times the first`);
for (const format of option('formats', 'Q4_0,Q8_0,Q4_K,Q5_0,Q6_K,F16').split(',')) {
  const builds = [];
  for (const [binary, bytes] of Object.entries(measured)) {
    const wasm = (await WebAssembly.instantiate(bytes)).instance.exports;
    builds.push({ binary, wasm, packed: wasm.matrices(GGML[format], rows, cols, copies) });
  }
  for (const tokens of option('tokens', '1,2,4,128').split(',').map(Number)) {
    const work = rows * cols * copies * tokens;
    const times = Math.max(1, Math.round(ENOUGH / work));
    for (const of of builds) of.least = Infinity;
    for (let round = 0; round < rounds; round++) {
      for (const of of builds) {
        const t = performance.now();
        for (let i = 0; i < times; i++) of.wasm.products(tokens);
        of.least = Math.min(of.least, (performance.now() - t) / times);
      }
    }
    for (const { binary, packed, least } of builds) {
      const figures = [least.toFixed(3).padStart(9), (work / least / 1e6).toFixed(1).padStart(11), (packed / least / 1e6).toFixed(1).padStart(8), (builds[0].least / least).toFixed(2).padStart(9)];
      console.log(`${format.padEnd(8)}${String(tokens).padStart(6)}  ${binary.padEnd(7)}${figures.join('')}`);
    }
  }
}
