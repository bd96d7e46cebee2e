#!/usr/bin/env node
// What a draft model costs where it is never right, and what it brings where it always is:
// node draft-model.mjs [--model smollm2-360m-Q4_0] [--draft smollm2-135m-Q4_0] [--models-dir models] [--threads 1] [--rounds 5]
//
// The weights are random, so one shape never guesses what another says; the answers are made of common words as in drafts.mjs, so
// that neither the text repeats itself. Then the model that comes with the package guesses for one that has ten times its layers, of which
// the new ones add nothing: there it is always right where answers are greedy, and as often as its likeliest token is drawn where they
// are not. How often a small model is right about a large one is a matter of real weights, which are not measured here.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { chromium } from 'playwright-core';
import { deeper } from '../../tests/browser/lib/gguf.mjs';
import { serve } from './lib/server.mjs';

const { values: v } = parseArgs({ options: {
  model: { type: 'string', default: 'smollm2-360m-Q4_0' }, draft: { type: 'string', default: 'smollm2-135m-Q4_0' },
  'models-dir': { type: 'string', default: path.join(import.meta.dirname, 'models') },
  threads: { type: 'string', default: '1' }, rounds: { type: 'string', default: '5' }, tokens: { type: 'string', default: '128' },
} });
const deep = fs.mkdtempSync(path.join(os.tmpdir(), 'kinglet-deep-'));
process.on('exit', () => fs.rmSync(deep, { recursive: true, force: true }));
fs.writeFileSync(path.join(deep, 'deep.gguf'), deeper(fs.readFileSync(path.join(import.meta.dirname, '../../models/kinglet-tiny.gguf')), 10));
const server = await serve([['/deep/', deep], ['/pkg/', path.join(import.meta.dirname, '../../pkg/')], ['/models/', path.resolve(v['models-dir'])]]);
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox', '--disable-dev-shm-usage'] });
const page = await browser.newPage();
await page.goto(server.base);
const prompts = JSON.parse(fs.readFileSync(path.join(import.meta.dirname, 'prompts.json'), 'utf8'));
const prose = Object.values(prompts).flat().map(({ text }) => text).join(' ');
const found = await page.evaluate(async ({ model, draft, threads, rounds, tokens, prose }) => {
  const { createEngine } = await import('/pkg/dist/index.js');
  const median = (list) => list.toSorted((a, b) => a - b)[list.length >> 1];
  const MODES = ['never', 'auto', 'always'];
  /** Both modes' answers one after the other, `rounds` times; then what is slow on purpose, once for V8 and twice to be timed. */
  const measure = async (engine, ask) => {
    const rows = [];
    await ask(1000, 'never');
    const said = [];
    const answer = async (round, mode) => {
      const ids = String((await ask(round, mode)).choices[0].token_ids);
      if ((said[round] ??= ids) !== ids) throw new Error(`${mode}: another answer`);
      const stats = engine.stats();
      return { mode, ms: stats.decodeMs / (stats.completionTokens - 1), ...stats };
    };
    for (let round = 0; round < rounds; round++) rows.push(await answer(round, 'never'), await answer(round, 'auto'));
    await answer(0, 'always');
    rows.push(await answer(0, 'always'), await answer(1, 'always'));
    return MODES.map((mode) => {
      const own = rows.filter((row) => row.mode === mode);
      const sum = (name) => own.reduce((all, row) => all + row[name], 0);
      const [drafted, accepted, tokens] = [sum('modelDraftedTokens'), sum('modelAcceptedTokens'), sum('completionTokens')];
      const passes = tokens - own.length - sum('acceptedTokens');
      const [first, ...later] = own;
      const share = (rows) => rows.reduce((all, { draftMs }) => all + draftMs, 0) / rows.reduce((all, { decodeMs }) => all + decodeMs, 0);
      return { mode, ms: median(own.map(({ ms }) => ms)), drafted, accepted, first: share([first]), later: share(later), guess: sum('draftMs') / drafted, pass: (sum('decodeMs') - sum('draftMs')) / passes };
    });
  };
  const load = (model, draft) => createEngine({ model, draft, backend: 'cpu', threads, cache: 'memory' });

  const engine = await load(`/models/${model}.gguf`, `/models/${draft}.gguf`);
  const bias = {};
  for (const word of new Set(prose.match(/[a-z]{3,}/g))) {
    const ids = await engine.tokenize(` ${word}`);
    if (ids.length === 1) bias[ids[0]] = 100;
  }
  const random = await measure(engine, (seed, drafts) => engine.completions.create({ prompt: `Edit this:\n${prose.slice(0, 600)}\n`, seed, drafts, temperature: 1, top_k: 0, top_p: 1, max_tokens: tokens, ignore_eos: true, logit_bias: bias }));
  await engine.dispose();

  const own = await load('/deep/deep.gguf', '/pkg/dist/default.gguf');
  const subjects = ['bird', 'cat', 'river', 'tree', 'stone', 'fox', 'cloud'];
  const story = (temperature) => measure(own, (seed, drafts) => own.chat.completions.create({ messages: [{ role: 'user', content: `Tell me a story about a ${subjects[seed % subjects.length]}.` }], temperature, seed, drafts, max_tokens: tokens }));
  const [greedy, drawn] = [await story(0), await story(0.7)];
  await own.dispose();
  return { random, greedy, drawn };
}, { model: v.model, draft: v.draft, threads: Number(v.threads), rounds: Number(v.rounds), tokens: Number(v.tokens), prose });
await browser.close();
server.close();
for (const [what, modes] of Object.entries({ [`${v.draft} for ${v.model}, never right`]: found.random, 'a tenth of the layers, greedy': found.greedy, 'a tenth of the layers, temperature 0.7': found.drawn })) {
  const off = modes[0];
  console.log(`${what}, ${v.threads} thread(s)`);
  for (const { mode, ms, drafted, accepted, first, later, guess, pass } of modes) {
    const each = mode === 'always' ? `; a guess ${guess.toFixed(2)} ms, a batch ${pass.toFixed(2)} ms (${(pass / off.ms).toFixed(2)} tokens)` : '';
    const spent = `${(100 * first).toFixed(1)} % of the first answer's time and ${(100 * later).toFixed(1)} % of the others'`;
    console.log(`  ${mode.padEnd(7)} ${ms.toFixed(2).padStart(7)} ms a token ${(off.ms / ms).toFixed(2).padStart(5)} x  ${accepted} of ${drafted} right; the draft model takes ${spent}${each}`);
  }
}
