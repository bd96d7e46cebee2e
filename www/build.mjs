// Builds www/dist: the page, and beside it the npm package's files as they are, as any static host would serve them.
import { cp, mkdir, rm } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

await rm(here("dist"), { recursive: true, force: true });
await mkdir(here("dist/kinglet"), { recursive: true });
await build({
  absWorkingDir: here("."),
  entryPoints: ["src/main.ts"],
  outfile: "dist/main.js",
  bundle: true,
  format: "esm",
  target: "es2022",
  minify: true,
  alias: { kinglet: "./kinglet/dist/index.js" },
  external: ["./kinglet/*"],
  logLevel: "warning",
});
await build({ absWorkingDir: here("."), entryPoints: ["src/style.css"], outfile: "dist/style.css", minify: true, logLevel: "warning" });
for (const file of ["index.html", "icon.svg"]) await cp(here(`src/${file}`), here(`dist/${file}`));
for (const [folder, served] of [["dist", /\.(js|gguf)$/], ["wasm", /\.wasm$/]]) {
  await cp(here(`../pkg/${folder}`), here(`dist/kinglet/${folder}`), {
    recursive: true,
    filter: (source) => !/\.\w+$/.test(source) || served.test(source),
  });
}
