#!/usr/bin/env node
// What drafts and a kept beginning bring: node drafts.mjs [--model smollm2-135m-Q4_0] [--models-dir models] [--threads 1] [--rounds 5]
//
// The weights are random, so the answers are made of common words (logit_bias), sampled, each a token: the text reads back as the
// same tokens, as a trained model's mostly does. An edit is the answer with a few words changed, given as the prediction of the same
// answer. Nothing is right where there is no prediction, or one of other words: what is lost there is the price.
import fs from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { chromium } from 'playwright-core';
import { serve } from './lib/server.mjs';

const { values: v } = parseArgs({ options: {
  model: { type: 'string', default: 'smollm2-135m-Q4_0' }, 'models-dir': { type: 'string', default: path.join(import.meta.dirname, 'models') },
  threads: { type: 'string', default: '1' }, rounds: { type: 'string', default: '5' }, tokens: { type: 'string', default: '128' },
} });
const server = await serve([['/pkg/', path.join(import.meta.dirname, '../../pkg/')], ['/models/', path.resolve(v['models-dir'])]]);
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox', '--disable-dev-shm-usage'] });
const page = await browser.newPage();
await page.goto(server.base);
const prompts = JSON.parse(fs.readFileSync(path.join(import.meta.dirname, 'prompts.json'), 'utf8'));
const prose = Object.values(prompts).flat().map(({ text }) => text).join(' ');
const found = await page.evaluate(async ({ model, threads, rounds, tokens, prose }) => {
  const { createEngine } = await import('/pkg/dist/index.js');
  const median = (list) => list.sort((a, b) => a - b)[list.length >> 1];
  const options = { model: `/models/${model}.gguf`, backend: 'cpu', threads };
  const engine = await createEngine({ ...options, cache: 'memory' });
  const words = [...new Set(prose.match(/[a-z]{3,}/g))];
  const bias = {};
  for (const word of words) {
    const ids = await engine.tokenize(` ${word}`);
    if (ids.length === 1) bias[ids[0]] = 100;
  }
  const ask = (seed, more) => engine.completions.create({ prompt: `Edit this:\n${prose.slice(0, 600)}\n`, seed, temperature: 1, top_k: 0, top_p: 1, max_tokens: tokens, ignore_eos: true, logit_bias: bias, ...more });
  const edit = (text, every) => text.split(' ').map((word, i) => (i % every === every - 1 ? words[i % words.length] : word)).join(' ');
  const predicted = (content) => ({ prediction: { type: 'content', content } });
  const cases = {
    'no prediction, drafts off': () => ({ drafts: 'never' }),
    'no prediction': () => ({}),
    'a wrong prediction': (text, other) => predicted(other),
    'every 8th word changed': (text) => predicted(edit(text, 8)),
    'every 25th word changed': (text) => predicted(edit(text, 25)),
    'nothing changed': (text) => predicted(text),
  };
  const ms = Object.fromEntries(Object.keys(cases).map((name) => [name, []]));
  const accepted = {};
  await ask(0, { drafts: 'never' });
  for (let round = 0; round < rounds; round++) {
    const plain = await ask(round, { drafts: 'never' });
    const [{ text, token_ids }] = plain.choices;
    const other = (await ask(round + 1000, { drafts: 'never' })).choices[0].text;
    for (const [name, more] of Object.entries(cases)) {
      const reply = await ask(round, more(text, other));
      if (String(reply.choices[0].token_ids) !== String(token_ids)) throw new Error(`${name}: another answer`);
      const stats = engine.stats();
      ms[name].push(stats.decodeMs / (stats.completionTokens - 1));
      accepted[name] = `${stats.acceptedTokens} of ${stats.draftedTokens}`;
    }
  }
  await engine.dispose();

  // A second visit, its question asked as soon as there is an engine.
  let system = '';
  while ((system.match(/ /g) ?? []).length < 420) system += `${prose.slice(100, 700)} `;
  const visit = async (prefix) => {
    let heard;
    const ready = new Promise((resolve) => (heard = ({ type }) => type.startsWith('prefix-') && resolve()));
    const engine = await createEngine({ ...options, cache: 'opfs', prefix, onEvent: heard });
    if (prefix === undefined) await new Promise((resolve) => setTimeout(resolve, 200));
    const start = performance.now();
    const reply = await engine.chat.completions.create({ messages: [{ role: 'system', content: system }, { role: 'user', content: 'Hello' }], max_tokens: 1, temperature: 0 });
    const wait = performance.now() - start;
    if (prefix) await ready;
    await new Promise((resolve) => setTimeout(resolve, 500));
    await engine.dispose();
    return { wait, usage: reply.usage };
  };
  const prefix = { messages: [{ role: 'system', content: system }] };
  const waits = { without: [], with: [] };
  await visit(prefix);
  let usage;
  for (let round = 0; round < rounds; round++) {
    waits.without.push((await visit()).wait);
    const found = await visit(prefix);
    waits.with.push(found.wait);
    usage = found.usage;
  }
  const { models } = await import('/pkg/dist/index.js');
  const [stored] = await models.list();
  return {
    speeds: Object.entries(ms).map(([name, list]) => ({ name, ms: median(list), accepted: accepted[name] })),
    first: { without: median(waits.without), with: median(waits.with), tokens: usage.prompt_tokens, cached: usage.prompt_tokens_details.cached_tokens, bytes: stored.storedBytes - stored.bytes },
  };
}, { model: v.model, threads: Number(v.threads), rounds: Number(v.rounds), tokens: Number(v.tokens), prose });
await browser.close();
server.close();

const off = found.speeds[0].ms;
console.log(`${v.model}, ${v.threads} thread(s), medians of ${v.rounds} answers of ${v.tokens} tokens; the last one's drafts`);
for (const { name, ms, accepted } of found.speeds) console.log(`${name.padEnd(26)} ${ms.toFixed(2).padStart(7)} ms a token  ${(off / ms).toFixed(2).padStart(5)} x  ${accepted} accepted`);
const { first } = found;
console.log(`first token behind a prompt of ${first.tokens} tokens: ${first.without.toFixed(0)} ms; with its beginning kept (${first.cached} tokens, ${(first.bytes / 1e6).toFixed(1)} MB) ${first.with.toFixed(0)} ms`);
