// A response: its body, chunk by chunk; its wish for when to ask again; what its refusal means.

const READ_BYTES = 1 << 20;

export interface Body {
  /** `undefined` at the end; a chunk is good until the next read. */
  read(): Promise<Uint8Array | undefined>;
}

/** Into one buffer again and again where the browser can: fresh memory for each chunk takes a third of a fast download's time. */
export function openBody(stream: ReadableStream<Uint8Array<ArrayBuffer>>): Body {
  let buffer = new ArrayBuffer(READ_BYTES);
  let reader: ReadableStreamBYOBReader;
  try {
    reader = stream.getReader({ mode: "byob" });
  } catch {
    const chunks = stream.getReader();
    return { read: async () => (await chunks.read()).value };
  }
  return {
    async read() {
      const { done, value } = await reader.read(new Uint8Array(buffer));
      if (value) buffer = value.buffer;
      return done ? undefined : value;
    },
  };
}

/** Milliseconds; the header has seconds or a date. */
export function retryAfter(response: Response): number | undefined {
  const value = response.headers.get("retry-after");
  if (!value) return undefined;
  const ms = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return Number.isFinite(ms) ? Math.max(ms, 0) : undefined;
}

export function refusal(status: number): string {
  if (status === 404 || status === 410) return "there is no such file (404); check the address";
  if (status === 401 || status === 403) {
    return `the server refuses access (${status}); pass a token as headers: { Authorization: "Bearer ..." }, and check that it may read this file`;
  }
  return `the server answered ${status}`;
}
