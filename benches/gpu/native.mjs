#!/usr/bin/env node
// The GPU backend natively, on whatever GPU wgpu finds: node benches/gpu/native.mjs MODEL.gguf ... [--prompts 128,512] [--out FILE]
//
// For each model `kinglet bench --backend webgpu --tune`, beside what the device can do (table.mjs).
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { machine, table } from './table.mjs';

const ROOT = path.join(import.meta.dirname, '../..');
const args = process.argv.slice(2);
const option = (name) => {
  const at = args.indexOf(name);
  return at < 0 ? undefined : args.splice(at, 2)[1];
};
const out = option('--out');
const prompts = (option('--prompts') ?? '128,512').split(',');
if (args.length === 0) {
  console.error('usage: node benches/gpu/native.mjs MODEL.gguf ... [--prompts 128,512] [--out FILE]; `cargo run --example make-model` makes models');
  process.exit(2);
}
execFileSync('cargo', ['build', '-q', '--release', '--bin', 'kinglet'], { cwd: ROOT, stdio: 'inherit' });
const kinglet = path.join(process.env.CARGO_TARGET_DIR ?? path.join(ROOT, 'target'), 'release/kinglet');

const results = [];
for (const model of args) {
  for (const prompt of prompts) {
    const report = JSON.parse(execFileSync(kinglet, ['bench', model, '--backend', 'webgpu', '--tune', '-p', prompt, '-n', '64', '--json'], { encoding: 'utf8' }));
    results.push({ model: path.basename(model), prompt, report });
  }
}

const result = { machine: machine(), results };
console.log(table(result));
if (out) fs.writeFileSync(out, JSON.stringify(result, null, 1) + '\n');
