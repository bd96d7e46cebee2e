// Which store keeps the models here: the first that works, or the one that was asked for.

import { badRequest } from "../errors.js";
import { Sha256 } from "../sha256.js";
import { CachePieces } from "./cache-api.js";
import { OpfsStore } from "./opfs.js";
import { PieceStore, type Pieces } from "./pieces.js";
import type { Store, StoreKind } from "./store.js";

/** The best first. */
export const STORES: StoreKind[] = ["opfs", "cache-api", "memory"];

export async function openStore(wanted: StoreKind | "auto", memory: Pieces): Promise<Store> {
  for (const kind of wanted === "auto" ? STORES : [wanted]) {
    try {
      if (kind === "opfs") return await OpfsStore.open();
      return new PieceStore(kind, kind === "memory" ? memory : await CachePieces.open());
    } catch (e) {
      if (wanted !== "auto") throw badRequest("cache", `"${kind}" cannot be used here (${e instanceof Error ? e.message : String(e)}); "auto" takes what works`);
    }
  }
  throw new Error("memory is always there");
}

/** A file's name in a store. */
export const keyOf = (name: string): string => new Sha256().update(new TextEncoder().encode(name)).digest().slice(0, 40);

/** The name of its Web Lock: shared by readers, exclusive while it is written or removed. */
export const lockOf = (store: StoreKind, key: string): string => `kinglet-models/${store}/${key}`;
