// LangChain's core as modules for a page, one for each of its paths, as an app's bundler would make them.
import { createRequire } from "node:module";
import { basename, join } from "node:path";
import { build } from "../../../pkg/node_modules/esbuild/lib/main.js";

/** What the package imports, and what the tests use besides. */
const PATHS = [
  "embeddings", "language_models/chat_models", "language_models/structured_output", "messages", "outputs", "tools", "utils/function_calling", "utils/json_schema",
].map((path) => `@langchain/core/${path}`);

/** @returns an import map's entries, and the files by their paths */
export async function bundleLangchain() {
  const folder = createRequire(import.meta.url).resolve("@langchain/core").replace(/node_modules.*/, "");
  const entryPoints = Object.fromEntries([...PATHS, "zod"].map((path) => [path.replaceAll("/", "-").replace("@", ""), path]));
  const { outputFiles } = await build({
    entryPoints, absWorkingDir: folder, outdir: join(folder, "out"), bundle: true, splitting: true, write: false, format: "esm", platform: "browser", target: "es2022", minify: true, logLevel: "error",
  });
  return {
    imports: Object.fromEntries(Object.entries(entryPoints).map(([name, path]) => [path, `/langchain/${name}.js`])),
    files: new Map(outputFiles.map(({ path, text }) => [`/langchain/${basename(path)}`, text])),
  };
}
