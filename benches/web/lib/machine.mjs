// Facts about the machine that a figure means nothing without.
import fs from 'node:fs';
import os from 'node:os';
import { execFileSync } from 'node:child_process';

const ISA = ['avx', 'avx2', 'fma', 'f16c', 'bmi2', 'avx512f', 'avx512_vnni', 'avx_vnni', 'asimd', 'asimddp', 'i8mm'];

/** { cpu, cores, memoryGiB, instructions, caches, kernel, chromium, node, loadavg, date }; what cannot be found is left out. */
export function machineFacts(chromium) {
  const quiet = (f) => { try { return f(); } catch { return undefined; } };
  const cpuinfo = quiet(() => fs.readFileSync('/proc/cpuinfo', 'utf8')) ?? '';
  const field = (name) => new RegExp(`^${name}\\s*:\\s*(.*)$`, 'm').exec(cpuinfo)?.[1];
  const flags = new Set((field('flags') ?? field('Features') ?? '').split(' '));
  const caches = quiet(() => Object.fromEntries(JSON.parse(execFileSync('lscpu', ['-J', '-C=NAME,ONE-SIZE'], { encoding: 'utf8' })).caches.map((c) => [c.name, c['one-size']])));
  return {
    cpu: `${field('model name') ?? os.cpus()[0]?.model} (family ${field('cpu family') ?? '?'}, model ${field('model') ?? '?'})`,
    cores: os.cpus().length,
    memoryGiB: Math.round(os.totalmem() / 2 ** 30),
    instructions: ISA.filter((f) => flags.has(f)),
    caches,
    kernel: os.release(),
    chromium: quiet(() => /\d+(\.\d+)+/.exec(execFileSync(chromium, ['--version'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }))?.[0]),
    node: process.versions.node,
    loadavg: os.loadavg()[0],
    date: new Date().toISOString(),
  };
}
