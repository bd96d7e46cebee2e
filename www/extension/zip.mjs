// Zip files whose bytes depend on nothing but what goes in: sorted names, one date, no attributes.
import { deflateRawSync } from "node:zlib";

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

function crc32(/** @type {Uint8Array} */ data) {
  let crc = 0xffffffff;
  for (const byte of data) crc = TABLE[(crc ^ byte) & 0xff] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

/** The first day that the format knows: 1 January 1980. */
const DATE = (1 << 5) | 1;
const VERSION = 20;
const DEFLATE = 8;
const UTF8 = 1 << 11;

/**
 * @param {Record<string, Uint8Array>} files by their names
 * @returns {{ zip: Buffer, sizes: Record<string, number> }} and what each takes, compressed
 */
export function zip(files) {
  const sizes = {};
  const local = [];
  const central = [];
  let offset = 0;
  for (const [name, data] of Object.entries(files).sort(([a], [b]) => (a < b ? -1 : 1))) {
    const path = Buffer.from(name);
    const compressed = deflateRawSync(data, { level: 9 });
    sizes[name] = compressed.length;
    const common = Buffer.alloc(26);
    [VERSION, UTF8, DEFLATE, 0, DATE].forEach((value, i) => common.writeUInt16LE(value, 2 * i));
    [crc32(data), compressed.length, data.length].forEach((value, i) => common.writeUInt32LE(value, 10 + 4 * i));
    common.writeUInt16LE(path.length, 22);
    local.push(Buffer.from("PK\x03\x04", "latin1"), common, path, compressed);
    const rest = Buffer.alloc(14);
    rest.writeUInt32LE(offset, 10);
    central.push(Buffer.from("PK\x01\x02", "latin1"), Buffer.from([VERSION, 0]), common, rest, path);
    offset += 30 + path.length + compressed.length;
  }
  const directory = Buffer.concat(central);
  const count = Object.keys(files).length;
  const end = Buffer.alloc(22);
  end.write("PK\x05\x06", "latin1");
  end.writeUInt16LE(count, 8);
  end.writeUInt16LE(count, 10);
  end.writeUInt32LE(directory.length, 12);
  end.writeUInt32LE(offset, 16);
  return { zip: Buffer.concat([...local, directory, end]), sizes };
}
