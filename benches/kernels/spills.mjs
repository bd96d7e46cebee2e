#!/usr/bin/env node
// Which of the kernels' innermost loops V8 spills vectors in: npx -y node@26 benches/kernels/spills.mjs [--format Q4_0] [--features relaxed]
//
// Compiles the benchmark's wasm with V8's optimizing compiler alone, runs one token, two, four, eight and 128 through two layers, and reads the
// machine code (x86-64) that V8 prints. A spilled vector lies across two cache lines or not as the stack happens to be aligned.
import { execFileSync } from 'node:child_process';
import { build, GGML, option } from './build.mjs';

const format = option('format', 'Q4_0');
if (!process.execArgv.includes('--print-wasm-code')) {
  const args = ['--no-liftoff', '--print-wasm-code', ...(parseInt(process.versions.node) < 22 ? ['--experimental-wasm-relaxed-simd'] : []), ...process.argv.slice(1), '--child'];
  report(execFileSync(process.execPath, args, { encoding: 'utf8', maxBuffer: 1 << 28 }));
} else {
  const wasm = (await WebAssembly.instantiate(Buffer.from(build(option('features', 'relaxed')), 'base64'))).instance.exports;
  wasm.model(GGML[format], ...(format.endsWith('K') ? [512, 1536, 8, 2] : [576, 1536, 9, 3]), 2, 49152);
  let at = 0;
  for (const tokens of [128, 1, 2, 4, 8]) {
    wasm.forward(tokens, at);
    at += tokens;
  }
}

/** One line for each innermost loop with some vectors in it. */
function report(code) {
  console.log(`${format}: function, instructions of the loop, of them on vectors, stores to the stack, loads from it`);
  for (const text of code.split('--- WebAssembly code ---')) {
    const name = /^name: (\S+)/m.exec(text)?.[1];
    if (!/backend3cpu|backend\.\.cpu/.test(name)) continue;
    const lines = [...text.matchAll(/^0x[0-9a-f]+\s+([0-9a-f]+)  [0-9a-f]+\s+(.*)$/gm)].map(([, offset, what]) => ({ offset: parseInt(offset, 16), what }));
    const loops = lines.flatMap(({ offset: end, what }) => {
      const start = parseInt(/^j\w+ 0x[0-9a-f]+ +<\+0x([0-9a-f]+)>/.exec(what)?.[1], 16);
      return start < end ? [{ start, end }] : [];
    });
    const within = (a, b) => a !== b && a.start >= b.start && a.end <= b.end;
    for (const loop of loops.filter((outer) => !loops.some((inner) => within(inner, outer)))) {
      const body = lines.filter(({ offset }) => offset >= loop.start && offset <= loop.end).map(({ what }) => what);
      const count = (pattern) => body.filter((what) => pattern.test(what)).length;
      const vectors = count(/xmm/);
      // What a loop does when it is interrupted stands behind the function, and calls.
      if (vectors < 16 || count(/\bcall\b/)) continue;
      console.log(`${name.replace(/^_ZN7kinglet7backend3cpu|^.*Kernel\$GT\$/, '').slice(0, 60).padEnd(62)}${String(body.length).padStart(5)}${String(vectors).padStart(5)}${String(count(/^v?mov\w+ \[rbp.*xmm/)).padStart(5)}${String(count(/xmm\d+,.*\[rbp/)).padStart(5)}`);
    }
  }
}
