// What a string means that names a model: a name of the catalogue, a file of the Hub, something imported, or a URL.

import { catalog, type CatalogFile } from "./catalog.js";
import { badRequest } from "./errors.js";
import { HUB, hubName, hubUrl, parseHubName, parseHubUrl, type HubFile } from "./hub.js";

const SPLIT = /-(\d{5})-of-(\d{5})(\.gguf)$/;

/** One file. */
export interface Address {
  /** The same for all ways to write it, and without secrets of ours. */
  name: string;
  /** Absent where it can only be in a store. */
  url?: URL;
  hub?: HubFile;
}

/** All files of a model, in order: `x-00001-of-00003.gguf` stands for all three. */
export function resolveModelFiles(text: string | URL, hub?: string | URL): Address[] {
  return expandSplit(resolveAddress(text, hub));
}

/** `mirror`: where the Hub's files are, if not there. */
export function resolveAddress(text: string | URL, mirror?: string | URL): Address {
  const option = "model";
  const hub = mirror === undefined ? HUB : resolveUrl(mirror, "hub").href.replace(/\/$/, "");
  if (typeof text === "string") {
    if (/^hf:/i.test(text)) {
      const file = parseHubName(text.replace(/^hf:(\/\/)?/i, ""), hub);
      if (!file) throw badRequest(option, `"${text}" names no file; write hf:owner/repository/file.gguf or hf:owner/repository@revision/file.gguf`);
      return onHub(file);
    }
    if (/^local:./.test(text)) return { name: text };
    const listed = fromCatalog(text, option);
    if (listed) return onHub({ origin: hub, repository: listed.repository, revision: "main", path: listed.file });
  }
  const url = resolveUrl(text, option);
  url.hash = "";
  const file = parseHubUrl(url, hub) ?? parseHubUrl(url, HUB);
  return file ? { ...onHub(file), url } : { name: url.href, url };
}

function onHub(file: HubFile): Address {
  return { name: hubName(file), url: new URL(hubUrl(file)), hub: file };
}

/** `name` or `name:quantization`; a name goes without its "-instruct" or "-it". The smallest file is the default. */
function fromCatalog(text: string, option: string): CatalogFile | undefined {
  const [, name = "", quantization] = /^([a-z0-9][a-z0-9.-]*)(?::([a-z0-9_]+))?$/i.exec(text.toLowerCase()) ?? [];
  const model = catalog.find(({ id }) => id === name || id.replace(/-(instruct|it)$/, "") === name);
  if (model) {
    const file = quantization ? model.files.find((file) => file.quantization.toLowerCase() === quantization) : model.files[0];
    if (file) return file;
    throw badRequest(option, `"${name}" comes as ${model.files.map((file) => `"${name}:${file.quantization.toLowerCase()}"`).join(", ")}, not as "${text}"`);
  }
  // A file beside the page has an ending; and a scheme is no name.
  if (!name || /\.gguf$/.test(name) || quantization || /^(https?|blob|data|file)$/.test(name)) return undefined;
  throw badRequest(option, `"${text}" is not in the catalogue, which has ${catalog.map(({ id }) => id).join(", ")}; write "./${text}" for a file beside the page`);
}

function expandSplit(address: Address): Address[] {
  const count = Number(SPLIT.exec(address.name.split("?")[0]!)?.[2] ?? 0);
  if (count === 0) return [address];
  return Array.from({ length: count }, (_, i) => {
    const number = String(i + 1).padStart(5, "0");
    const renamed = (path: string) => path.replace(SPLIT, `-${number}-of-$2$3`);
    const { name, url, hub } = address;
    const [path = "", query] = name.split("?");
    const part: Address = { name: renamed(path) + (query === undefined ? "" : `?${query}`) };
    if (url) (part.url = new URL(url)).pathname = renamed(url.pathname);
    if (hub) part.hub = { ...hub, path: renamed(hub.path) };
    return part;
  });
}

/** In the name of what is kept beside a model; no name of a file has it. */
const PREFIX = "#prefix-";

/** Under which a beginning is kept that was read beforehand. */
export const prefixName = (model: string, digest: string): string => `${model}${PREFIX}${digest}`;
export const isPrefix = (name: string): boolean => name.includes(PREFIX);

/** The model that a stored file belongs to, and how many files that has. */
export function modelOf(stored: string): { model: string; index: number; files: number } {
  const [name = ""] = stored.split(PREFIX);
  const [path = "", query] = name.split("?");
  const [, index, files] = SPLIT.exec(path) ?? [];
  if (!index || !files) return { model: name, index: 0, files: 1 };
  const model = path.replace(SPLIT, `-00001-of-$2$3`) + (query === undefined ? "" : `?${query}`);
  return { model, index: Number(index) - 1, files: Number(files) };
}

/** Relative addresses are relative to the page, as in `fetch`. */
export function resolveUrl(url: string | URL, option: string): URL {
  try {
    return new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href);
  } catch {
    throw badRequest(option, `is not a valid URL: ${String(url)}`);
  }
}

