// The benchmark's wasm, by flavour.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';

const ROOT = path.join(import.meta.dirname, '../..');
const FLAGS = { relaxed: '+simd128,+relaxed-simd', plain: '+simd128' };

export const GGML = { F32: 0, F16: 1, Q4_0: 2, Q4_1: 3, Q5_0: 6, Q5_1: 7, Q8_0: 8, Q4_K: 12, Q5_K: 13, Q6_K: 14, BF16: 30 };

export function option(name, otherwise) {
  const i = process.argv.indexOf('--' + name);
  return i < 0 ? otherwise : process.argv[i + 1];
}

/** Runs the script again if this Node needs a flag for relaxed SIMD. */
export function withRelaxedSimd() {
  if (parseInt(process.versions.node) >= 22 || process.execArgv.join().includes('relaxed')) return;
  execFileSync(process.execPath, ['--experimental-wasm-relaxed-simd', ...process.argv.slice(1)], { stdio: 'inherit' });
  process.exit();
}

/** Those of --features, by name, and before them the one of --old, if there is any. */
export function binaries() {
  const old = option('old');
  const built = option('features', 'relaxed').split(',').map((flavour) => [flavour, Buffer.from(build(flavour), 'base64')]);
  return { ...(old && { old: fs.readFileSync(old) }), ...Object.fromEntries(built) };
}

export function build(flavour) {
  const target = path.join(ROOT, 'target/bench-' + flavour);
  execFileSync('cargo', ['build', '-q', '-p', 'kernels-bench', '--profile', 'web', '--target', 'wasm32-unknown-unknown', '--target-dir', target], {
    cwd: ROOT,
    stdio: 'inherit',
    env: { ...process.env, RUSTFLAGS: `-C target-feature=${FLAGS[flavour]} -C llvm-args=-disable-lsr` },
  });
  return fs.readFileSync(path.join(target, 'wasm32-unknown-unknown/web/kernels_bench.wasm')).toString('base64');
}
