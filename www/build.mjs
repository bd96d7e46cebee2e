// Builds www/dist: the page, and beside it the npm package's files as they are, as any static host would serve them.
import { createHash } from "node:crypto";
import { cp, mkdir, readdir, readFile, rm } from "node:fs/promises";
import { join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { PACKAGE, settings } from "./settings.mjs";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

await rm(here("dist"), { recursive: true, force: true });
await mkdir(here("dist/kinglet"), { recursive: true });
await build({
  ...settings,
  entryPoints: ["src/main.ts", "src/bench.ts"],
  outdir: "dist",
  format: "esm",
  splitting: true,
  chunkNames: "chunk-[hash]",
});
await build({ ...settings, entryPoints: ["src/boot.ts", "src/bench-worker.ts"], outdir: "dist", format: "iife" });
await build({ ...settings, entryPoints: ["src/style.css"], outfile: "dist/style.css" });
for (const file of ["index.html", "bench.html", "icon.svg", "icons", "manifest.webmanifest"]) await cp(here(`src/${file}`), here(`dist/${file}`), { recursive: true });
await mkdir(here("dist/kinglet/dist"));
for (const file of await readdir(here("../pkg/dist"))) {
  if (PACKAGE.test(file)) await cp(here(`../pkg/dist/${file}`), here(`dist/kinglet/dist/${file}`));
}
await cp(here("../pkg/wasm"), here("dist/kinglet/wasm"), { recursive: true, filter: (source) => !/\.\w+$/.test(source) || source.endsWith(".wasm") });

// The service worker knows every file by what is in it.
const files = {};
for (const entry of (await readdir(here("dist"), { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile())) {
  const path = join(entry.parentPath, entry.name);
  files[relative(here("dist"), path).split(sep).join("/")] = createHash("sha256").update(await readFile(path)).digest("hex");
}
const sorted = Object.fromEntries(Object.entries(files).sort(([a], [b]) => (a < b ? -1 : 1)));
const version = createHash("sha256").update(JSON.stringify(sorted)).digest("hex").slice(0, 16);
await build({ ...settings, entryPoints: ["src/sw.ts"], outfile: "dist/sw.js", format: "iife", define: { ...settings.define, FILES: JSON.stringify(sorted), VERSION: JSON.stringify(version) } });
