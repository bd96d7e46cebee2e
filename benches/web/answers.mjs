#!/usr/bin/env node
// How fast the answers of a page just opened are, one after the other: V8 compiles for good what has run often enough, and lays out its stack anew.
//
//   node answers.mjs [--package [NAME=]FOLDER]... [--flags=NAME=--js-flag]... [--model smollm2-135m-Q4_0] [--threads 1,2]
//                    [--answers 7] [--tokens 64] [--rounds 3] [--profile]
//
// Interleaved; medians over rounds of ms a token (the first of an answer apart), and of ms from the page to the first token. --profile: instead, ms a
// token in each function of the engine's worker; KINGLET_NAMES=1 cargo xtask pack keeps their names.
import fs from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { chromium } from 'playwright-core';
import { serve } from './lib/server.mjs';

const HERE = import.meta.dirname;
const { values: v } = parseArgs({ options: {
  package: { type: 'string', multiple: true, default: [path.join(HERE, '../../pkg')] }, flags: { type: 'string', multiple: true, default: ['='] },
  model: { type: 'string', default: 'smollm2-135m-Q4_0' }, 'models-dir': { type: 'string', default: path.join(HERE, 'models') }, threads: { type: 'string', default: '1' },
  answers: { type: 'string', default: '7' }, tokens: { type: 'string', default: '64' }, rounds: { type: 'string', default: '3' }, profile: { type: 'boolean' },
} });
const named = (text) => /^(?:([\w.-]*)=)?(.*)$/.exec(text).slice(1);
const prompts = JSON.parse(fs.readFileSync(path.join(HERE, 'prompts.json'), 'utf8'));
const cases = v.package.flatMap((given) => v.flags.flatMap((flags) => v.threads.split(',').map((threads) => {
  const [[name, folder], [flagName, flag]] = [named(given), named(flags)];
  return { label: [name, flagName, `${threads} thread(s)`].filter(Boolean).join(', '), folder, flag, threads: Number(threads), visits: [] };
})));

async function visit({ folder, flag, threads }) {
  const site = await serve([['/pkg/', path.resolve(folder)], ['/models/', path.resolve(v['models-dir'])]]);
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox', '--disable-dev-shm-usage', ...(flag ? [`--js-flags=${flag}`] : [])] });
  try {
    const page = await browser.newPage();
    await page.goto(site.base);
    const { loaded } = await page.evaluate(async ({ model, threads }) => {
      const start = performance.now();
      const { createEngine } = await import('/pkg/dist/index.js');
      const engine = await createEngine({ model: `/models/${model}.gguf`, backend: 'cpu', threads, cache: 'none', contextLength: 1024 });
      Object.assign(globalThis, { engine, start });
      return { loaded: performance.now() - start };
    }, { model: v.model, threads });
    const profiler = v.profile && (await workerProfiler(page));
    const times = [];
    const functions = new Map();
    let first;
    for (let i = 0; i < Number(v.answers); i++) {
      if (profiler) await profiler('Profiler.start');
      const answer = await page.evaluate(async ({ tokens, prompt }) => {
        let first;
        for await (const _ of await engine.completions.create({ prompt, max_tokens: tokens, temperature: 0, ignore_eos: true, drafts: 'never', stream: true })) first ??= performance.now() - start;
        const { decodeMs, completionTokens } = engine.stats();
        return { first, ms: decodeMs / (completionTokens - 1) };
      }, { tokens: Number(v.tokens), prompt: prompts[16][0].text });
      first ??= answer.first;
      times.push(answer.ms);
      if (!profiler) continue;
      const { profile } = await profiler('Profiler.stop');
      const names = new Map(profile.nodes.map(({ id, callFrame }) => [id, callFrame.functionName]));
      profile.samples.forEach((id, k) => {
        const name = names.get(id);
        if (!functions.has(name)) functions.set(name, Array(Number(v.answers)).fill(0));
        functions.get(name)[i] += profile.timeDeltas[k] / 1000 / Number(v.tokens);
      });
    }
    return { loaded, first, times, functions };
  } finally {
    await browser.close();
    site.close();
  }
}

/** Speaks the protocol of Chromium's inspector with the engine's worker. */
async function workerProfiler(page) {
  const session = await page.context().newCDPSession(page);
  const attached = new Promise((resolve) => session.on('Target.attachedToTarget', ({ sessionId, targetInfo }) => targetInfo.url.endsWith('worker.js') && resolve(sessionId)));
  await session.send('Target.setAutoAttach', { autoAttach: true, waitForDebuggerOnStart: false, flatten: false });
  const sessionId = await attached;
  let id = 0;
  const waiting = new Map();
  session.on('Target.receivedMessageFromTarget', ({ message }) => {
    const { id, result } = JSON.parse(message);
    waiting.get(id)?.(result);
  });
  const ask = (method, params = {}) => new Promise((resolve) => {
    waiting.set(++id, resolve);
    void session.send('Target.sendMessageToTarget', { sessionId, message: JSON.stringify({ id, method, params }) });
  });
  await ask('Profiler.enable');
  await ask('Profiler.setSamplingInterval', { interval: 200 });
  return ask;
}

for (let round = 0; round < Number(v.rounds); round++) for (const c of cases) {
  const found = await visit(c);
  c.visits.push(found);
  console.error(round, c.label, `load ${found.loaded.toFixed(0)}, first token ${found.first.toFixed(0)} ms;`, found.times.map((t) => t.toFixed(1)).join(' '));
  const longest = [...found.functions].sort((a, b) => Math.max(...b[1]) - Math.max(...a[1])).slice(0, 16);
  for (const [name, list] of longest) console.log(list.map((ms) => ms.toFixed(2)).join(' '), name.slice(0, 120));
}
const median = (list) => list.toSorted((a, b) => a - b)[list.length >> 1];
console.log(`| ${v.model} | load ms | first token ms | ms a token, answer by answer |\n|---|--:|--:|---|`);
for (const { label, visits } of cases) {
  const answers = visits[0].times.map((_, i) => median(visits.map(({ times }) => times[i])).toFixed(1));
  console.log(`| ${label} | ${median(visits.map((f) => f.loaded)).toFixed(0)} | ${median(visits.map((f) => f.first)).toFixed(0)} | ${answers.join(', ')} |`);
}
