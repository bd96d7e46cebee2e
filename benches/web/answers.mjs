#!/usr/bin/env node
// How fast the answers of a page just opened are, one after the other: V8 compiles for good what has run often enough.
//
//   node answers.mjs [--package [NAME=]FOLDER]... [--flags=NAME=--js-flag]... [--model smollm2-135m-Q4_0] [--threads 1,2]
//                    [--answers 7] [--tokens 64] [--rounds 3]
//
// Interleaved; medians over rounds of ms a token (the first of an answer apart), and of ms from the page to the first token.
import fs from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { chromium } from 'playwright-core';
import { serve } from './lib/server.mjs';

const HERE = import.meta.dirname;
const { values: v } = parseArgs({ options: {
  package: { type: 'string', multiple: true, default: [path.join(HERE, '../../pkg')] }, flags: { type: 'string', multiple: true, default: ['='] },
  model: { type: 'string', default: 'smollm2-135m-Q4_0' }, 'models-dir': { type: 'string', default: path.join(HERE, 'models') }, threads: { type: 'string', default: '1' },
  answers: { type: 'string', default: '7' }, tokens: { type: 'string', default: '64' }, rounds: { type: 'string', default: '3' },
} });
const named = (text) => /^(?:([\w.-]*)=)?(.*)$/.exec(text).slice(1);
const prompts = JSON.parse(fs.readFileSync(path.join(HERE, 'prompts.json'), 'utf8'));
const cases = v.package.flatMap((given) => v.flags.flatMap((flags) => v.threads.split(',').map((threads) => {
  const [[name, folder], [flagName, flag]] = [named(given), named(flags)];
  return { label: [name, flagName, `${threads} thread(s)`].filter(Boolean).join(', '), folder, flag, threads: Number(threads), first: [], later: [] };
})));

async function visit({ folder, flag, threads }) {
  const site = await serve([['/pkg/', path.resolve(folder)], ['/models/', path.resolve(v['models-dir'])]]);
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox', '--disable-dev-shm-usage', ...(flag ? [`--js-flags=${flag}`] : [])] });
  try {
    const page = await browser.newPage();
    await page.goto(site.base);
    return await page.evaluate(async ({ model, threads, answers, tokens, prompts }) => {
      const start = performance.now();
      const { createEngine } = await import('/pkg/dist/index.js');
      const engine = await createEngine({ model: `/models/${model}.gguf`, backend: 'cpu', threads, cache: 'none', contextLength: 1024 });
      const loaded = performance.now() - start;
      const times = [];
      let first;
      for (let i = 0; i < answers; i++) {
        for await (const _ of await engine.completions.create({ prompt: prompts[i % prompts.length].text, max_tokens: tokens, temperature: 0, ignore_eos: true, drafts: 'never', stream: true })) first ??= performance.now() - start;
        const { decodeMs, completionTokens } = engine.stats();
        times.push(decodeMs / (completionTokens - 1));
      }
      await engine.dispose();
      return { loaded, first, times };
    }, { model: v.model, threads, answers: Number(v.answers), tokens: Number(v.tokens), prompts: prompts[16] });
  } finally {
    await browser.close();
    site.close();
  }
}

for (let round = 0; round < Number(v.rounds); round++) for (const c of cases) {
  const found = await visit(c);
  c.first.push(found);
  console.error(round, c.label, `load ${found.loaded.toFixed(0)}, first token ${found.first.toFixed(0)} ms;`, found.times.map((t) => t.toFixed(1)).join(' '));
}
const median = (list) => list.toSorted((a, b) => a - b)[list.length >> 1];
console.log(`| ${v.model} | load ms | first token ms | ms a token, answer by answer |\n|---|--:|--:|---|`);
for (const { label, first } of cases) {
  const answers = first[0].times.map((_, i) => median(first.map(({ times }) => times[i])).toFixed(1));
  console.log(`| ${label} | ${median(first.map((f) => f.loaded)).toFixed(0)} | ${median(first.map((f) => f.first)).toFixed(0)} | ${answers.join(', ')} |`);
}
