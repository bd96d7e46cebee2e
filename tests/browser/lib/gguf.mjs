// Splits a GGUF file as llama.cpp's gguf-split does: the metadata in the first part, the tensors over all.

const SIZES = { 0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8 };
const ALIGNMENT = 32;
const padded = (n) => Math.ceil(n / ALIGNMENT) * ALIGNMENT;

/**
 * @param {Buffer} file
 * @param {number} parts
 * @returns {Buffer[]}
 */
export function split(file, parts) {
  let at = 8;
  const u32 = () => file.readUInt32LE((at += 4) - 4);
  const u64 = () => Number(file.readBigUInt64LE((at += 8) - 8));
  const skipString = () => {
    const length = u64(); // which moves `at` first
    at += length;
  };
  const skipValue = (type) => {
    if (type === 8) skipString();
    else if (type === 9) for (let element = u32(), left = u64(); left > 0; left--) skipValue(element);
    else at += SIZES[type];
  };
  const tensorCount = u64();
  const pairCount = u64();
  const pairsStart = at;
  for (let i = 0; i < pairCount; i++) {
    skipString();
    skipValue(u32());
  }
  const pairs = file.subarray(pairsStart, at);
  const tensors = Array.from({ length: tensorCount }, () => {
    const start = at;
    skipString();
    for (let left = u32(); left > 0; left--) u64();
    u32();
    const info = file.subarray(start, at);
    return { info, offset: u64() };
  });
  const dataStart = padded(at);
  const size = (i) => (i + 1 < tensors.length ? tensors[i + 1].offset : file.length - dataStart) - tensors[i].offset;

  return Array.from({ length: parts }, (_, part) => {
    const [from, to] = [part, part + 1].map((n) => Math.floor((n * tensors.length) / parts));
    const own = [pair("split.no", 2, part), pair("split.count", 2, parts), pair("split.tensors.count", 5, tensors.length)];
    const head = Buffer.alloc(24);
    head.write("GGUF");
    head.writeUInt32LE(3, 4);
    head.writeBigUInt64LE(BigInt(to - from), 8);
    head.writeBigUInt64LE(BigInt(own.length + (part === 0 ? pairCount : 0)), 16);
    let offset = 0;
    const infos = [];
    const data = [];
    for (let i = from; i < to; i++) {
      const place = Buffer.alloc(8);
      place.writeBigUInt64LE(BigInt(offset));
      infos.push(tensors[i].info, place);
      const start = dataStart + tensors[i].offset;
      data.push(file.subarray(start, start + size(i)), Buffer.alloc(padded(size(i)) - size(i)));
      offset += padded(size(i));
    }
    const header = Buffer.concat([head, ...(part === 0 ? [pairs] : []), ...own, ...infos]);
    return Buffer.concat([header, Buffer.alloc(padded(header.length) - header.length), ...data]);
  });
}

/** An u16 (type 2) or i32 (type 5). */
function pair(key, type, value) {
  const buffer = Buffer.alloc(8 + key.length + 4 + SIZES[type]);
  buffer.writeBigUInt64LE(BigInt(key.length));
  buffer.write(key, 8);
  buffer.writeUInt32LE(type, 8 + key.length);
  buffer.writeUIntLE(value, 12 + key.length, SIZES[type]);
  return buffer;
}
