#!/usr/bin/env node
// Tables from result files: node report.mjs FILE.jsonl...           to stdout
//                           node report.mjs --write                 the sections of ../RESULTS.md and of the README from recorded/
// A section of RESULTS.md is what stands between `<!-- from NAME -->` and `<!-- end -->`; NAME is a file of recorded/, without
// its ending. What stands there is replaced whole; figures are never typed.
import fs from 'node:fs';
import path from 'node:path';
import { table as gpuTable } from '../gpu/table.mjs';
import { table, comparison } from './lib/tables.mjs';

const HERE = import.meta.dirname;

function machine(m) {
  const caches = m.caches && Object.entries(m.caches).map(([name, size]) => `${name} ${size}`).join(', ');
  const missing = [['512', 'AVX-512'], ['vnni', 'VNNI']].filter(([flag]) => m.instructions.includes('avx') && !m.instructions.some((f) => f.includes(flag))).map(([, name]) => name);
  return `${m.cores} cores of ${m.cpu}; ${m.memoryGiB} GiB; ${m.instructions.join(' ')}${missing.length ? ` (no ${missing.join(', no ')})` : ''}; ${caches}; Linux ${m.kernel}, Chromium ${m.chromium}, Node ${m.node}; ${m.date.slice(0, 16).replace('T', ' ')} UTC, load ${m.loadavg.toFixed(1)} before the run.`;
}

/** A .jsonl of bench.mjs: its machine and the tables. */
function benchSection(files) {
  const lines = files.flatMap((file) => fs.readFileSync(file, 'utf8').trim().split('\n').map((l) => ({ ...JSON.parse(l), file: path.basename(file) })));
  const heads = lines.filter((l) => l.machine);
  const rows = lines.filter((l) => l.label).map((row) => ({ ctx: heads[0]?.settings.ctx, ...row }));
  const s = heads[0]?.settings;
  return [heads.length ? machine(heads.at(-1).machine) : '', s && `Greedy, batch 1, ${rows.some((r) => r.threads > 1) ? '' : 'one thread, '}${s.prompt} tokens of prompt, ${s.gen} new, context ${s.ctx}; medians of ${new Set(rows.map((r) => r.round)).size} interleaved rounds.`, table(rows), comparison(rows)].filter(Boolean).join('\n\n');
}

/** A .json of the peers' roofline.mjs. */
function rooflineSection(file) {
  const { at, loadavg, chromium: c } = JSON.parse(fs.readFileSync(file, 'utf8'));
  const lines = [
    ...Object.entries(c.read_GBps).map(([size, by]) => [`streaming read of ${size}, GB/s`, by[1], by[2]]),
    ...Object.entries(c.gigaMACs).map(([kernel, by]) => [`${kernel}, G multiply-adds/s`, by[1], by[2]]),
    ...Object.entries(c.gemv_Gweights).map(([kernel, by]) => [`${kernel}, G weights/s`, by[1], by[2]]),
  ];
  return `In Chromium, best of several passes; ${at.slice(0, 16).replace('T', ' ')} UTC, load ${loadavg}.\n\n| | 1 thread | 2 threads |\n|---|--:|--:|\n${lines.map((l) => `| ${l.join(' | ')} |`).join('\n')}`;
}

const LARGE_RUNS = { native: 'native, CPU', lavapipe: 'native, GPU (lavapipe)', chromium: 'Chromium, CPU', swiftshader: 'Chromium, GPU (SwiftShader)' };
const mb = (bytes) => (bytes === undefined ? '–' : Math.round(bytes / 1e6));
const rows = (head, lines) => `| ${head.join(' | ')} |\n|${head.map((_, i) => (i ? '--:' : '---')).join('|')}|\n${lines.map((l) => `| ${l.join(' | ')} |`).join('\n')}`;

/** A .json of tests/browser/large.mjs. */
function largeSection(file) {
  const { machine: m, file: model, context, runs } = JSON.parse(fs.readFileSync(file, 'utf8'));
  const s = (ms) => (ms / 1000).toFixed(1);
  const lines = Object.entries(runs).map(([name, { tokens, loadMs, prefillMs, decodeMs, peakBytes, memory, estimated }]) => [
    LARGE_RUNS[name], s(loadMs), tokens, s(prefillMs), tokens > 1 ? s(decodeMs / (tokens - 1)) : '–', mb(peakBytes), mb(memory?.heap), mb(estimated?.heap), mb(memory && memory.weights + memory.kvCache + memory.scratch), mb(estimated?.total),
  ]);
  const head = [`${model.name}`, 'load s', 'tokens', 'first token s', 's a token', 'peak RSS MB', 'wasm heap MB', 'as inspect said', 'weights, cache, scratch MB', 'as inspect said'];
  return `${machine(m)}\n\n${model.name}, ${mb(model.bytes)} MB, context ${context}. The peak is that of the process that holds the model: the command line, Chromium's renderer, its GPU process.\n\n${rows(head, lines)}`;
}

/** A .json of ../gpu/plain.mjs. */
function plainSection(file) {
  const { machine: m, model, devices } = JSON.parse(fs.readFileSync(file, 'utf8'));
  const lines = devices.flatMap(({ adapter, products }) => products.map(({ name, tokens, rows, cols, microseconds, plainMicroseconds }) => {
    const macs = (us) => ((rows * cols * tokens) / us / 1e3).toFixed(3);
    return [`${adapter.split(' (')[0]}, ${name}`, tokens, `${rows} x ${cols}`, macs(microseconds), macs(plainMicroseconds), (plainMicroseconds / microseconds).toFixed(2)];
  }));
  return `${machine(m)}\n\nThe first layer of ${model}, by timestamps, the best of several; ours with the preparation of inputs.\n\n${rows(['product', 'tokens', 'weights', 'ours, G multiply-adds/s', 'plain', 'plain time / ours'], lines)}`;
}

