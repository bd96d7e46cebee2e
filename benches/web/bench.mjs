#!/usr/bin/env node
// Kinglet's npm package in headless Chromium, on one CPU thread or several, alone, two packages against each other, or beside its peers.
// See README.md, or --help.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { execFileSync } from 'node:child_process';
import { parseArgs } from 'node:util';
import { measure } from './lib/run.mjs';
import { machineFacts } from './lib/machine.mjs';
import { table, comparison, shapeOf } from './lib/tables.mjs';

const HERE = import.meta.dirname;
const USAGE = `node bench.mjs [--package [NAME=]FOLDER_OR_TGZ]... [--peers FOLDER] [options]

  --package   the packed package (folder with package.json, or the .tgz); twice to compare two. Default ../../pkg
  --binaries  relaxed,simd128: which wasm binaries of it to run. Default: the one it chooses itself
  --threads   1,2: with how many threads to run it, and its peers. Default 1
  --peers     a set-up copy of the peers' folder; its contenders run interleaved with ours
  --with      which of them. Default wllama2,candle,tjs,llama-native,llama-sse42
  --only-peers  without our package
  --models    default smollm2-135m-Q4_0,smollm2-135m-Q8_0 (files models/NAME.gguf, made by cargo run --example make-model)
  --models-dir  default models
  --prompt 128  tokens, a multiple of 128: the prompts of 128 one after the other (at their seams a tokenizer may cut otherwise)
  --rounds 3  --reps 1  --gen 64  --ctx 1024  --timeout 300 (s)  --chromium PATH  --verbose
  --out FILE  JSON lines, appended; default results/bench-DATE.jsonl
  --record NAME  instead: recorded/NAME.jsonl anew, and the section of that name in ../RESULTS.md`;

const { values: v } = parseArgs({ options: {
  package: { type: 'string', multiple: true }, binaries: { type: 'string' }, threads: { type: 'string', default: '1' }, peers: { type: 'string' }, with: { type: 'string', default: 'wllama2,candle,tjs,llama-native,llama-sse42' },
  'only-peers': { type: 'boolean' }, models: { type: 'string', default: 'smollm2-135m-Q4_0,smollm2-135m-Q8_0' }, 'models-dir': { type: 'string', default: path.join(HERE, 'models') },
  rounds: { type: 'string', default: '3' }, reps: { type: 'string', default: '1' }, gen: { type: 'string', default: '64' }, prompt: { type: 'string', default: '128' }, ctx: { type: 'string', default: '1024' }, timeout: { type: 'string', default: '300' },
  chromium: { type: 'string', default: process.env.CHROMIUM ?? '/usr/bin/chromium' }, out: { type: 'string' }, record: { type: 'string' }, verbose: { type: 'boolean' }, help: { type: 'boolean' } } });
if (v.help) { console.log(USAGE); process.exit(0); }
if (!(Number(v.prompt) > 0 && Number(v.prompt) % 128 === 0)) { console.error('--prompt is a multiple of 128'); process.exit(2); }
if (v['only-peers'] && !v.peers) { console.error('--only-peers needs --peers FOLDER'); process.exit(2); }

/** The folder of a package given as a folder or as the .tgz that npm packs. */
function packageFolder(given) {
  let folder = path.resolve(given);
  if (given.endsWith('.tgz')) {
    folder = fs.mkdtempSync(path.join(os.tmpdir(), 'kinglet-bench-'));
    execFileSync('tar', ['xzf', given, '-C', folder, '--strip-components=1']);
    process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true }));
  }
  if (!fs.existsSync(path.join(folder, 'package.json'))) { console.error(`${given} is no package: it has no package.json. Run cargo xtask pack first.`); process.exit(2); }
  return folder;
}

/** Our package or packages, with each binary and number of threads. */
function ours() {
  const binaries = v.binaries?.split(',') ?? [undefined];
  if (!binaries.every((b) => [undefined, 'relaxed', 'simd128'].includes(b))) { console.error('--binaries takes relaxed, simd128'); process.exit(2); }
  return (v.package ?? [path.join(HERE, '../../pkg')]).flatMap((given) => {
    const [, name, place] = /^(?:(\w[\w.-]*)=)?(.+)$/.exec(given);
    const folder = packageFolder(place);
    return binaries.flatMap((binary) => counts.map((threads) => ({ label: withThreads([name ?? 'kinglet', binary], threads), package: folder, binary, threads })));
  });
}

