// The packed npm package, served under job.packageUrl (a folder with package.json at its root). As many CPU threads as job.threads says.
export const meta = { where: 'page' };

const fnv = (text) => { let h = 0x811c9dc5; for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193) >>> 0; return h.toString(16).padStart(8, '0'); };

export default function create() {
  let engine, prompt, text;
  const complete = async (max_tokens, cache_prompt) => {
    const start = performance.now();
    const reply = await engine.completions.create({ prompt, max_tokens, temperature: 0, ignore_eos: true, cache_prompt, drafts: 'never' });
    const wallMs = performance.now() - start;
    const stats = await engine.stats();
    if (stats.completionTokens !== max_tokens) throw new Error(`asked for ${max_tokens} tokens, got ${stats.completionTokens}`);
    return { reply, stats, wallMs };
  };
  return {
    info: {},
    async load(url, { packageUrl, threads, ctx }) {
      const root = new URL(packageUrl, location.href);
      const { exports: map, version } = await (await fetch(new URL('package.json', root))).json();
      const pick = (entry) => (typeof entry === 'string' ? entry : pick(entry.browser ?? entry.import ?? entry.default));
      const { createEngine } = await import(new URL(pick(map['.']), root));
      engine = await createEngine({ model: url, backend: 'cpu', threads, contextLength: ctx, cache: 'none' });
      this.info = { version, ...engine.info };
    },
    async prefill({ text: words }) {
      prompt = words;
      const { stats, wallMs } = await complete(1, false);
      return { tokens: stats.promptTokens - (stats.cachedTokens ?? 0), ms: stats.prefillMs, wallMs };
    },
    async decode(n) {
      const { reply, stats, wallMs } = await complete(n + 1, true);
      text = reply.choices[0].text;
      return { tokens: n, ms: stats.decodeMs, wallMs };
    },
    finish: () => ({ textHash: fnv(text) }), // of the last greedy answer: the same in two packages that compute the same
  };
}
