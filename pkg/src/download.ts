// One file over HTTP as a run of chunks that survives a cut connection: it goes on where it stopped, with
// `Range: bytes=N-`, if the file is still the same.

import { openBody, refusal, retryAfter, type Body } from "./body.js";
import { KingletError } from "./errors.js";
import { isAnother, isTold, UNKNOWN, type FileIdentity } from "./identity.js";
import type { ChunkReader } from "./source.js";
import type { EngineEvent } from "./types.js";

const TRIES = 5;
/** As long as there was no answer at all, the address may simply be wrong. */
const FIRST_TRIES = 3;
const BACKOFF_MS = 300;
const LONGEST_WAIT_MS = 20_000;
/** Without a byte for so long, a connection counts as cut. */
const STALL_MS = 30_000;
const WORTH_RETRYING = new Set([408, 425, 429, 500, 502, 503, 504, 529]);

export interface DownloadOptions {
  headers?: Record<string, string>;
  /** Ask for no more than this at first. */
  firstBytes?: number;
  /** Ask for no more than this at a time: who reads only the beginning pays for little more. */
  pieceBytes?: number;
  /** The first byte that is wanted; default 0. */
  start?: number;
  /** Of an earlier download: another file in its place is an error, `Changed`. */
  identity?: FileIdentity;
  /** The bytes are stored: a copy in the browser's own cache would be one too many. */
  stored?: boolean;
  /** Two files glued together would go unnoticed: what nothing tells from another file is not resumed. */
  careful?: boolean;
  /** A server that sends the whole file instead of a range is an error. */
  rangeOnly?: boolean;
  onEvent(event: EngineEvent): void;
}

/** The server has another file now. */
export class Changed extends KingletError {}


export class Download implements ChunkReader {
  /** It ends here, if not before; may be drawn nearer at any time. */
  limit = Infinity;
  readonly identity: FileIdentity;
  #position: number;
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
  #failures = 0;
  #started = false;
  #waitingSince: number | undefined;
  #watchdog: ReturnType<typeof setInterval> | undefined;

  constructor(private readonly url: string, private readonly options: DownloadOptions) {
    this.identity = { ...UNKNOWN, ...options.identity };
    this.#position = options.start ?? 0;
  }

  get size(): number | undefined {
    return this.identity.size;
  }

  /** Resolves when the server has answered; `next` does so by itself. */
  async open(): Promise<void> {
    while (!this.#body && this.#position < this.limit) {
      try {
        this.#body = await this.#connect();
      } catch (e) {
        await this.#failedOnce(e);
      }
    }
  }

