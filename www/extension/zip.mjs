// Zip files whose bytes depend on nothing but what goes in: sorted names, one date, no attributes.
import { zipSync } from "fflate";

/** The first day that the format knows. */
const MTIME = new Date(1980, 0, 1);

/** @param {Record<string, Uint8Array>} files by their names */
export function zip(files) {
  const sorted = Object.fromEntries(Object.entries(files).sort(([a], [b]) => (a < b ? -1 : 1)));
  return zipSync(sorted, { level: 9, mtime: MTIME });
}
