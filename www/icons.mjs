// node icons.mjs: draws src/icons/*.png and extension/icons/*.png from src/icon.svg, in the Chromium of $CHROMIUM. Run it when the picture changes.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const svg = readFileSync(join(import.meta.dirname, "src/icon.svg"), "utf8");
const folder = mkdtempSync(join(tmpdir(), "kinglet-icons-"));
/**
 * Size and margin. A maskable one is cut to any shape: its ground goes to the edges, the bird stays within the inner four fifths. The
 * Web Store wants its picture with an eighth of air.
 */
const pictures = [
  ["src/icons/192.png", 192, 0], ["src/icons/512.png", 512, 0], ["src/icons/180.png", 180, 0.1, "ground"], ["src/icons/maskable.png", 512, 0.1, "ground"],
  ["extension/icons/16.png", 16, 0], ["extension/icons/32.png", 32, 0], ["extension/icons/48.png", 48, 0], ["extension/icons/128.png", 128, 0.125],
];
for (const [path, size, margin, ground] of pictures) {
  const page = join(folder, `${size}-${margin}.html`);
  writeFileSync(page, `<!doctype html><style>html,body{margin:0;${ground ? "background:#4f6b3a" : ""}}svg{display:block;width:${size * (1 - 2 * margin)}px;height:${size * (1 - 2 * margin)}px;margin:${size * margin}px}</style>${svg}`);
  execFileSync(process.env.CHROMIUM ?? "/usr/bin/chromium", [
    "--headless", "--no-sandbox", "--hide-scrollbars", "--default-background-color=00000000", `--window-size=${size},${size}`,
    `--screenshot=${join(import.meta.dirname, path)}`, pathToFileURL(page).href,
  ], { stdio: "ignore" });
}
rmSync(folder, { recursive: true });
