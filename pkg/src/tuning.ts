// Which variants of the kernels an adapter was measured to run fastest, kept for the next visit. One record an adapter:
// its entries name kernel, types and sizes, so that models share it.

/** Changes with the variants there are. */
const CACHE = "kinglet-tuning-2";
/** Asked of nobody: a cache wants addresses for keys. */
const key = (adapter: string) => `https://kinglet.invalid/tuning/${encodeURIComponent(adapter)}`;

export type Tuning = Record<string, unknown>;

/** `undefined` where nothing is kept, or nothing can be. */
export async function recall(adapter: string): Promise<Tuning | undefined> {
  try {
    const kept = await (await caches.open(CACHE)).match(key(adapter));
    return kept && ((await kept.json()) as Tuning);
  } catch {
    return undefined; // no caches in this context: it is measured again
  }
}

export async function keep(adapter: string, tuning: Tuning): Promise<void> {
  try {
    await (await caches.open(CACHE)).put(key(adapter), new Response(JSON.stringify(tuning)));
  } catch {
    // The same.
  }
}
