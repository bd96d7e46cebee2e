// Runs in front of everything in a page or worker: remembers each WebAssembly.Memory, so that the runner can ask how large
// the wasm heaps have become. A wasm memory never shrinks, so its size at the end is its peak.
const memories = new Set();
const keep = (instance, imports) => {
  for (const value of [...Object.values(instance.exports), ...Object.values(imports ?? {}).flatMap((module) => Object.values(module ?? {}))]) {
    if (value instanceof WebAssembly.Memory) memories.add(value);
  }
  return instance;
};
for (const name of ['instantiate', 'instantiateStreaming']) {
  const original = WebAssembly[name];
  WebAssembly[name] = async function (source, imports) {
    const made = await original.call(WebAssembly, source, imports);
    keep(made.instance ?? made, imports);
    return made;
  };
}
const Instance = WebAssembly.Instance;
WebAssembly.Instance = new Proxy(Instance, { construct: (target, [module, imports]) => keep(new target(module, imports), imports) });
globalThis.__wasmHeapBytes = () => [...memories].reduce((sum, memory) => sum + memory.buffer.byteLength, 0);
