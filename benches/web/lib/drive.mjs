// The measurement, the same for every contender and wherever it runs (page, worker, Node).
//
// A contender's default export makes an object with
//   load(modelUrl, options)   runtime and model
//   prefill({ text, ids })    a fresh sequence: the whole prompt, up to the choice of the first token  -> { tokens, ms }
//   decode(n)                 greedily n more tokens after it, never stopping at an end token           -> { tokens, ms }
//   finish?()                 at the end: anything else worth recording (memory, the text's hash)
// The shared peers' contenders have the same shape.

const now = () => performance.timeOrigin + performance.now(); // comparable between a page and its workers
const median = (values) => { const s = [...values].sort((a, b) => a - b), m = s.length >> 1; return s.length % 2 ? s[m] : (s[m - 1] + s[m]) / 2; };
const rate = ({ tokens, ms }) => (tokens * 1000) / ms;
const round = (x, digits = 2) => Math.round(x * 10 ** digits) / 10 ** digits;

/** Runs `contender` through `job`; job.startedAt is when the page began (before any import), in ms since the epoch. */
export async function drive(contender, job) {
  const c = contender.default();
  await c.load(job.modelUrl, job);
  const loadMs = now() - job.startedAt;
  let firstTokenMs = null;
  if (job.first) {
    await c.prefill(job.first);
    firstTokenMs = round(now() - job.startedAt, 0);
  }
  if (job.warm) { // lets the wasm tiers settle
    await c.prefill(job.warm);
    await c.decode(8);
  }
  const runs = [];
  for (let i = 0; i < job.reps; i++) {
    const prefill = await c.prefill(job.prompts[i % job.prompts.length]);
    const decode = await c.decode(job.gen);
    runs.push({ prefillTps: rate(prefill), decodeTps: rate(decode), wall: decode.wallMs && { prefillMs: round(prefill.wallMs), decodeMs: round(decode.wallMs) } });
  }
  return {
    loadMs: round(loadMs, 0),
    firstTokenMs,
    prefillTps: round(median(runs.map((r) => r.prefillTps))),
    decodeTps: round(median(runs.map((r) => r.decodeTps))),
    info: c.info,
    wall: runs.at(-1)?.wall,
    ...(await c.finish?.()),
  };
}
