// GGUF files for tests: split as llama.cpp's gguf-split does (the metadata in the first part, the tensors over all), with more
// metadata, or a header alone.

const SIZES = { 0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8 };
const ALIGNMENT = 32;
const u32 = (/** @type {number} */ n) => Buffer.from(Uint32Array.of(n).buffer);
const u64 = (/** @type {number} */ n) => Buffer.from(BigUint64Array.of(BigInt(n)).buffer);
const f32 = (/** @type {number} */ x) => Buffer.from(Float32Array.of(x).buffer);
const string = (/** @type {string} */ text) => Buffer.concat([u64(Buffer.byteLength(text)), Buffer.from(text)]);
const padded = (n) => Math.ceil(n / ALIGNMENT) * ALIGNMENT;

/** @param {Buffer} file */
function parse(file) {
  let at = 8;
  const readU32 = () => file.readUInt32LE((at += 4) - 4);
  const readU64 = () => Number(file.readBigUInt64LE((at += 8) - 8));
  const skipString = () => {
    const length = readU64(); // which moves `at` first
    at += length;
  };
  const skipValue = (type) => {
    if (type === 8) skipString();
    else if (type === 9) for (let element = readU32(), left = readU64(); left > 0; left--) skipValue(element);
    else at += SIZES[type];
  };
  const tensorCount = readU64();
  const pairCount = readU64();
  const pairsStart = at;
  for (let i = 0; i < pairCount; i++) {
    skipString();
    skipValue(readU32());
  }
  const pairs = file.subarray(pairsStart, at);
  const tensors = Array.from({ length: tensorCount }, () => {
    const start = at;
    skipString();
    for (let left = readU32(); left > 0; left--) readU64();
    readU32();
    const info = file.subarray(start, at);
    return { info, offset: readU64() };
  });
  return { pairCount, pairs, tensors, infos: file.subarray(pairsStart + pairs.length, at), dataStart: padded(at) };
}

/**
 * The file with more metadata; of two values for a key readers take whichever they like.
 * @param {Buffer} file
 * @param {Record<string, string | number>} entries texts, and numbers as u32
 */
export function withMetadata(file, entries) {
  const { pairCount, pairs, tensors, infos, dataStart } = parse(file);
  const added = Object.entries(entries).map(([key, value]) => (typeof value === "number" ? pair(key, 4, value) : Buffer.concat([string(key), u32(8), string(value)])));
  const head = [Buffer.from("GGUF"), u32(3), u64(tensors.length), u64(pairCount + added.length)];
  const header = Buffer.concat([...head, pairs, ...added, infos]);
  return Buffer.concat([header, Buffer.alloc(padded(header.length) - header.length), file.subarray(dataStart)]);
}

/** The file with another chat template than its own, which is no longer than that one. */
export function withTemplate(/** @type {Buffer} */ file, /** @type {string} */ template) {
  const at = file.indexOf("tokenizer.chat_template") + "tokenizer.chat_template".length + 4;
  const length = Number(file.readBigUInt64LE(at));
  const copy = Buffer.from(file);
  copy.fill(" ", at + 8, at + 8 + length);
  if (copy.write(template, at + 8) > length) throw new Error(`the template has more than ${length} bytes`);
  return copy;
}

/**
 * @param {Buffer} file
 * @param {number} parts
 * @returns {Buffer[]}
 */
export function split(file, parts) {
  const { pairCount, pairs, tensors, dataStart } = parse(file);
  const size = (i) => (i + 1 < tensors.length ? tensors[i + 1].offset : file.length - dataStart) - tensors[i].offset;

  return Array.from({ length: parts }, (_, part) => {
    const [from, to] = [part, part + 1].map((n) => Math.floor((n * tensors.length) / parts));
    const own = [pair("split.no", 2, part), pair("split.count", 2, parts), pair("split.tensors.count", 5, tensors.length)];
    const head = [Buffer.from("GGUF"), u32(3), u64(to - from), u64(own.length + (part === 0 ? pairCount : 0))];
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
    const header = Buffer.concat([...head, ...(part === 0 ? [pairs] : []), ...own, ...infos]);
    return Buffer.concat([header, Buffer.alloc(padded(header.length) - header.length), ...data]);
  });
}

/**
 * The model with so many times the layers, of which the new ones add nothing: it says the same, to the bit, and takes longer for it. What
 * a model is to a draft model that is always right.
 * @param {Buffer} file of a Llama
 * @param {number} times
 */
