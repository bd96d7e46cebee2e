// One file over HTTP as a run of chunks that survives a cut connection: it goes on where it stopped, with
// `Range: bytes=N-`, if the file is still the same.

import { KingletError } from "./errors.js";
import type { ChunkReader } from "./source.js";
import type { EngineEvent } from "./types.js";

const TRIES = 5;
/** As long as there was no answer at all, the address may simply be wrong. */
const FIRST_TRIES = 3;
const BACKOFF_MS = 300;
const LONGEST_WAIT_MS = 20_000;
/** Without a byte for so long, a connection counts as cut. */
const STALL_MS = 30_000;
const READ_BYTES = 1 << 20;
const WORTH_RETRYING = new Set([408, 425, 429, 500, 502, 503, 504, 529]);

export interface DownloadOptions {
  headers?: Record<string, string>;
  /** Ask for no more than this at first: the later parts of a split file wait while the first is loaded. */
  firstBytes?: number;
  /** Ask for no more than this at a time: who reads only the beginning pays for little more. */
  pieceBytes?: number;
  /** Of an earlier download: another file in its place is an error. */
  identity?: FileIdentity;
  onEvent(event: EngineEvent): void;
}

export interface FileIdentity {
  etag: string | null;
  size: number | undefined;
}

export class Download implements ChunkReader {
  size: number | undefined;
  #position = 0;
  #etag: string | null = null;
  #body: Body | undefined;
  #connection: AbortController | undefined;
  /** Where the open connection ends by its own account. */
  #end: number | undefined;
  /** It was asked for so many bytes only. */
  #asked: number | undefined;
  /** ... and there are more. */
  #capped = false;
  /** Bytes it sends again, because its server knows no ranges. */
  #repeated = 0;
  #resumable = true;
  #failures = 0;
  #started = false;
  /** Since when a read has been under way. */
  #waitingSince: number | undefined;
  #watchdog: ReturnType<typeof setInterval> | undefined;
  /** The file and what it redirects to are of the page's own origin. */
  #near = false;

  constructor(private readonly url: string, private readonly options: DownloadOptions) {
    this.size = options.identity?.size;
    this.#etag = options.identity?.etag ?? null;
  }

