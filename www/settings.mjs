// What the builds of the page and of the extension have in common.
import { fileURLToPath } from "node:url";

/** Of esbuild. */
export const settings = {
  absWorkingDir: fileURLToPath(new URL(".", import.meta.url)), bundle: true, target: "es2022", minify: true, logLevel: "warning", legalComments: "none",
  alias: { "kinglet/catalog": "./kinglet/dist/catalog.js", "kinglet/router": "./kinglet/dist/router.js", kinglet: "./kinglet/dist/index.js" },
  external: ["./kinglet/*"],
};

/** What is used of the package's dist. */
export const PACKAGE = /^(index|catalog|router|worker|pool|shared-\w+)\.js$|^default\.gguf$/;
