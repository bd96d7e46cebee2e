// Feeds a worker from memory or from a stream of the page, one chunk per "pull": nothing is copied whole, the caller's
// buffer stays whole, and it works where streams cannot be transferred.

const CHUNK = 4 << 20;

export function feed(source: Uint8Array | ReadableStream<Uint8Array>): { port: MessagePort; close(): void } {
  const { port1, port2 } = new MessageChannel();
  const next = source instanceof ReadableStream ? fromStream(source) : fromMemory(source);
  port1.onmessage = async () => {
    try {
      const chunk = await next.read();
      port1.postMessage(chunk, chunk ? [chunk.buffer] : []);
    } catch (e) {
      port1.postMessage({ code: "DOWNLOAD_FAILED", message: `reading the model failed: ${e instanceof Error ? e.message : String(e)}` });
    }
  };
  return {
    port: port2,
    close() {
      port1.close();
      next.close();
    },
  };
}

interface Chunks {
  /** A chunk that may be transferred; `null` at the end. */
  read(): Promise<Uint8Array<ArrayBuffer> | null>;
  close(): void;
}

function fromMemory(bytes: Uint8Array): Chunks {
  let position = 0;
  return {
    async read() {
      // A detached buffer has no bytes left; the loader would call that a truncated file.
      if (bytes.buffer.byteLength === 0) throw new Error("the ArrayBuffer was transferred elsewhere or is empty; give it to createEngine alone");
      if (position >= bytes.length) return null;
      const chunk = Uint8Array.from(bytes.subarray(position, position + CHUNK));
      position += chunk.length;
      return chunk;
    },
    close() {},
  };
}

function fromStream(stream: ReadableStream<Uint8Array>): Chunks {
  const reader = stream.getReader();
  return {
    async read() {
      const { done, value } = await reader.read();
      if (done) return null;
      if (!(value instanceof Uint8Array)) throw new Error("the stream holds something else than Uint8Array chunks");
      // The chunk may be a view into a buffer that the caller still uses.
      return value.slice();
    },
    close() {
      reader.cancel().catch(() => {});
    },
  };
}
