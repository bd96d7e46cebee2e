// The `model` option as the parts a worker can read. Kept for the engine's life, so that a fresh worker can load again.

import { resolveAddress, resolveModelFiles, resolveUrl, type Address } from "./address.js";
import { badRequest, KingletError } from "./errors.js";
import { feed } from "./feed.js";
import type { CacheTarget, ModelParts, Part, StoreAccess } from "./protocol.js";
import { reserve } from "./spool-file.js";
import { holdCache } from "./store/cache-api.js";
import { memoryPort } from "./store/memory.js";
import { STORES } from "./store/stores.js";
import type { EngineOptions, ModelFile } from "./types.js";

export { resolveUrl };

const SHA256 = /^[0-9a-f]{64}$/i;

/** Opens a model as often as it is needed; `open` throws where a stream has been read already and was not kept. */
export interface Model {
  open(): Opened;
  /** All of a stream: what is opened from now on. */
  keep(blob: Blob): void;
  /** The worker has ended, and nothing is opened again. */
  dispose(): Promise<void>;
}

export interface Opened extends ModelParts {
  transfer: Transferable[];
  close(): void;
}

export type ModelOptions = Pick<EngineOptions, "model" | "draft" | "cache" | "revalidate" | "hub" | "headers" | "sha256">;

export function resolveModel(options: ModelOptions): Model {
  const { cache = "auto" } = options;
  if (!["auto", "none", ...STORES].includes(cache)) throw badRequest("cache", `must be "auto", "opfs", "cache-api", "memory" or "none"`);
  const files = listFiles(options);
  const digests = listDigests(options.sha256, files.length);
  const draft = resolveDraft(options);
  let spool: ReturnType<typeof reserve> | undefined;
  let kept: Blob | undefined;
  return {
    open() {
      const transfer: Transferable[] = [];
      const closers: (() => void)[] = [];
      const parts = files.map((file, i): Part => {
        const sha256 = digests[i];
        if (file instanceof Blob) return { kind: "blob", blob: file, sha256 };
        if ("name" in file) {
          const target = cache === "none" || !isKept(file) ? undefined : { name: file.name, hub: file.hub, revalidate: options.revalidate };
          if (file.url) return { kind: "http", url: file.url.href, headers: options.headers, sha256, cache: target };
          if (!target) throw badRequest("model", `"${file.name}" can only be in a store, which cache: "none" does without`);
          return { kind: "stored", sha256, cache: target };
        }
        if (kept) return { kind: "blob", blob: kept, sha256 };
        if (spool) {
          throw new KingletError("ENGINE_CRASHED", "the engine has ended, and its model came from a stream, which cannot be read again; create a new engine");
        }
        const { port, close } = feed(file);
        transfer.push(port);
        closers.push(close);
        if (file instanceof Uint8Array) return { kind: "port", port, size: file.byteLength, sha256 };
        spool = reserve();
        return { kind: "port", port, sha256, spool: spool.name };
      });
      const store = cache !== "none" && parts.some((part) => part.cache) ? accessStore(cache, transfer) : undefined;
      const beside = draft?.open();
      if (beside) {
        transfer.push(...beside.transfer);
        closers.push(beside.close);
      }
      return { parts, store, draft: beside && { parts: beside.parts, store: beside.store }, transfer, close: () => closers.forEach((close) => close()) };
    },
    keep: (blob) => void (kept = blob),
    dispose: async () => spool?.remove(),
  };
}

/** It can be opened as often as the model: it is no stream. */
function resolveDraft({ draft, cache, revalidate, hub, headers }: ModelOptions): Model | undefined {
  if (draft === undefined || draft === null) return undefined;
  if ((draft as unknown) instanceof ReadableStream) throw badRequest("draft", "is a stream, which can be read only once; give its URL or a Blob instead");
  try {
    return resolveModel({ model: draft, cache, revalidate, hub, headers });
  } catch (e) {
    throw e instanceof KingletError ? new KingletError(e.code, `draft: ${e.message}`, { ...e.details, option: "draft" }) : e;
  }
}

export function accessStore(wanted: StoreAccess["wanted"], transfer: Transferable[]): StoreAccess {
  const memory = memoryPort();
  transfer.push(memory);
  if (wanted === "cache-api" || !("getDirectory" in (navigator.storage ?? {}))) holdCache();
  return { wanted, memory };
}

/** The package's own model changes with the package, and the browser keeps it; what has no server needs no store. */
function isKept({ url }: Address): boolean {
  return url === undefined || (/^https?:$/.test(url.protocol) && url.href !== ownModel().href);
}

function ownModel(): URL {
  // Next.js makes a URL of it that is relative.
  return resolveUrl(new URL("./default.gguf", import.meta.url), "model");
}

type Resolved = Address | Blob | Uint8Array | ReadableStream<Uint8Array>;

function listFiles({ model, hub }: ModelOptions): Resolved[] {
  if (model === undefined || model === null) return [{ name: "default", url: ownModel() }];
  if (model instanceof ReadableStream) return [model];
  if (!Array.isArray(model)) return isAddress(model as ModelFile) ? resolveModelFiles(model as string | URL, hub) : [resolveBytes(model as Bytes, "model")];
  if (model.length === 0) throw badRequest("model", "is an empty list; give the parts of the split file in order");
  return (model as ModelFile[]).map((file) => (isAddress(file) ? resolveAddress(file, hub) : resolveBytes(file, "model")));
}

type Bytes = Exclude<ModelFile, string | URL>;

function isAddress(file: ModelFile): file is string | URL {
  return typeof file === "string" || file instanceof URL;
}

export function resolveFile(file: ModelFile, option: string): URL | Blob | Uint8Array {
  return isAddress(file) ? resolveUrl(file, option) : resolveBytes(file, option);
}

function resolveBytes(file: Bytes, option: string): Blob | Uint8Array {
  if (file instanceof Blob) return file;
  if (file instanceof ArrayBuffer) return new Uint8Array(file);
  if (ArrayBuffer.isView(file)) return new Uint8Array(file.buffer, file.byteOffset, file.byteLength);
  throw badRequest(option, `must be a URL, a File or Blob, ${option === "model" ? "an ArrayBuffer or a ReadableStream of bytes" : "or an ArrayBuffer"}`);
}

function listDigests(sha256: EngineOptions["sha256"], files: number): string[] {
  if (sha256 === undefined || sha256 === null) return [];
  const digests = typeof sha256 === "string" ? [sha256] : [...sha256];
  if (digests.length !== files) throw badRequest("sha256", `has ${digests.length} digests for ${files} files`);
  for (const digest of digests) {
    if (typeof digest !== "string" || !SHA256.test(digest)) throw badRequest("sha256", "must be 64 hexadecimal digits");
  }
  return digests.map((digest) => digest.toLowerCase());
}
