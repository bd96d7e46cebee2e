// What a process tree used of the machine: CPU time, peak resident memory, and how much CPU everybody else took meanwhile.
import fs from 'node:fs';

const read = (file) => { try { return fs.readFileSync(file, 'utf8'); } catch { return ''; } };
const statFields = (pid) => { const s = read(`/proc/${pid}/stat`); return s ? s.slice(s.lastIndexOf(')') + 2).split(' ') : null; };

/** All live descendants of `root`, itself included. */
function tree(root) {
  const parent = new Map();
  for (const d of fs.readdirSync('/proc')) {
    const fields = /^\d+$/.test(d) && statFields(d);
    if (fields) parent.set(Number(d), Number(fields[1]));
  }
  const set = new Set([root]);
  for (let grew = true; grew; ) {
    grew = false;
    for (const [pid, of] of parent) if (set.has(of) && !set.has(pid)) { set.add(pid); grew = true; }
  }
  return [...set];
}

/** Peak resident set in MiB of the biggest renderer under `root`. */
export function peakRendererMiB(root) {
  let peak = 0;
  for (const pid of tree(root)) {
    if (!read(`/proc/${pid}/cmdline`).includes('--type=renderer')) continue;
    peak = Math.max(peak, Number(/VmHWM:\s+(\d+)/.exec(read(`/proc/${pid}/status`))?.[1] ?? 0) / 1024);
  }
  return Math.round(peak);
}

function machine() {
  const [, user, nice, system, , , irq, softirq, steal] = read('/proc/stat').split('\n')[0].split(/\s+/).map(Number);
  return { busy: user + nice + system + irq + softirq, steal };
}
// utime, stime and those of children already waited for
const jiffiesOf = (pids) => [...pids].reduce((sum, pid) => { const f = statFields(pid); return sum + (f ? Number(f[11]) + Number(f[12]) + Number(f[13]) + Number(f[14]) : 0); }, 0);

/** Starts a meter; the function it returns gives { own, foreign, steal }: cores used on average since. Needs Linux. */
export function loadMeter(root) {
  const own = () => jiffiesOf(new Set([...tree(root), process.pid]));
  const t0 = performance.now(), machine0 = machine(), own0 = own();
  return () => {
    const jiffies = (performance.now() - t0) / 10, now = machine(), mine = own() - own0;
    const cores = (x) => Math.round((x / jiffies) * 100) / 100;
    return { own: cores(mine), foreign: Math.max(0, cores(now.busy - machine0.busy - mine)), steal: cores(now.steal - machine0.steal) };
  };
}