  get identity(): FileIdentity {
    return { etag: this.#etag, size: this.size };
  }

  async next(): Promise<Uint8Array | null> {
    for (;;) {
      if (this.size !== undefined && this.#position >= this.size) {
        this.#hangUp();
        return null;
      }
      try {
        this.#body ??= await this.#connect();
        const chunk = await this.#read(this.#body);
        if (chunk) {
          const fresh = chunk.subarray(Math.min(this.#repeated, chunk.length));
          this.#repeated -= chunk.length - fresh.length;
          if (fresh.length === 0) continue;
          this.#position += fresh.length;
          this.#failures = 0;
          return fresh;
        }
        this.#hangUp();
        if (this.#position < (this.#end ?? 0)) throw new TypeError("the connection was cut");
        if (!this.#capped) this.size ??= this.#position;
      } catch (e) {
        this.#connection?.abort();
        this.#hangUp();
        if (e instanceof KingletError && !(e instanceof Temporary)) throw e;
        await this.#backOff(e);
      }
    }
  }

  async #read(body: Body): Promise<Uint8Array | undefined> {
    this.#waitingSince = performance.now();
    try {
      return await body.read();
    } finally {
      this.#waitingSince = undefined;
    }
  }

  /** Notices a dead connection. One timer for them all: setting one for each of a thousand reads costs 60 ms. */
  #watch(): void {
    clearInterval(this.#watchdog);
    this.#watchdog = setInterval(() => {
      if (this.#waitingSince === undefined || performance.now() - this.#waitingSince < STALL_MS) return;
      this.#connection?.abort(new TypeError(`no data for ${STALL_MS / 1000} seconds`));
    }, STALL_MS / 10);
  }

  #hangUp(): void {
    clearInterval(this.#watchdog);
    this.#body = undefined;
  }

  async #connect(): Promise<Body> {
    this.#connection = new AbortController();
    const { headers = {}, firstBytes, pieceBytes } = this.options;
    const sent = new Headers(headers);
    const start = this.#position;
    this.#asked = (start === 0 ? firstBytes : undefined) ?? pieceBytes;
    if (start > 0 || this.#asked) sent.set("Range", `bytes=${start}-${this.#asked ? start + this.#asked - 1 : ""}`);
    // Elsewhere If-Range would need a preflight that few servers grant; the ETag of the answer is compared instead.
    if (start > 0 && this.#etag && !this.#etag.startsWith("W/") && this.#near) sent.set("If-Range", this.#etag);
    // A browser drops Authorization when a redirect leaves the origin, but would carry other headers along.
    const secret = Object.keys(headers).some((name) => !["authorization", "accept", "accept-language"].includes(name.toLowerCase()));
    const timer = setTimeout(() => this.#connection?.abort(new TypeError(`no answer for ${STALL_MS / 1000} seconds`)), STALL_MS);
    let response: Response;
    try {
      response = await fetch(this.url, { headers: sent, signal: this.#connection.signal, redirect: secret ? "manual" : "follow" });
    } finally {
      clearTimeout(timer);
    }
    this.#check(response, start);
    this.#started = true;
    this.#near = [this.url, response.url].every((url) => new URL(url).origin === self.location.origin);
    this.#repeated = response.status === 206 ? 0 : start;
    this.#watch();
    return openBody(response.body!);
  }

  /** Status, kind and identity of an answer; sizes are taken from it. */
  #check(response: Response, start: number): void {
    if (response.type === "opaqueredirect") {
      throw this.#failed("the server redirects, and only an Authorization header may travel with a redirect; give the final URL, or leave the other headers out");
    }
    if (response.status === 416 && start > 0) throw this.#failed("the file became shorter on the server while it was downloaded; load it again", 416);
    if (!response.ok) throw this.#status(response);
    const { status, headers } = response;
    if (start === 0 && headers.get("content-type")?.startsWith("text/html")) {
      throw new KingletError("NOT_A_MODEL", `${this.url} is a web page, not a GGUF file; on Hugging Face use the link with /resolve/ instead of /blob/`, { url: this.url, status });
    }
    const range = /^bytes (\d+)-\d+\/(\d+)$/.exec(headers.get("content-range") ?? "");
    if (status === 206 && range && Number(range[1]) !== start) throw this.#failed(`the server sent bytes from ${range[1]} on instead of ${start}`, status);
    // The length of a compressed answer is not the file's.
    if (headers.has("content-encoding")) this.#resumable = false;
    const length = this.#resumable && headers.has("content-length") ? Number(headers.get("content-length")) : undefined;
    this.#capped = status === 206 && length !== undefined && length === this.#asked;
    this.#end = length === undefined ? undefined : (status === 206 ? start : 0) + length;
    // A range's total may be hidden from other origins; an open range ends where the file does.
    const size = range ? Number(range[2]) : this.#capped ? undefined : this.#end;
    const etag = headers.get("etag");
    const differ = <T>(a: T | null | undefined, b: T | null | undefined) => a != null && b != null && a !== b;
    if (differ(etag, this.#etag) || differ(size, this.size)) {
      throw this.#failed("the file changed on the server since its download began; load it again", status);
    }
    this.size ??= size;
    this.#etag ??= etag;
  }

  async #backOff(error: unknown): Promise<void> {
    const reason = error instanceof Error ? error.message : String(error);
    this.#failures++;
    if (this.#failures >= (this.#started ? TRIES : FIRST_TRIES) || !this.#resumable) {
      const where = this.#position > 0 ? ` after ${this.#position} bytes` : "";
      const advice = this.#position > 0 ? "check the network and load it again" : "check the address and the network, and that the server allows this page's origin (CORS)";
      if (error instanceof KingletError) throw new KingletError(error.code, error.message, error.details);
      throw this.#failed(`it failed${where} in ${this.#failures} tries (${reason}); ${advice}`);
    }
    if (this.#started) this.options.onEvent({ type: "download-resumed", url: this.url, offset: this.#position, attempt: this.#failures, reason });
    const wait = error instanceof Temporary && error.waitMs !== undefined ? error.waitMs : BACKOFF_MS * 2 ** (this.#failures - 1);
    await new Promise((resolve) => setTimeout(resolve, Math.min(wait, LONGEST_WAIT_MS)));
  }

  #status(response: Response): KingletError {
    const { status } = response;
    const details = { url: this.url, status };
    if (WORTH_RETRYING.has(status)) {
      return new Temporary("DOWNLOAD_FAILED", `${this.url}: the server answered ${status}; it is busy or broken, try again later`, details, retryAfter(response));
    }
    if (status === 404 || status === 410) return this.#failed("there is no such file (404); check the address", status);
    if (status === 401 || status === 403) {
      return this.#failed(`the server refuses access (${status}); pass a token as headers: { Authorization: "Bearer ..." }, and check that it may read this file`, status);
    }
    return this.#failed(`the server answered ${status}`, status);
  }

  #failed(message: string, status?: number): KingletError {
    return new KingletError("DOWNLOAD_FAILED", `downloading ${this.url}: ${message}`, { url: this.url, status, offset: this.#position });
  }
}

interface Body {
  /** `undefined` at the end; a chunk is good until the next read. */
  read(): Promise<Uint8Array | undefined>;
}

/** Into one buffer again and again where the browser can: fresh memory for each chunk takes a third of a fast download's time. */
function openBody(stream: ReadableStream<Uint8Array<ArrayBuffer>>): Body {
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

/** A failure that another try may cure. */
class Temporary extends KingletError {
  constructor(code: "DOWNLOAD_FAILED", message: string, details: Record<string, unknown> = {}, readonly waitMs?: number) {
    super(code, message, details);
  }
}

/** Seconds or a date. */
function retryAfter(response: Response): number | undefined {
  const value = response.headers.get("retry-after");
  if (!value) return undefined;
  const ms = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return Number.isFinite(ms) ? Math.max(ms, 0) : undefined;
}
