// The bench page: measures, draws, exports.

import { gibibytes, thisDevice, type Device } from "./device.js";
import { find, make, saveFile } from "./dom.js";
import { bytes, rate, seconds, short } from "./format.js";
import { measureEngine, measureLimits, type Limits, type Run, type Wanted } from "./measure.js";
import { bar } from "./plot.js";

/** More memory than any cache, and little enough for a phone. */
const BIG = 128 * 2 ** 20;
/** The largest working set that is measured for a model. */
const MOST = 512 * 2 ** 20;

interface Report {
  at: string;
  browser: string;
  device: Device & { crossOriginIsolated: boolean };
  limits: Limits[];
  runs: { run: Run; limit: Limits | null }[];
  failed: { wanted: Wanted; why: string }[];
}

const start = find<HTMLButtonElement>("start");
const save = find<HTMLButtonElement>("export");
const state = find("state");
const model = new URLSearchParams(location.search).get("model") ?? undefined;
let report: Report | undefined;

const say = (text: string) => (state.textContent = text);
const threadsHere = (cores: number) => (crossOriginIsolated ? Math.min(8, cores) : 1);

async function measure(): Promise<void> {
  start.disabled = save.disabled = true;
  const device = await thisDevice();
  report = { at: new Date().toISOString(), browser: navigator.userAgent, device: { ...device, crossOriginIsolated }, limits: [], runs: [], failed: [] };
  const threads = threadsHere(device.cores);
  const counts = threads > 1 ? [1, threads] : [1];
  for (const count of counts) {
    say(`Reading and multiplying with ${count} thread${count > 1 ? "s" : ""} …`);
    report.limits.push(await measureLimits(count, BIG));
  }
  drawMachine(report);
  const wanted: Wanted[] = [...counts.map((count): Wanted => ({ backend: "cpu", threads: count })), ...(device.gpu ? [{ backend: "webgpu" } as const] : [])];
  for (const want of wanted) {
    const name = want.backend === "webgpu" ? "GPU" : `CPU, ${want.threads} thread${want.threads! > 1 ? "s" : ""}`;
    try {
      say(`${name}: loading …`);
      const run = await measureEngine(model, want, (step) => say(`${name}: ${step} …`));
      const limit = run.backend === "cpu" ? await measureLimits(run.threads, Math.min(run.weightBytes, MOST)) : null;
      report.runs.push({ run, limit });
      drawRuns(report);
    } catch (error) {
      report.failed.push({ wanted: want, why: error instanceof Error ? error.message : String(error) });
      drawRuns(report);
    }
  }
  say("Done.");
  start.disabled = save.disabled = false;
  start.textContent = "Measure again";
}

function drawMachine({ device, limits }: Report): void {
  const rows: [string, string][] = [
    ["Processor", `${device.cores} cores, as the browser tells`],
    ["Memory", device.memoryBytes ? `${gibibytes(device.memoryBytes)} or more` : "the browser does not tell"],
    ["GPU", device.gpu?.name ?? "none that WebGPU can use"],
    ["Threads", device.crossOriginIsolated ? "allowed: the page is isolated" : "one: the page is not cross-origin isolated"],
    ...limits.flatMap(({ threads, bytesPerSecond, macsPerSecond }): [string, string][] => [[`${threads} thread${threads > 1 ? "s" : ""} at most`, `reads ${bytes(bytesPerSecond)}/s, multiplies and adds ${short(macsPerSecond)} times a second`]]),
  ];
  find("machine").replaceChildren(...rows.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
}

function drawRuns({ runs, failed }: Report): void {
  find("results").hidden = false;
  find("runs").replaceChildren(...runs.map(({ run, limit }) => card(run, limit)), ...failed.map(({ wanted, why }) => make("p", {}, `${wanted.backend === "webgpu" ? "GPU" : "CPU"}: ${why}`)));
}

function card(run: Run, limit: Limits | null): HTMLElement {
  const where = run.backend === "webgpu" ? `GPU${run.adapter ? ` (${run.adapter})` : ""}` : `CPU, ${run.threads} thread${run.threads > 1 ? "s" : ""}`;
  const line = (name: string, value: number, most: number | undefined) => {
    const share = most === undefined ? "" : `, ${Math.round((100 * value) / most)} % of ${short(most)}`;
    return [make("p", {}, make("b", {}, `${name}: ${rate(value, 1000)} tokens/s`), share), ...(most === undefined ? [] : [bar(value / most, `${name}: ${Math.round((100 * value) / most)} % of the limit`)])];
  };
  return make("article", { class: "card" },
    make("h3", {}, where),
    make("p", { class: "hint" }, `${run.model}, ${short(run.parameters)} parameters, ${run.quantization}, ${bytes(run.weightBytes)} of weights; loaded in ${seconds(run.loadMs)}, first token after ${seconds(run.firstTokenMs)}`),
    ...line("Writing", run.decode, limit ? limit.bytesPerSecond / run.weightBytes : undefined),
    ...line("Reading a prompt", run.prefill, limit ? limit.macsPerSecond / run.macsPerToken : undefined),
  );
}

start.addEventListener("click", () => {
  measure().catch((error) => {
    say(`It did not work: ${error instanceof Error ? error.message : String(error)}`);
    start.disabled = false;
  });
});
save.addEventListener("click", () => report && saveFile("kinglet-bench.json", new Blob([JSON.stringify(report, null, 2) + "\n"], { type: "application/json" })));
void thisDevice().then((device) => drawMachine({ device: { ...device, crossOriginIsolated }, limits: [] } as unknown as Report));