const models = v.models.split(',');
const contenders = [];
const counts = v.threads.split(',').map(Number);
if (!counts.every((n) => Number.isInteger(n) && n > 0)) { console.error('--threads takes numbers'); process.exit(2); }
const withThreads = (words, threads) => [...words, counts.length > 1 && `${threads} thread${threads > 1 ? 's' : ''}`].filter(Boolean).join(' ');
if (!v['only-peers']) contenders.push(...ours());
// candle's wasm has one thread.
if (v.peers) contenders.push(...v.with.split(',').flatMap((contender) => counts.filter((n) => n === 1 || contender !== 'candle').map((threads) => ({ label: withThreads([contender], threads), contender, threads }))));

const options = {
  models: path.resolve(v['models-dir']), peers: v.peers && path.resolve(v.peers), chromium: v.chromium, verbose: v.verbose, prompts: JSON.parse(fs.readFileSync(path.join(HERE, 'prompts.json'), 'utf8')),
  reps: Number(v.reps), gen: Number(v.gen), prompt: Number(v.prompt), ctx: Number(v.ctx), timeout: Number(v.timeout),
};
/** The model in the forms a contender reads. ONNX contenders run each shape once, at q8 and q4. */
function formsFor(c, model) {
  if (!c.contender?.startsWith('tjs')) return [`${model}.gguf`];
  const shape = shapeOf({ model });
  if (models.find((m) => m.startsWith(shape)) !== model) return [];
  const has = (file) => fs.existsSync(path.join(options.peers, 'onnx', shape, 'onnx', file));
  return [has('model_quantized.onnx') && `${shape}#q8`, has('model_q4.onnx') && `${shape}#q4`].filter(Boolean);
}

const recorded = v.record && path.join(HERE, 'recorded', `${v.record}.jsonl`);
const out = recorded ? `${recorded}.new` : path.resolve(v.out ?? path.join(HERE, 'results', `bench-${new Date().toISOString().slice(0, 16).replace(/\W/g, '')}.jsonl`));
if (recorded) fs.rmSync(out, { force: true });
fs.mkdirSync(path.dirname(out), { recursive: true });
const rows = [], failures = new Map();
const write = (row) => fs.appendFileSync(out, JSON.stringify(row) + '\n');
write({ machine: machineFacts(v.chromium), settings: { gen: options.gen, ctx: options.ctx, reps: options.reps, prompt: options.prompt } });
for (let round = 0; round < Number(v.rounds); round++) {
  for (const model of models) {
    for (const [c, named] of contenders.flatMap((c) => formsFor(c, model).map((named) => [c, named]))) {
      const key = `${c.label}|${named}`;
      if (failures.get(key) >= 2) continue;
      const row = { round, ...(await measure({ ...c, model: named }, options)) };
      row.fileBytes = named.includes('#') ? undefined : fs.statSync(path.join(options.models, named), { throwIfNoEntry: false })?.size;
      if (row.error) failures.set(key, (failures.get(key) ?? 0) + 1);
      write(row);
      rows.push(row);
      console.error(round, c.label, named, row.error ? `ERROR ${row.error}${row.log?.length ? '\n  ' + row.log.join('\n  ') : ''}` : `load ${row.loadMs ?? '-'} ms, first token ${row.firstTokenMs ?? '-'} ms, prefill ${row.prefillTps}, decode ${row.decodeTps} tok/s, foreign ${row.cpu.foreign}`);
    }
  }
}
console.log([table(rows), comparison(rows)].filter(Boolean).join('\n\n'));
if (recorded) {
  fs.renameSync(out, recorded);
  execFileSync(process.execPath, [path.join(HERE, 'report.mjs'), '--write'], { stdio: 'inherit' });
}
console.error(`written to ${path.relative(process.cwd(), recorded ?? out)}`);
process.exit(rows.some((r) => r.error) ? 1 : 0);
