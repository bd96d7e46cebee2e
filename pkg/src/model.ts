// The `model` option as the parts a worker can read. Kept for the engine's life, so that a fresh worker can load again.

import { badRequest, KingletError } from "./errors.js";
import { feed } from "./feed.js";
import type { Part } from "./protocol.js";
import { reserve } from "./spool-file.js";
import type { EngineOptions, ModelFile } from "./types.js";

const SPLIT = /-(\d{5})-of-(\d{5})(\.gguf)$/;
const SHA256 = /^[0-9a-f]{64}$/i;

/** Opens a model as often as it is needed; `open` throws where a stream has been read already and was not kept. */
export interface Model {
  open(): { parts: Part[]; transfer: Transferable[]; close(): void };
  /** All of a stream: what is opened from now on. */
  keep(blob: Blob): void;
  /** The worker has ended, and nothing is opened again. */
  dispose(): Promise<void>;
}

export function resolveModel(options: EngineOptions): Model {
  const files = listFiles(options.model);
  const digests = listDigests(options.sha256, files.length);
  let spool: ReturnType<typeof reserve> | undefined;
  let kept: Blob | undefined;
  return {
    open() {
      const transfer: Transferable[] = [];
      const closers: (() => void)[] = [];
      const parts = files.map((file, i): Part => {
        const sha256 = digests[i];
        if (file instanceof URL) return { kind: "http", url: file.href, headers: options.headers, sha256 };
        if (file instanceof Blob) return { kind: "blob", blob: file, sha256 };
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
      return { parts, transfer, close: () => closers.forEach((close) => close()) };
    },
    keep: (blob) => void (kept = blob),
    dispose: async () => spool?.remove(),
  };
}

type Resolved = URL | Blob | Uint8Array | ReadableStream<Uint8Array>;

function listFiles(model: EngineOptions["model"]): Resolved[] {
  // Next.js makes a URL of it that is relative.
  if (model === undefined || model === null) return [resolveUrl(new URL("./default.gguf", import.meta.url), "model")];
  if (model instanceof ReadableStream) return [model];
  if (Array.isArray(model)) {
    if (model.length === 0) throw badRequest("model", "is an empty list; give the parts of the split file in order");
    return model.map((file) => resolveFile(file as ModelFile, "model"));
  }
  const file = resolveFile(model as ModelFile, "model");
  return file instanceof URL ? expandSplit(file) : [file];
}

export function resolveFile(file: ModelFile, option: string): URL | Blob | Uint8Array {
  if (typeof file === "string" || file instanceof URL) return resolveUrl(file, option);
  if (file instanceof Blob) return file;
  if (file instanceof ArrayBuffer) return new Uint8Array(file);
  if (ArrayBuffer.isView(file)) return new Uint8Array(file.buffer, file.byteOffset, file.byteLength);
  throw badRequest(option, `must be a URL, a File or Blob, ${option === "model" ? "an ArrayBuffer or a ReadableStream of bytes" : "or an ArrayBuffer"}`);
}

/** Relative addresses are relative to the page, as in `fetch`. */
export function resolveUrl(url: string | URL, option: string): URL {
  try {
    return new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href);
  } catch {
    throw badRequest(option, `is not a valid URL: ${String(url)}`);
  }
}

/** `x-00001-of-00003.gguf` stands for all three. */
function expandSplit(url: URL): URL[] {
  const match = SPLIT.exec(url.pathname);
  if (!match) return [url];
  const count = Number(match[2]);
  return Array.from({ length: count }, (_, i) => {
    const part = new URL(url);
    part.pathname = url.pathname.replace(SPLIT, `-${String(i + 1).padStart(5, "0")}-of-$2$3`);
    return part;
  });
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