export function deeper(file, times) {
  const { pairCount, pairs: old, tensors, dataStart } = parse(file);
  const pairs = Buffer.from(old);
  const key = "llama.block_count";
  const count = pairs.indexOf(key) + key.length + 4;
  const layers = pairs.readUInt32LE(count);
  pairs.writeUInt32LE(layers * times, count);
  const infos = [];
  const data = [];
  let offset = 0;
  for (let round = 0; round < times; round++) {
    for (const [i, { info, offset: at }] of tensors.entries()) {
      const nameEnd = 8 + info.readUInt32LE(0);
      const name = info.toString("utf8", 8, nameEnd);
      const [, layer, part] = /^blk\.(\d+)\.(.*)$/.exec(name) ?? [];
      if (round > 0 && layer === undefined) continue;
      const bytes = file.subarray(dataStart + at, dataStart + (tensors[i + 1]?.offset ?? file.length - dataStart));
      const adds = round === 0 || !/^(attn_output|ffn_down)/.test(part ?? "");
      infos.push(string(layer === undefined ? name : `blk.${Number(layer) + round * layers}.${part}`), info.subarray(nameEnd), u64(offset));
      data.push(adds ? bytes : Buffer.alloc(bytes.length), Buffer.alloc(padded(bytes.length) - bytes.length));
      offset += padded(bytes.length);
    }
  }
  const header = Buffer.concat([Buffer.from("GGUF"), u32(3), u64(infos.length / 3), u64(pairCount), pairs, ...infos]);
  return Buffer.concat([header, Buffer.alloc(padded(header.length) - header.length), ...data]);
}

/** An u16 (type 2), u32 (type 4) or i32 (type 5). */
function pair(key, type, value) {
  const buffer = Buffer.alloc(8 + key.length + 4 + SIZES[type]);
  buffer.writeBigUInt64LE(BigInt(key.length));
  buffer.write(key, 8);
  buffer.writeUInt32LE(type, 8 + key.length);
  buffer.writeUIntLE(value, 12 + key.length, SIZES[type]);
  return buffer;
}

/**
 * The header of a Llama model of any size, whose tensors are whatever follows; Q8_0, with an invented vocabulary.
 * @param {{ layers: number, hidden: number, ffn: number, vocabulary: number, name: string }} shape
 */
export function llamaHeader({ layers, hidden, ffn, vocabulary, name }) {
  const array = (type, values) => Buffer.concat([u32(type), u64(values.length), ...values]);
  const entries = [];
  const entry = (key, type, value) => entries.push(Buffer.concat([string(key), u32(type), value]));
  entry("general.architecture", 8, string("llama"));
  entry("general.name", 8, string(name));
  const numbers = { block_count: layers, embedding_length: hidden, feed_forward_length: ffn, context_length: 8192, "attention.head_count": hidden / 64 };
  for (const [key, value] of Object.entries(numbers)) entry(`llama.${key}`, 4, u32(value));
  entry("llama.attention.layer_norm_rms_epsilon", 6, f32(1e-5));
  entry("tokenizer.ggml.model", 8, string("llama"));
  entry("tokenizer.ggml.tokens", 9, array(8, Array.from({ length: vocabulary }, (_, i) => string(`t${i}`))));
  entry("tokenizer.ggml.scores", 9, array(6, Array.from({ length: vocabulary }, () => f32(0))));

  /** @type {[string, number[]][]} */
  const tensors = [["token_embd", [hidden, vocabulary]], ["output_norm", [hidden]]];
  for (let i = 0; i < layers; i++) {
    const square = [hidden, hidden];
    const layer = { attn_norm: [hidden], attn_q: square, attn_k: square, attn_v: square, attn_output: square, ffn_norm: [hidden], ffn_gate: [hidden, ffn], ffn_up: [hidden, ffn], ffn_down: [ffn, hidden] };
    for (const [name, dims] of Object.entries(layer)) tensors.push([`blk.${i}.${name}`, dims]);
  }
  let offset = 0;
  const infos = tensors.map(([name, dims]) => {
    const elements = dims.reduce((a, b) => a * b);
    const [type, bytes] = dims.length > 1 ? [8, (elements / 32) * 34] : [0, elements * 4];
    const info = Buffer.concat([string(`${name}.weight`), u32(dims.length), ...dims.map(u64), u32(type), u64(offset)]);
    offset += padded(bytes);
    return info;
  });
  const header = Buffer.concat([Buffer.from("GGUF"), u32(3), u64(tensors.length), u64(entries.length), ...entries, ...infos]);
  const start = padded(header.length);
  return { header: Buffer.concat([header, Buffer.alloc(start - header.length)]), bytes: start + offset };
}
