// Builds www/extension/dist, which Chrome loads unpacked, and the zip for the store beside it. Needs the built package (pkg/).
import { cp, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import MarkdownIt from "markdown-it";
import { PACKAGE, settings } from "../settings.mjs";
import { zip } from "./zip.mjs";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
/** Compressed bytes of everything but the model. */
const GATE = 2_100_000;
/** Chrome has had relaxed SIMD since 114, and the side panel asks for 116: the binary without it would lie idle. No answer is in a form. */
const BINARIES = ["relaxed", "threads", "router"];

await rm(here("dist"), { recursive: true, force: true });
await mkdir(here("dist/kinglet/dist"), { recursive: true });
const common = { ...settings, outdir: "extension/dist" };
await build({ ...common, entryPoints: ["extension/src/sidepanel.ts", "extension/src/options.ts"], format: "esm", splitting: true, chunkNames: "chunk-[hash]" });
await build({ ...common, entryPoints: ["extension/src/background.ts"], format: "esm" });
await build({ ...common, entryPoints: ["extension/src/boot.ts"], format: "iife" });
// What a script that is put into a page comes to is its last value.
await build({ ...common, entryPoints: ["extension/src/page-text.ts"], format: "iife", globalName: "kingletPage", footer: { js: "kingletPage.readPage();" } });
await build({ ...common, entryPoints: ["extension/src/style.css"] });

const index = await readFile(here("../src/index.html"), "utf8");
/** What the panel shares with the demo page: an element, by its tag or id, or a section of the settings, by its title. */
function part(name) {
  const found = new RegExp(`^  <${name}>.*?^  </${name}>$`, "ms").exec(index) ?? new RegExp(`^  <(\\w+) id="${name}".*?^  </\\1>$`, "ms").exec(index) ??
    new RegExp(`^    <details[^>]*>\\s*<summary>${name}</summary>.*?^    </details>$`, "ms").exec(index);
  if (!found) throw new Error(`index.html has no ${name}`);
  return found[0];
}
const PAGE_ROW = `    <div id="page-row">
      <button type="button" id="read-page"><svg viewBox="0 0 20 20" aria-hidden="true"><path d="M5 3h7l3 3v11H5zM8 9h4M8 12h4"/></svg>Read this page</button>
      <div id="attached" hidden></div>
    </div>
`;
const panel = (await readFile(here("sidepanel.html"), "utf8")).replace(/^ *<!-- index\.html: (.+) -->$/gm, (_, name) => part(name));
const question = /^ {4}<form id="ask">$/m;
if (!question.test(panel)) throw new Error("index.html has no question");
await writeFile(here("dist/sidepanel.html"), panel.replace(question, (form) => PAGE_ROW + form));

const privacy = new MarkdownIt().render(await readFile(here("PRIVACY.md"), "utf8"));
await writeFile(here("dist/privacy.html"), `<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="color-scheme" content="light dark">
  <title>Kinglet: privacy</title>
  <script src="boot.js"></script>
  <link rel="stylesheet" href="style.css">
</head>
<body class="options prose">
  <main>
${privacy}  </main>
</body>
</html>
`);
for (const file of ["manifest.json", "options.html", "erased.html", "icons"]) await cp(here(file), here(`dist/${file}`), { recursive: true });
await cp(here("../src/icon.svg"), here("dist/icon.svg"));
for (const file of await readdir(here("../../pkg/dist"))) if (PACKAGE.test(file)) await cp(here(`../../pkg/dist/${file}`), here(`dist/kinglet/dist/${file}`));
for (const binary of BINARIES) {
  await mkdir(here(`dist/kinglet/wasm/${binary}`), { recursive: true });
  await cp(here(`../../pkg/wasm/${binary}/kinglet_bg.wasm`), here(`dist/kinglet/wasm/${binary}/kinglet_bg.wasm`));
}

const files = {};
for (const entry of (await readdir(here("dist"), { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile())) {
  const path = join(entry.parentPath, entry.name);
  files[relative(here("dist"), path).split(sep).join("/")] = await readFile(path);
}
const { version } = JSON.parse(await readFile(here("manifest.json"), "utf8"));
for (const old of await readdir(here("."))) if (old.endsWith(".zip")) await rm(here(old));
const packed = zip(files);
await writeFile(here(`kinglet-extension-${version}.zip`), packed);
const size = zip(Object.fromEntries(Object.entries(files).filter(([name]) => !name.endsWith(".gguf")))).length;
console.log(`extension: kinglet-extension-${version}.zip, ${packed.length} bytes; ${size} of ${GATE} without the model`);
if (size > GATE) throw new Error(`the extension is ${size - GATE} bytes above its gate`);
