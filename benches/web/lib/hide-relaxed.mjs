// Runs in front of everything in a page or worker, after heap.mjs: a browser without relaxed SIMD, as far as feature
// probes can tell. The package then takes its plain SIMD128 binary, the way it does for those who really lack the other.
const validate = WebAssembly.validate;
WebAssembly.validate = (source) => {
  const bytes = new Uint8Array(source.buffer ?? source, source.byteOffset ?? 0, source.byteLength);
  const relaxed = (at) => bytes[at] === 0xfd && bytes[at + 1] >= 0x80 && bytes[at + 1] <= 0x93 && bytes[at + 2] === 2; // 0x100 to 0x113
  if (bytes.length < 256 && bytes.some((_, at) => relaxed(at))) return false;
  return validate.call(WebAssembly, source);
};