  async next(): Promise<Uint8Array | null> {
    for (;;) {
      if (this.#position >= Math.min(this.size ?? Infinity, this.limit)) {
        this.#drop();
        return null;
      }
      try {
        this.#body ??= await this.#connect();
        const chunk = await this.#read(this.#body);
        if (chunk) {
          const known = Math.min(this.#repeated, chunk.length);
          const fresh = chunk.subarray(known, known + this.limit - this.#position);
          this.#repeated -= known;
          if (fresh.length === 0) continue;
          this.#position += fresh.length;
          this.#failures = 0;
          return fresh;
        }
        this.#hangUp();
        const due = Math.max(this.#end ?? 0, this.#capped ? 0 : Math.min(this.size ?? 0, this.limit));
        if (this.#position < due) throw new TypeError("the connection was cut");
        if (!this.#capped) this.identity.size ??= this.#position;
      } catch (e) {
        await this.#failedOnce(e);
      }
    }
  }

  /** Nothing more is wanted. */
  close(): void {
    this.limit = 0;
    this.#drop();
  }

  #drop(): void {
    this.#connection?.abort();
    this.#hangUp();
  }

  async #failedOnce(e: unknown): Promise<void> {
    this.#drop();
    if (this.#position >= this.limit) return;
    if (e instanceof KingletError && !(e instanceof Temporary)) throw e;
    await this.#backOff(e);
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
    const { headers = {}, firstBytes, pieceBytes, stored } = this.options;
    const sent = new Headers(headers);
    const start = this.#position;
    const { etag, near } = this.identity;
    const most = Math.min((start === 0 ? firstBytes : undefined) ?? pieceBytes ?? Infinity, this.limit - start);
    this.#asked = most < (this.size ?? Infinity) - start ? most : undefined;
    if (start > 0 || this.#asked) sent.set("Range", `bytes=${start}-${this.#asked ? start + this.#asked - 1 : ""}`);
    // Elsewhere If-Range would need a preflight that few servers grant; the ETag of the answer is compared instead.
    if (start > 0 && etag && !etag.startsWith("W/") && near) sent.set("If-Range", etag);
    // A browser drops Authorization when a redirect leaves the origin, but would carry other headers along.
    const secret = Object.keys(headers).some((name) => !["authorization", "accept", "accept-language"].includes(name.toLowerCase()));
    const { signal } = this.#connection;
    const timer = setTimeout(() => this.#connection?.abort(new TypeError(`no answer for ${STALL_MS / 1000} seconds`)), STALL_MS);
    let response: Response;
    try {
      response = await fetch(this.url, { headers: sent, signal, redirect: secret ? "manual" : "follow", cache: stored ? "no-store" : "default" });
    } finally {
      clearTimeout(timer);
    }
    this.#check(response, start);
    this.#started = true;
    this.identity.near = [this.url, response.url].every((url) => new URL(url).origin === self.location.origin);
    this.#repeated = response.status === 206 ? 0 : start;
    this.#watch();
    return openBody(response.body!);
  }

  /** Status, kind and identity of an answer; sizes are taken from it. */
  #check(response: Response, start: number): void {
    if (response.type === "opaqueredirect") {
      throw this.#failed("the server redirects, and only an Authorization header may travel with a redirect; give the final URL, or leave the other headers out");
    }
    if (response.status === 416 && start > 0) throw this.#changed("became shorter", 416);
    if (!response.ok) throw this.#status(response);
    const { status, headers } = response;
    if (headers.get("content-type")?.startsWith("text/html")) {
      const message = `${this.url} is a web page, not a GGUF file; on Hugging Face use the link with /resolve/ instead of /blob/`;
      throw start === 0 ? new KingletError("NOT_A_MODEL", message, { url: this.url, status }) : new TypeError("a web page came instead of the file");
    }
    const range = /^bytes (\d+)-\d+\/(\d+)$/.exec(headers.get("content-range") ?? "");
    if (status === 206 && range && Number(range[1]) !== start) throw new TypeError(`the server sent bytes from ${range[1]} on instead of ${start}`);
    if (status !== 206 && start > 0 && this.options.rangeOnly) throw new KingletError("DOWNLOAD_FAILED", `${this.url}: the server sends no ranges`);
    // The length of a compressed answer is not the file's.
    this.identity.encoded ||= headers.has("content-encoding");
    const length = !this.identity.encoded && headers.has("content-length") ? Number(headers.get("content-length")) : undefined;
    this.#capped = status === 206 && length !== undefined && length === this.#asked;
    this.#end = length === undefined ? undefined : (status === 206 ? start : 0) + length;
    // A range's total may be hidden from other origins; an open range ends where the file does.
    const size = range ? Number(range[2]) : this.#capped ? undefined : this.#end;
    const known = this.identity;
    const [etag, lastModified] = [headers.get("etag"), headers.get("last-modified")];
    if (isAnother(known, { etag, lastModified, size })) throw this.#changed("changed", status);
    known.size ??= size;
    known.etag ??= etag;
    known.lastModified ??= lastModified;
  }

  #changed(how: string, status: number): KingletError {
    return new Changed("DOWNLOAD_FAILED", `downloading ${this.url}: the file ${how} on the server since its download began; load it again`, { url: this.url, status });
  }

  async #backOff(error: unknown): Promise<void> {
    const reason = error instanceof Error ? error.message : String(error);
    this.#failures++;
    if (this.options.careful && this.#position > 0 && !isTold(this.identity)) {
      throw this.#failed(`it was cut after ${this.#position} bytes (${reason}), and the server gives neither ETag nor Last-Modified, by which the rest could be known to be of the same file; load it again, or pass its sha256`);
    }
    if (this.#failures >= (this.#started ? TRIES : FIRST_TRIES) || this.identity.encoded) {
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
    // The address that a hub redirects to expires; the hub gives a new one.
    if (WORTH_RETRYING.has(status) || (response.redirected && this.#started)) {
      return new Temporary("DOWNLOAD_FAILED", `${this.url}: the server answered ${status}; it is busy or broken, try again later`, { url: this.url, status }, retryAfter(response));
    }
    return this.#failed(refusal(status), status);
  }

  #failed(message: string, status?: number): KingletError {
    return new KingletError("DOWNLOAD_FAILED", `downloading ${this.url}: ${message}`, { url: this.url, status, offset: this.#position });
  }
}

/** A failure that another try may cure. */
class Temporary extends KingletError {
  constructor(code: "DOWNLOAD_FAILED", message: string, details: Record<string, unknown> = {}, readonly waitMs?: number) {
    super(code, message, details);
  }
}
