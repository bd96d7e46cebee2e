// What the builds of the page and of the extension have in common.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** The file that the router's calibration of the package's own model speaks of. */
const { madeFor } = JSON.parse(readFileSync(new URL("../pkg/dist/default.calibration.json", import.meta.url), "utf8"));

/** Of esbuild. */
export const settings = {
  absWorkingDir: fileURLToPath(new URL(".", import.meta.url)), bundle: true, target: "es2022", minify: true, logLevel: "warning", legalComments: "none",
  alias: { "kinglet/catalog": "./kinglet/dist/catalog.js", "kinglet/router": "./kinglet/dist/router.js", kinglet: "./kinglet/dist/index.js" },
  external: ["./kinglet/*"],
  define: { EMBEDDED_SHA256: JSON.stringify(madeFor.model) },
};

/** What is used of the package's dist. */
export const PACKAGE = /^(index|catalog|router|worker|pool|shared-\w+)\.js$|^default\.(gguf|calibration\.json)$/;
