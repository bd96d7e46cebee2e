// What the worker can know of the GPU before the wasm asks for it, and the one thing the wasm cannot ask for itself.

import { KingletError, type ErrorData } from "./errors.js";
import type { Tuning } from "./tuning.js";
import type { Testing } from "./types.js";

/** `GpuOptions` of src/backend/webgpu. */
export interface GpuOptions {
  subgroups: boolean;
  minSubgroupSize: number;
  packedDot: boolean;
  adapter: string;
  tuning?: Tuning;
  sabotage?: string;
  bindingLimit?: number;
}

export interface Gpu {
  options: GpuOptions;
  /** A program on the CPU that plays a GPU. */
  software: boolean;
}

// As much of WebGPU as is used here; TypeScript's DOM library has none of it.
interface AdapterInfo {
  vendor: string;
  architecture: string;
  description: string;
  subgroupMinSize?: number;
  isFallbackAdapter?: boolean;
}
interface DeviceDescriptor {
  requiredFeatures?: Iterable<string>;
}
interface Device {
  readonly lost: Promise<{ reason: string; message: string }>;
}
interface Adapter {
  readonly limits: { readonly maxStorageBufferBindingSize: number; readonly maxBufferSize: number };
  readonly features: ReadonlySet<string>;
  readonly info?: AdapterInfo;
  /** Where browsers had it before it moved into `info`. */
  readonly isFallbackAdapter?: boolean;
  requestDevice(descriptor?: DeviceDescriptor): Promise<Device>;
}
interface WebGpu {
  readonly wgslLanguageFeatures?: ReadonlySet<string>;
  requestAdapter(options: { powerPreference: "high-performance" }): Promise<Adapter | null>;
}

const SOFTWARE = /swiftshader|llvmpipe|lavapipe|basic render/i;

/** Errors: NO_WEBGPU, saying what is missing. */
export async function findGpu(testing: Testing = {}): Promise<Gpu> {
  const { gpu } = navigator as { gpu?: WebGpu };
  if (!gpu) {
    const advice = self.isSecureContext ? "it needs Chrome 113, Firefox 141, Safari 26 or later" : "it is there only for pages over https or from localhost";
    throw new KingletError("NO_WEBGPU", `this browser offers no WebGPU here; ${advice}`);
  }
  let adapter: Adapter | null;
  try {
    adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
  } catch (e) {
    throw new KingletError("NO_WEBGPU", `the browser's WebGPU failed: ${e instanceof Error ? e.message : String(e)}`, {}, e);
  }
  if (!adapter) {
    throw new KingletError("NO_WEBGPU", `the browser has WebGPU but no GPU for it: there is none, its driver is blocked, or hardware acceleration is off`);
  }
  requestSubgroups(Object.getPrototypeOf(adapter) as Adapter);
  const { info } = adapter;
  const words = info?.description || [info?.vendor, info?.architecture].filter(Boolean).join(" ");
  const software = info?.isFallbackAdapter ?? adapter.isFallbackAdapter ?? false;
  return {
    options: {
      subgroups: testing.subgroups ?? adapter.features.has("subgroups"),
      minSubgroupSize: info?.subgroupMinSize ?? 4,
      packedDot: testing.packedDot ?? gpu.wgslLanguageFeatures?.has("packed_4x8_integer_dot_product") ?? false,
      // Some browsers keep the name to themselves.
      adapter: words || (software ? "unnamed software adapter" : "unnamed GPU"),
      sabotage: testing.sabotage,
      bindingLimit: testing.bindingLimit,
    },
    software: software || SOFTWARE.test(words),
  };
}

/** Bytes of one binding of the adapter that would be taken; `undefined` where there is none. */
export async function bindingLimit(): Promise<number | undefined> {
  const { gpu } = navigator as { gpu?: WebGpu };
  const adapter = await gpu?.requestAdapter({ powerPreference: "high-performance" }).catch(() => null);
  return adapter ? Math.min(adapter.limits.maxStorageBufferBindingSize, adapter.limits.maxBufferSize) : undefined;
}

/** So long after another error a loss may be heard of. */
const LOSS_MS = 200;

/** A lost device fails in other ways before it says that it is lost, in Firefox at least; that it is lost says more. */
export async function orLoss(error: ErrorData): Promise<ErrorData> {
  if (error.code === "DEVICE_LOST" || !device) return error;
  const loss = await Promise.race([device.lost, new Promise<undefined>((resolve) => setTimeout(resolve, LOSS_MS))]);
  return loss ? { ...error, code: "DEVICE_LOST", message: `the GPU was lost: ${loss.message || loss.reason}` } : error;
}

/** What the wasm was given last. */
let device: Device | undefined;
const wrapped = new WeakSet<Adapter>();

/** wgpu knows no name for this feature in browsers, so that the wasm cannot ask for it. The device is remembered. */
function requestSubgroups(prototype: Adapter): void {
  if (wrapped.has(prototype)) return;
  wrapped.add(prototype);
  const { requestDevice } = prototype;
  prototype.requestDevice = async function (this: Adapter, descriptor: DeviceDescriptor = {}) {
    const features = new Set(descriptor.requiredFeatures);
    if (this.features.has("subgroups")) features.add("subgroups");
    return (device = await requestDevice.call(this, { ...descriptor, requiredFeatures: [...features] }));
  };
}
