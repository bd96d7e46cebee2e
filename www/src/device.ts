// What this device can hold, as far as a browser tells, and whether a model fits. Knows no page.

import { catalog, cpuLimit, type CatalogFile, type CatalogModel } from "kinglet/catalog";

export interface Device {
  /** The GPU that the engine would take. A GPU's memory, a browser does not tell. */
  gpu: { name: string; bindingBytes: number } | null;
  /** Of the whole device, where it is told (Chromium): rounded, and never more than 8 GiB or, in newer versions, 32. */
  memoryBytes: number | undefined;
  cores: number;
}

/** Of a device's memory a page should leave the rest to others. */
const FAIR_SHARE = 0.5;
/** Beyond this, the browser is likely to end the page. */
const MOST = 0.8;
/** What to expect of a device that does not tell. */
const UNTOLD = { phone: 4 * 2 ** 30, desktop: 8 * 2 ** 30 };

let asked: Promise<Device> | undefined;

export function thisDevice(): Promise<Device> {
  return (asked ??= askDevice());
}

async function askDevice(): Promise<Device> {
  const { deviceMemory, gpu, hardwareConcurrency } = navigator as Navigator & { deviceMemory?: number; gpu?: GpuAccess };
  const adapter = await gpu?.requestAdapter({ powerPreference: "high-performance" }).catch(() => null);
  const software = adapter && (adapter.info?.isFallbackAdapter || /swiftshader|llvmpipe|lavapipe/i.test(`${adapter.info?.architecture} ${adapter.info?.description}`));
  const name = adapter ? [adapter.info?.vendor, adapter.info?.architecture].filter(Boolean).join(" ") || "GPU" : "";
  return {
    gpu: adapter && !software ? { name, bindingBytes: Math.min(adapter.limits.maxBufferSize, adapter.limits.maxStorageBufferBindingSize) } : null,
    memoryBytes: deviceMemory === undefined ? undefined : deviceMemory * 2 ** 30,
    cores: hardwareConcurrency || 1,
  };
}

/** Of WebGPU what is read here: its types are in no library that is needed else. */
interface GpuAccess {
  requestAdapter(options: object): Promise<{
    limits: { maxBufferSize: number; maxStorageBufferBindingSize: number };
    info?: { vendor?: string; architecture?: string; description?: string; isFallbackAdapter?: boolean };
  } | null>;
}

export interface Verdict {
  /** "no": it cannot be loaded. "risky": it may be too much; the person decides. */
  answer: "yes" | "tight" | "risky" | "no";
  where: "gpu" | "cpu" | null;
  /** Of the page, with a GPU's. */
  bytes: number;
  /** A sentence. */
  why: string;
}

export interface Needs {
  cpu: number;
  /** Null where a GPU cannot take it. */
  gpu: number | null;
  gpuHeap: number;
}

/** As memory is sold. */
export const gibibytes = (bytes: number) => `${Number((bytes / 2 ** 30).toPrecision(2))} GB`;
const gigabytes = (bytes: number) => `${(bytes / 1e9).toFixed(bytes < 1e10 ? 1 : 0)} GB`;

/** `memory`: of the device; what is told or, where it is not, guessed. */
export function verdict(needs: Needs, device: Device): Verdict {
  const told = device.memoryBytes;
  const memory = told ?? (matchMedia("(pointer: coarse)").matches ? UNTOLD.phone : UNTOLD.desktop);
  const onGpu = device.gpu !== null && needs.gpu !== null;
  const bytes = onGpu ? needs.gpu! + needs.gpuHeap : needs.cpu;
  const where = onGpu ? "gpu" : "cpu";
  if (!onGpu && bytes > cpuLimit) return { answer: "no", where: null, bytes, why: `It needs ${gigabytes(bytes)}; without a GPU a page has ${gigabytes(cpuLimit)} at most.` };
  const of = told === undefined ? `about ${gibibytes(memory)}, as a guess: this browser does not say` : `${gibibytes(memory)} or more`;
  const why = `It takes ${gigabytes(bytes)} ${onGpu ? "of GPU and page memory" : "of the page's memory"}; this device has ${of}.`;
  if (bytes > memory * MOST) return { answer: "risky", where, bytes, why: `${why} The browser may end the page.` };
  return { answer: bytes > memory * FAIR_SHARE ? "tight" : "yes", where, bytes, why };
}

export const needsOf = ({ memory }: CatalogFile): Needs => ({ cpu: memory.cpu, gpu: memory.gpu, gpuHeap: memory.gpuHeap });

/** The largest of the catalogue that runs well here and is not larger than `bytes`. */
export function largestThatRuns(device: Device, bytes = Infinity): { model: CatalogModel; file: CatalogFile } | undefined {
  const files = catalog.flatMap((model) => model.files.map((file) => ({ model, file })));
  return files.filter(({ file }) => file.bytes <= bytes && verdict(needsOf(file), device).answer === "yes").sort((a, b) => b.file.bytes - a.file.bytes)[0];
}
