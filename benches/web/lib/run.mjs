// One measurement: one contender, one model, one fresh browser. Never rejects: what fails becomes { error }.
import { chromium } from 'playwright-core';
import fs from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { serve, codeBytes } from './server.mjs';
import { loadMeter, peakRendererMiB } from './procs.mjs';
import { drive } from './drive.mjs';

const HARNESS = path.resolve(import.meta.dirname, '..');
const FLAGS = ['--no-sandbox', '--disable-dev-shm-usage', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];

/** Where a contender's code and its models lie. */
function layout(c, options) {
  const mounts = [['/harness/', HARNESS], ['/models/', options.models]];
  if (c.package) return { mounts: [...mounts, ['/package/', c.package]], file: path.join(HARNESS, 'contenders/kinglet.mjs'), url: '/harness/contenders/kinglet.mjs', code: ['/package/'] };
  return {
    mounts: [...mounts, ['/nm/', path.join(options.peers, 'node_modules')], ['/ext/', path.join(options.peers, 'ext')], ['/onnx/', path.join(options.peers, 'onnx')], ['/bench/', options.peers]],
    file: path.join(options.peers, `contenders/${c.contender}.mjs`), url: `/bench/contenders/${c.contender}.mjs`, code: ['/nm/', '/ext/'],
  };
}

/**
 * `c` is { label, contender | package, binary?, model }; `model` names a file in options.models, or FOLDER#DTYPE below the peers' onnx/.
 * `options` is { models, peers?, chromium, prompts, prompt, reps, gen, ctx, timeout, verbose }. Resolves to a plain record.
 */
export async function measure(c, options) {
  const record = { label: c.label, model: c.model, binary: c.binary, threads: c.threads, at: new Date().toISOString() };
  try {
    const { mounts, file, url, code } = layout(c, options);
    const { meta } = await import(pathToFileURL(file));
    const [name, dtype] = c.model.split('#');
    const onDisk = path.join(dtype ? path.join(options.peers, 'onnx') : options.models, name);
    readAhead(dtype ? path.join(onDisk, 'onnx') : onDisk);
    const job = {
      threads: c.threads ?? 1, ctx: options.ctx, gpu: false, dtype, prompt: options.prompt, reps: options.reps, gen: options.gen,
      prompts: ofLength(options.prompts[128], options.prompt), warm: options.prompts[32][0], first: options.prompts[16][0],
    };
    if (meta.where === 'node') return { ...record, ...(await inNode(file, { ...job, first: null, modelUrl: onDisk })) };
    if (c.package) Object.assign(job, { packageUrl: '/package/', binary: c.binary });
    return { ...record, ...(await inBrowser({ ...job, contenderUrl: url, where: meta.where, modelPath: `/${dtype ? 'onnx' : 'models'}/${name}` }, mounts, code, c.package && prelude(c.binary), options)) };
  } catch (error) {
    return { ...record, error: String(error?.message ?? error).slice(0, 600), log: error?.log };
  }
}

/** Prompts of `length` tokens from prompts of 128. */
function ofLength(prompts, length) {
  return prompts.map((_, first) => {
    const parts = Array.from({ length: length / 128 }, (_, i) => prompts[(first + i) % prompts.length]);
    return { text: parts.map((part) => part.text).join(''), ids: parts.flatMap((part) => part.ids) };
  });
}

/** Brings the model into the page cache, so that every contender loads from memory. */
function readAhead(file) {
  if (!fs.existsSync(file)) throw new Error(`no such model: ${file}`);
  for (const f of fs.statSync(file).isDirectory() ? fs.readdirSync(file).map((n) => path.join(file, n)) : [file]) fs.readFileSync(f);
}

async function inNode(file, job) {
  const meter = loadMeter(process.pid);
  const result = await drive(await import(pathToFileURL(file)), { ...job, startedAt: Date.now() });
  delete result.info?.binary; // a path of this machine has no place in recorded results
  return { ...result, loadMs: null, cpu: meter() };
}

/** What runs in front of our package, on the page and in its worker. */
function prelude(binary) {
  return ['heap', ...(binary === 'simd128' ? ['hide-relaxed'] : [])].map((name) => fs.readFileSync(path.join(HARNESS, `lib/${name}.mjs`), 'utf8')).join('\n');
}

async function inBrowser(job, mounts, code, ours, options) {
  const site = await serve(mounts, ours ? { texts: { '/prelude.mjs': ours }, workerPrelude: '/prelude.mjs' } : {});
  const server = await chromium.launchServer({ executablePath: options.chromium, headless: true, args: FLAGS });
  const pid = server.process().pid;
  const log = [];
  let timer;
  try {
    const browser = await chromium.connect(server.wsEndpoint());
    const page = await browser.newPage();
    const crashed = new Promise((_, fail) => page.on('crash', () => fail(new Error('the page crashed'))));
    page.on('console', (m) => { const line = `${m.type()}: ${m.text()}`; log.push(line); if (options.verbose) console.error('>', line); });
    page.on('pageerror', (e) => log.push(`pageerror: ${e.message}`));
    if (ours) await page.addInitScript({ content: `{${ours}}` });
    await page.goto(site.base + '/');
    const meter = loadMeter(pid);
    const run = page.evaluate(inPage, { ...job, base: site.base, modelUrl: site.base + job.modelPath });
    const limit = new Promise((_, fail) => { timer = setTimeout(() => fail(new Error(`nothing after ${options.timeout} s`)), options.timeout * 1000); });
    const result = await Promise.race([run, limit, crashed]);
    const used = codeBytes(site.fetched, code);
    if (ours && job.binary && !used.wasm.every((f) => f.includes('relaxed') === (job.binary === 'relaxed'))) throw new Error(`asked for the ${job.binary} binary, the package loaded ${used.wasm.join(', ')}`);
    return { browser: browser.version(), ...result, cpu: meter(), heapBytes: ours ? await heapBytes(page) : undefined, rendererMiB: peakRendererMiB(pid), code: used };
  } catch (error) {
    error.log = log.slice(-12);
    throw error;
  } finally {
    clearTimeout(timer);
    await Promise.race([server.close(), new Promise((ok) => setTimeout(ok, 5000))]);
    if (server.process().exitCode === null) await server.kill();
    site.close();
  }
}

async function heapBytes(page) {
  const ask = () => globalThis.__wasmHeapBytes?.() ?? null;
  // A thread of the pool has the engine's heap, and hears nothing.
  const workers = page.workers().filter((worker) => !worker.url().endsWith('/pool.js'));
  const sizes = await Promise.all([page.evaluate(ask), ...workers.map((worker) => worker.evaluate(ask))]);
  if (sizes.slice(1).every((bytes) => bytes === null) && !sizes[0]) throw new Error('no wasm heap found: has the package started no worker, or one from a blob: URL?');
  return sizes.reduce((sum, bytes) => sum + (bytes ?? 0), 0);
}

/** Runs in the page; the clock starts before the first import. */
async function inPage(job) {
  job.startedAt = performance.timeOrigin + performance.now();
  if (job.where === 'page') {
    const [{ drive }, contender] = await Promise.all([import('/harness/lib/drive.mjs'), import(job.contenderUrl)]);
    return drive(contender, job);
  }
  const worker = new Worker('/harness/lib/worker.mjs', { type: 'module' });
  return new Promise((ok, fail) => {
    worker.onmessage = ({ data }) => (data.error ? fail(new Error(data.error)) : ok(data.result));
    worker.onerror = (e) => fail(new Error(e.message ?? 'the worker failed to start'));
    worker.postMessage(job);
  });
}
