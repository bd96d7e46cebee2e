// esbuild leaves `new URL("...", import.meta.url)` as it is: the package's files are served beside, and the app says where.
import { build } from "esbuild";
import fs from "node:fs";

await build({ entryPoints: ["main.js"], bundle: true, minify: true, format: "esm", target: "es2022", outdir: "dist" });
for (const folder of ["dist", "wasm"]) fs.cpSync(`node_modules/kinglet/${folder}`, `dist/kinglet/${folder}`, { recursive: true });
