// A file as the package's wasm reads it (`JsSource` of src/source/web.rs), in Node.
import fs from 'node:fs';

/** @param memory Of the wasm. */
export function fileSource(file, memory) {
  const fd = fs.openSync(file);
  const size = fs.fstatSync(fd).size;
  let position = 0;
  return {
    size,
    sha256: undefined,
    async readInto(address, length) {
      const wanted = Math.min(length, size - position);
      const read = fs.readSync(fd, new Uint8Array(memory.buffer, address, wanted), 0, wanted, position);
      position += read;
      return read;
    },
  };
}
