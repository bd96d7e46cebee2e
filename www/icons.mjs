// node icons.mjs: draws src/icons/*.png from src/icon.svg, in the Chromium of $CHROMIUM. Run it when the picture changes.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const svg = readFileSync(join(import.meta.dirname, "src/icon.svg"), "utf8");
const folder = mkdtempSync(join(tmpdir(), "kinglet-icons-"));
/** A maskable one is cut to any shape: its ground goes to the edges, the bird stays within the inner four fifths. */
const pictures = { 192: [192, 0], 512: [512, 0], 180: [180, 0.1], maskable: [512, 0.1] };
for (const [name, [size, margin]] of Object.entries(pictures)) {
  const ground = margin ? "background:#4f6b3a" : "";
  const page = join(folder, `${name}.html`);
  writeFileSync(page, `<!doctype html><style>html,body{margin:0;${ground}}svg{display:block;width:${size * (1 - 2 * margin)}px;height:${size * (1 - 2 * margin)}px;margin:${size * margin}px}</style>${svg}`);
  execFileSync(process.env.CHROMIUM ?? "/usr/bin/chromium", [
    "--headless", "--no-sandbox", "--hide-scrollbars", "--default-background-color=00000000", `--window-size=${size},${size}`,
    `--screenshot=${join(import.meta.dirname, "src/icons", `${name}.png`)}`, pathToFileURL(page).href,
  ], { stdio: "ignore" });
}
rmSync(folder, { recursive: true });
