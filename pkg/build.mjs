// Builds dist/ from src/, after the crate's five binaries: wasm/{simd,relaxed,threads,router,grammar}/{kinglet.js,kinglet_bg.wasm}, each made by
// `wasm-bindgen --target web --out-name kinglet --omit-default-module-path`.
import { build } from "esbuild";
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

const root = import.meta.dirname;
const at = (...names) => path.join(root, ...names);

for (const level of ["simd", "relaxed", "threads", "router", "grammar"]) {
  for (const file of ["kinglet.js", "kinglet_bg.wasm"]) {
    if (!fs.existsSync(at("wasm", level, file))) throw new Error(`wasm/${level}/${file} is missing; run cargo xtask pack, which builds it`);
  }
}
// The worker carries one glue for both without threads: wasm-bindgen writes the same for the same source.
const glue = (level) => fs.readFileSync(at("wasm", level, "kinglet.js"), "utf8").replace(/^ *\/\/.*$/gm, "");
if (glue("simd") !== glue("relaxed")) throw new Error("wasm/simd and wasm/relaxed come from different sources; build both again");
// The one with threads is given its memory, which must have the pages that its data need.
const [, SHARED_PAGES] = /WebAssembly\.Memory\(\{initial:(\d+),maximum:65536,shared:true\}\)/.exec(glue("threads")) ?? [];
if (!SHARED_PAGES) throw new Error("wasm/threads/kinglet.js names no shared memory; build it again");
fs.rmSync(at("dist"), { recursive: true, force: true });
const settings = { absWorkingDir: root, outdir: "dist", bundle: true, minify: true, format: "esm", target: "es2022", legalComments: "none" };
// What pages import shares its modules (one KingletError), in chunks beside; the workers are one file each.
const pages = { index: "src/index.ts", catalog: "src/catalog.ts", router: "src/router/index.ts", "ai-sdk": "src/ai-sdk/index.ts", "prompt-api": "src/prompt-api/index.ts", langchain: "src/langchain/index.ts", shared: "src/shared/index.ts" };
// An app's own LangChain is the one that its messages come from.
await build({ ...settings, entryPoints: pages, splitting: true, chunkNames: "shared-[hash]", external: ["@langchain/core/*"] });
await build({ ...settings, entryPoints: { worker: "src/worker.ts" }, define: { SHARED_PAGES } });
await build({ ...settings, entryPoints: { pool: "src/pool.ts", isolate: "src/isolate.js" } });
const tsc = createRequire(import.meta.url).resolve("typescript/package.json");
execFileSync(process.execPath, [path.join(path.dirname(tsc), "bin/tsc"), "--emitDeclarationOnly"], { cwd: root, stdio: "inherit" });

// The model that comes with the package, and the router's calibration for it.
const models = at("..", "models");
const [model, ...others] = fs.existsSync(models) ? fs.readdirSync(models).filter((name) => name.endsWith(".gguf")) : [];
if (others.length > 0) throw new Error(`models/ holds ${others.length + 1} GGUF files; the package ships one`);
if (model) {
  fs.copyFileSync(path.join(models, model), at("dist", "default.gguf"));
  fs.copyFileSync(path.join(models, model.replace(".gguf", ".calibration.json")), at("dist", "default.calibration.json"));
} else console.warn("models/ has no GGUF file yet: the package will have no default model");
