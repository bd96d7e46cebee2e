// What runs where, in words.

import type { Engine } from "kinglet";
import { make } from "./dom.js";
import { bytes, count, short } from "./format.js";
import { nameOf, type Source } from "./models.js";

/** One line below the question. */
export function line({ info }: Engine): string {
  return `On this device · ${backend(info)} · ${info.quantization}`;
}

function backend(info: Engine["info"]): string {
  if (info.backend === "webgpu") return `GPU${info.adapter ? ` (${info.adapter})` : ""}`;
  return info.threads > 1 ? `CPU, ${info.threads} threads` : "CPU";
}

export async function fill(list: HTMLElement, source: Source, engine: Engine): Promise<void> {
  const { info } = engine;
  const memory = await engine.memory();
  const onGpu = info.backend === "webgpu";
  const from = { embedded: "Comes with this page", file: "A file on this device", url: "Downloaded into this page" }[source.kind];
  const rows: [string, string][] = [
    ["Name", nameOf(source, engine)],
    ["From", from],
    ["Runs on", `This device: ${backend(info)}`],
    ["Binary", `WebAssembly, ${info.simd === "relaxed" ? "SIMD128 and relaxed SIMD" : "SIMD128"}`],
    ["Architecture", `${info.architecture}, ${short(info.parameters)} parameters`],
    ["Quantization", info.quantization],
    ["Context", `${count(info.contextLength)} tokens`],
    ["Memory", onGpu ? `${bytes(memory.heap)}, and on the GPU ${bytes(memory.weights + memory.kvCache + memory.scratch)}` : `${bytes(memory.heap)}, of which weights ${bytes(memory.weights)}`],
  ];
  if (onGpu) rows.push(["If the GPU fails", info.fallback ? "The CPU goes on" : `Nothing can go on: ${info.fallbackReason}`]);
  list.replaceChildren(...rows.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
}
