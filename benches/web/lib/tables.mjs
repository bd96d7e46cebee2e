// From result rows (one per measurement) to Markdown. Values are medians over rounds; a ratio is the median of the ratios
// within each round, so that slow moments of the machine cancel out.

const KV_BYTES = { 'smollm2-135m': 23040, 'smollm2-360m': 40960, 'smollm2-1.7b': 196608, 'qwen2.5-0.5b': 12288 }; // per position, two bytes an element
const MB = 1e6;
const NATIVE = /^llama-/;
const TJS = /^tjs/;

const median = (values) => { const s = values.filter(Number.isFinite).sort((a, b) => a - b), m = s.length >> 1; return !s.length ? NaN : s.length % 2 ? s[m] : (s[m - 1] + s[m]) / 2; };
const number = (x, digits = 1) => (Number.isFinite(x) ? x.toFixed(digits) : '–');
const markdown = (head, lines, words = 1) => [`| ${head.join(' | ')} |`, `|${head.map((_, i) => (i < words ? '---' : '--:')).join('|')}|`, ...lines.map((l) => `| ${l.join(' | ')} |`)].join('\n');

export const shapeOf = (row) => /^(smollm2|qwen2\.5)-[\d.]+[mb]/.exec(row.model)?.[0];
const typeOf = (row) => (row.model.includes('#') ? (row.model.endsWith('q4') ? 'Q4_0' : 'Q8_0') : row.model.slice(shapeOf(row).length + 1).replace('.gguf', ''));
const isOurs = (row) => row.heapBytes !== undefined;
const isRelaxed = (row) => !!row.code?.wasm.some((f) => /relaxed|threads/.test(f));
const binaryOf = (row) => row.code?.wasm.map((f) => /wasm\/(\w+)\//.exec(f)?.[1].replace('simd', 'simd128')).join(' ');

/** Wasm heap beyond file and KV cache, in MB: the issue allows 64. */
const beyond = (row) => (row.heapBytes - row.fileBytes - KV_BYTES[shapeOf(row)] * (row.ctx ?? 1024)) / MB;

function grouped(rows) {
  const models = new Map();
  for (const row of rows) {
    const model = `${shapeOf(row)} ${typeOf(row)}`;
    if (!models.has(model)) models.set(model, new Map());
    const name = row.model.includes('#') ? `${row.label} ${row.model.split('#')[1]}` : row.label;
    const of = models.get(model);
    of.set(name, [...(of.get(name) ?? []), row]);
  }
  return models;
}

/** Every contender on every model. */
export function table(rows) {
  const head = ['', 'load s', 'first token s', 'prefill tok/s', 'decode tok/s', 'wasm heap MB', 'beyond file + KV', 'renderer MiB', 'code kB brotli', 'wasm', 'runs', 'foreign cores'];
  const parts = [];
  for (const [model, contenders] of grouped(rows)) {
    const lines = [...contenders].map(([name, all]) => {
      const ok = all.filter((r) => !r.error), m = (f, digits) => number(median(ok.map(f)), digits);
      if (!ok.length) return [name, `failed: ${all[0].error.slice(0, 90).replace(/[|\n]/g, ' ')}`, ...Array(head.length - 2).fill('')];
      const ours = isOurs(ok[0]);
      return [name, m((r) => r.loadMs / 1000 || NaN, 2), m((r) => r.firstTokenMs / 1000 || NaN, 2), m((r) => r.prefillTps), m((r) => r.decodeTps), ours ? m((r) => r.heapBytes / MB, 0) : '–', ours ? m(beyond, 0) : '–',
        m((r) => r.rendererMiB, 0), m((r) => r.code?.brotli / 1000, 0), ours ? binaryOf(ok[0]) : '–', ok.length < all.length ? `${ok.length} of ${all.length}` : ok.length, m((r) => r.cpu.foreign, 2)];
    });
    parts.push(`**${model}**\n\n${markdown(head, lines)}`);
  }
  return parts.join('\n\n');
}

/** Median over rounds of field(a) / field(b) within the round. */
function ratio(a, b, field) {
  const ofRound = new Map(b.filter((r) => !r.error).map((r) => [`${r.file}|${r.round}`, r[field]]));
  return median(a.filter((r) => !r.error).map((r) => r[field] / ofRound.get(`${r.file}|${r.round}`)));
}

/** The contender whose median of `field` is best. */
function best(candidates, field, low = false) {
  const scored = candidates.map(([name, rows]) => [name, rows, median(rows.filter((r) => !r.error).map((r) => r[field]))]).filter(([, , x]) => Number.isFinite(x));
  return scored.sort((x, y) => (low ? x[2] - y[2] : y[2] - x[2]))[0];
}

/** What is asked for: by binary and type, times the best peer in the browser; the first token at most. */
const GATES = {
  decodeTps: { relaxed: { Q4_0: 3, Q4_K_M: 3, Q8_0: 1.6 }, simd128: { Q4_0: 1.6, Q8_0: 1.3 } },
  prefillTps: { relaxed: 4, ofTransformersJs: 2 },
  firstTokenMs: { 'smollm2-135m Q4_0': 0.7 },
};
/** Of native llama.cpp with all that the processor has, a core against a core. */
const NATIVE_GATES = { decodeTps: 1, prefillTps: 0.6 };

/** Ours against the best peer in the browser with as many threads, against native llama.cpp, and our contenders against each other. */
export function comparison(rows) {
  const models = grouped(rows), lines = [], among = [];
  const all = [...models].flatMap(([model, contenders]) => [...contenders].map(([name, of]) => ({ model, name, of })));
  const verdict = (value, gate, low) => (gate === undefined || !Number.isFinite(value) ? '' : (low ? value <= gate : value >= gate) ? 'yes' : '**no**');
  for (const [model, contenders] of models) {
    const entries = [...contenders].map(([name, of]) => [name, of.filter((r) => !r.error)]).filter(([, of]) => of.length);
    const ours = entries.filter(([, of]) => isOurs(of[0]));
    const [shape, type] = model.split(' ');
    for (const [name, of] of ours) {
      const level = isRelaxed(of[0]) ? 'relaxed' : 'simd128';
      const threads = of[0].threads ?? 1;
      const rivals = entries.filter(([, o]) => !isOurs(o[0]) && (o[0].threads ?? 1) === threads);
      const native = rivals.filter(([, o]) => NATIVE.test(o[0].label)), gguf = rivals.filter(([, o]) => !NATIVE.test(o[0].label) && !TJS.test(o[0].label));
      // transformers.js q8 stands with Q8_0 and q4 with Q4_0; in prefill and first token they count against every type
      const tjs = all.filter((x) => x.model.startsWith(`${shape} `) && TJS.test(x.of[0].label) && (x.of[0].threads ?? 1) === threads).map((x) => [x.name, x.of]);
      const against = (candidates, field, title, gate, low) => {
        const rival = best(candidates, field, low);
        if (!rival) return;
        const value = ratio(of, rival[1], field);
        lines.push([`${model}, ${name}`, title, `${number(value, 2)} x ${rival[0]}`, gate === undefined ? '' : `${low ? '<=' : '>='} ${gate}`, verdict(value, gate, low)]);
      };
      against([...gguf, ...tjs.filter(([, of]) => typeOf(of[0]) === type)], 'decodeTps', 'decode', GATES.decodeTps[level][type]);
      against(gguf, 'prefillTps', 'prefill', GATES.prefillTps[level]);
      against(tjs, 'prefillTps', 'prefill', level === 'relaxed' ? GATES.prefillTps.ofTransformersJs : undefined);
      against([...gguf, ...tjs], 'firstTokenMs', 'first token', GATES.firstTokenMs[model], true);
      for (const rival of native) {
        const gates = level === 'relaxed' && rival[1][0].label.startsWith('llama-native') ? NATIVE_GATES : {};
        for (const [field, title] of [['decodeTps', 'decode'], ['prefillTps', 'prefill']]) against([rival], field, title, gates[field]);
      }
      const extra = median(of.map(beyond));
      lines.push([`${model}, ${name}`, 'heap beyond file + KV', `${number(extra, 0)} MB`, '<= 64 MB', verdict(extra, 64, true)]);
    }
    for (const [name, of] of ours.slice(1)) {
      const [first, base] = ours[0], hashes = new Set([...of, ...base].map((r) => r.textHash));
      among.push([model, `${name} / ${first}`, ...['decodeTps', 'prefillTps', 'firstTokenMs', 'heapBytes'].map((f) => number(ratio(of, base, f), 3)), hashes.size === 1 ? 'same' : 'differs']);
    }
  }
  return [
    lines.length ? markdown(['', 'what', 'ratio', 'asked for', 'reached'], lines, 5) : '',
    among.length ? markdown(['', 'ratio of', 'decode', 'prefill', 'first token', 'heap', 'text'], among, 2) : '',
  ].filter(Boolean).join('\n\n');
}
