#!/usr/bin/env node
// The GPU backend natively, on whatever GPU wgpu finds: node benches/gpu/native.mjs MODEL.gguf ... [--out FILE]
//
// For each model `kinglet bench --backend webgpu --tune`, beside what the device can do: the time of a token against
// T = dispatches x 4 us + bytes / (0.75 x measured stream read), prefill against the measured peak.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';

const ROOT = path.join(import.meta.dirname, '../..');
const args = process.argv.slice(2);
const at = args.indexOf('--out');
const out = at < 0 ? undefined : args.splice(at, 2)[1];
if (args.length === 0) {
  console.error('usage: node benches/gpu/native.mjs MODEL.gguf ... [--out FILE]; benches/web/make_model.py makes models');
  process.exit(2);
}
execFileSync('cargo', ['build', '-q', '--release', '--bin', 'kinglet'], { cwd: ROOT, stdio: 'inherit' });
const kinglet = path.join(process.env.CARGO_TARGET_DIR ?? path.join(ROOT, 'target'), 'release/kinglet');

const DISPATCH_US = 4;
const results = [];
for (const model of args) {
  for (const prompt of [128, 512]) {
    const report = JSON.parse(execFileSync(kinglet, ['bench', model, '--backend', 'webgpu', '--tune', '-p', String(prompt), '-n', '64', '--json'], { encoding: 'utf8' }));
    results.push({ model: path.basename(model), prompt, ...evaluate(report), report });
  }
}

function evaluate({ parameters, decodeTokensPerSecond, prefillTokensPerSecond, profile }) {
  const bytes = profile.kernels.reduce((sum, kernel) => sum + kernel.bytes, 0);
  const model_us = profile.dispatchesPerToken * DISPATCH_US + bytes / (0.75 * profile.streamReadGigabytesPerSecond * 1e3);
  const head = profile.kernels.find((kernel) => kernel.name === 'head');
  // Timestamps cover the kernels alone; what a token takes beyond them is launching.
  const kernels_us = profile.kernels.reduce((sum, kernel) => sum + kernel.microseconds, 0);
  const token_us = 1e6 / decodeTokensPerSecond;
  const peak = Math.max(profile.peakF32Gmacs, profile.peakDotGmacs);
  // The head is run for the last token only: its parameters stand for the embedding, which multiplies nothing.
  const layerShare = 1 - (head?.bytes ?? 0) / bytes;
  return {
    decode: decodeTokensPerSecond,
    ofModel: model_us / token_us,
    perDispatchBeyondBandwidth: (token_us - bytes / (profile.streamReadGigabytesPerSecond * 1e3)) / profile.dispatchesPerToken,
    kernelsShare: kernels_us / token_us,
    prefill: prefillTokensPerSecond,
    ofPeak: (prefillTokensPerSecond * parameters * layerShare) / (peak * 1e9),
    encode: profile.encodeMicroseconds + profile.submitMicroseconds,
  };
}

console.log(results[0].report.profile.adapter);
console.log('| model | prompt | prefill tok/s | of peak | decode tok/s | of T | us per dispatch beyond bandwidth | encode + submit us |\n|---|--:|--:|--:|--:|--:|--:|--:|');
const percent = (x) => `${(100 * x).toFixed(0)} %`;
for (const r of results) {
  console.log(`| ${r.model} | ${r.prompt} | ${r.prefill.toFixed(0)} | ${percent(r.ofPeak)} | ${r.decode.toFixed(1)} | ${percent(r.ofModel)} | ${r.perDispatchBeyondBandwidth.toFixed(1)} | ${r.encode.toFixed(0)} |`);
}
if (out) fs.writeFileSync(out, JSON.stringify(results, null, 1) + '\n');
