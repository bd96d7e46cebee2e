// How far a model is on its way.

import type { Progress } from "kinglet";
import { find } from "./dom.js";
import { bytes } from "./format.js";

const VERBS = { download: "Downloading", verify: "Verifying", load: "Loading", compile: "Preparing", ready: "Loading" } as const;
const loading = find("loading");
const text = find("loading-text");
const figures = find("loading-bytes");
const bar = find<HTMLProgressElement>("loading-bar");

export function showLoading(name: string, progress: Progress | "checking"): void {
  loading.hidden = false;
  if (progress === "checking") {
    text.textContent = `Looking at ${name}`;
    figures.textContent = "";
    bar.removeAttribute("value");
    return;
  }
  const { phase, loaded, total, bytesPerSecond, secondsLeft } = progress;
  text.textContent = `${VERBS[phase]} ${name}`;
  const isBytes = phase === "download" || phase === "verify" || phase === "load";
  const speed = phase === "download" && bytesPerSecond ? ` · ${bytes(bytesPerSecond)}/s` : "";
  const left = phase === "download" && secondsLeft !== undefined ? ` · ${duration(secondsLeft)} left` : "";
  figures.textContent = isBytes ? bytes(loaded) + (total ? ` of ${bytes(total)}` : "") + speed + left : "";
  if (isBytes && total) bar.value = loaded / total;
  else bar.removeAttribute("value");
}

export function hideLoading(): void {
  loading.hidden = true;
}

function duration(seconds: number): string {
  if (seconds < 100) return `${seconds} s`;
  if (seconds < 6000) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}
