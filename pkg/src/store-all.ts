// The worker's part of `models.import`: its parts go into the store, and nothing else becomes of them.

import { KingletError } from "./errors.js";
import { LoadProgress } from "./load-progress.js";
import { Parts } from "./parts.js";
import type { Answer, FromWorker, ToWorker } from "./protocol.js";

const MAGIC = "GGUF";

export async function storeAll({ parts, store }: Extract<ToWorker, { type: "store" }>, send: (message: FromWorker) => void): Promise<Answer> {
  const progress = new LoadProgress((progress) => send({ type: "progress", progress }));
  const opened = new Parts(send, () => {
    const { stored } = opened;
    progress.arrived(parts.map((_, i) => ({ arrived: stored[i]?.arrived ?? 0, size: stored[i]?.size, local: stored[i]?.local ?? false })));
  });
  try {
    const readers = opened.open(parts, store);
    for (const [i, reader] of readers.entries()) {
      const { name } = parts[i]!.cache!;
      let beginning = "";
      while (beginning.length < MAGIC.length) {
        const chunk = await reader.next();
        beginning += String.fromCharCode(...(chunk?.subarray(0, MAGIC.length) ?? [0, 0, 0, 0]));
      }
      if (!beginning.startsWith(MAGIC)) throw new KingletError("NOT_A_MODEL", `${name} is not a GGUF file`);
      while (await reader.next());
    }
    await opened.settle();
    return { type: "stored" };
  } catch (e) {
    await opened.reject(e instanceof KingletError ? e.code : undefined);
    throw e;
  }
}