/** A .json of tests/browser/first-token.mjs. */
function firstTokenSection(file) {
  const { machine: m, runs } = JSON.parse(fs.readFileSync(file, 'utf8'));
  const s = (ms) => (ms / 1000).toFixed(2);
  const lines = runs.map(({ model, bytes, browser, cold, warm }) => [`${model}, ${browser}`, mb(bytes), s(cold.loaded), s(cold.firstToken), s(warm.loaded), s(warm.firstToken), s(warm.again)]);
  return `${machine(m)}\n\nFrom before the package is imported, over localhost, kernels not tuned; prompts of about 8 tokens. Cold: an empty profile; warm: the page once more.\n\n${rows(['model, browser', 'MB', 'cold: loaded s', 'first token s', 'warm: loaded s', 'first token s', 'next prompt, first token s'], lines)}`;
}

/** A .json of tests/browser/stored.mjs. */
function storedSection(file) {
  const { machine: m, rounds, runs } = JSON.parse(fs.readFileSync(file, 'utf8'));
  const ways = [...new Set(runs.flatMap(({ loads }) => Object.keys(loads)))];
  const lines = runs.map(({ model, bytes, browser, loads }) => [`${model}, ${browser}`, mb(bytes), ...ways.map((way) => (loads[way] === undefined ? '–' : (loads[way] / 1000).toFixed(2)))]);
  return `${machine(m)}\n\nSeconds from \`createEngine\` to an engine on the CPU, context 256; medians of ${rounds}. "none": over localhost, nothing is kept; "first": stored, read back and hashed on the way; "again": from the store.\n\n${rows(['model, browser', 'MB', ...ways], lines)}`;
}

/** A .json of tests/browser/faults.spec.mjs. */
function badHubSection(file) {
  const { machine: m, count, seed, seconds, right, refused, attempts, reloads, resumed, sent, bytes, errors, faults } = JSON.parse(fs.readFileSync(file, 'utf8'));
  const list = (counts) => Object.entries(counts).map(([what, n]) => `${n} ${what}`).join(', ');
  return `${machine(m)}\n\n${count} downloads (seed ${seed}) in ${seconds} s: ${right} ended with the right file, in ${attempts} attempts; ${refused} with INTEGRITY and nothing kept, because the hub had another file than the caller wanted; 0 corrupted files were accepted. On the way the page was reloaded ${reloads} times, ${resumed} requests asked for the rest of a file, the hub sent ${(sent / bytes).toFixed(2)} times the bytes. Errors told: ${list(errors)}. Faults met: ${list(faults)}.`;
}

/** For the README: what the models of the catalogue need, and what the large one was measured to take. */
function memoryTable(file) {
  const { file: model, context, runs } = JSON.parse(fs.readFileSync(file, 'utf8'));
  const { models } = JSON.parse(fs.readFileSync(path.join(HERE, '../../pkg/catalog.json'), 'utf8'));
  const lines = models.flatMap(({ name, files }) => files.map(({ quantization, bytes, memory }) => [`${name}, ${quantization}`, mb(bytes), mb(memory.gpu), mb(memory.gpuHeap), mb(memory.cpu)]));
  const measured = Object.entries(runs).map(([name, run]) => `${LARGE_RUNS[name]} ${mb(run.peakBytes)} MB${run.memory ? ` (wasm heap ${mb(run.memory.heap)} MB)` : ''}`);
  return `${rows(['model, a context of 4096 tokens', 'file MB', 'on the GPU MB', 'wasm heap beside it MB', 'on the CPU MB'], lines)}\n\nComputed from the shapes, as \`inspect\` does. Measured peaks of a ${mb(model.bytes)} MB file of Phi-4-mini's shape with ${context} tokens of context: ${measured.join('; ')}.`;
}

const args = process.argv.slice(2);
if (!args.length) { console.error('usage: node report.mjs FILE.jsonl... | node report.mjs --write'); process.exit(2); }
const section = ([file, ...more]) => {
  if (file.endsWith('.jsonl')) return benchSection([file, ...more]);
  const special = { 'large.json': largeSection, 'plain-kernels.json': plainSection, 'first-token.json': firstTokenSection, 'stored.json': storedSection, 'bad-hub.json': badHubSection }[path.basename(file)];
  if (special) return special(file);
  return path.basename(file).startsWith('gpu-') ? gpuTable(JSON.parse(fs.readFileSync(file, 'utf8'))) : rooflineSection(file);
};
if (args[0] !== '--write') {
  console.log(section(args));
} else {
  const write = (target, section) => {
    const text = fs.readFileSync(target, 'utf8').replace(/^<!-- from ([\w.-]+) -->$[\s\S]*?^<!-- end -->$/gm, (whole, name) => {
      const file = ['.jsonl', '.json'].map((ending) => path.join(HERE, 'recorded', name + ending)).find((f) => fs.existsSync(f));
      return `<!-- from ${name} -->\n${file ? section([file]) : 'not recorded yet'}\n<!-- end -->`;
    });
    fs.writeFileSync(target, text);
  };
  write(path.join(HERE, '../RESULTS.md'), section);
  write(path.join(HERE, '../../README.md'), ([file]) => memoryTable(file));
}
