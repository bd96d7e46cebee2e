#!/usr/bin/env node
// Our kernels on software GPUs beside the same written plainly: node benches/gpu/plain.mjs MODEL.gguf [--record], whose matrices
// are Q4_0 (`cargo run --example make-model -- smollm2-135m:Q4_0`). On SwiftShader, which comes with Chromium, and lavapipe.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { machineFacts } from '../web/lib/machine.mjs';

const ROOT = path.join(import.meta.dirname, '../..');
const SWIFTSHADER = process.env.SWIFTSHADER_ICD ?? '/usr/lib/chromium/vk_swiftshader_icd.json';
const [model, flag] = process.argv.slice(2);
if (!model) {
  console.error('usage: node benches/gpu/plain.mjs MODEL.gguf [--record]');
  process.exit(2);
}
execFileSync('cargo', ['build', '-q', '--example', 'plain-kernels'], { cwd: ROOT, stdio: 'inherit' });
const program = path.join(process.env.CARGO_TARGET_DIR ?? path.join(ROOT, 'target'), 'debug/examples/plain-kernels');
const machine = machineFacts(process.env.CHROMIUM ?? '/usr/bin/chromium');
const devices = [{ VK_ICD_FILENAMES: SWIFTSHADER }, {}].map((env) => JSON.parse(execFileSync(program, [model], { env: { ...process.env, ...env }, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })));
const result = JSON.stringify({ machine, model: path.basename(model), devices }, null, 1) + '\n';
if (flag === '--record') fs.writeFileSync(path.join(ROOT, 'benches/web/recorded/plain-kernels.json'), result);
else console.log(result);
