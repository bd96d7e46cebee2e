// Fills the gaps of a file from its server, over several connections where that is measured to be faster.

import { Changed, Download, type DownloadOptions } from "./download.js";
import { KingletError } from "./errors.js";
import { isTold, type FileIdentity } from "./identity.js";
import { Ranges } from "./ranges.js";

/** What one of several connections fetches at a time. */
const SEGMENT_BYTES = 8 << 20;
const MOST_LANES = 4;
/** A connection is added for so long, and the next one only if it helped that much. */
const TRIAL_MS = 1000;
const WORTH = 1.15;

/** Where the bytes go. */
export interface Sink {
  readonly ranges: Ranges;
  write(at: number, bytes: Uint8Array): Promise<void>;
  /** Resolves when `at` is near enough to what is read already; true where that took waiting. */
  room(at: number): Promise<boolean>;
  /** Who waits for room shall look around. */
  hurry(): void;
  /** The server's first answer. */
  onAnswer(identity: FileIdentity): Promise<void>;
}

interface Lane {
  at: number;
  end: number;
  download: Download;
}

interface Claim {
  start: number;
  end: number;
  /** Whose claim it is cut from, once the server has shown that it knows ranges. */
  from?: Lane;
}

export class Lanes {
  /** Of the file as this session found it. */
  #identity: FileIdentity | undefined;
  #lanes = new Set<Lane>();
  #helpers = new Set<Promise<void>>();
  #fatal: unknown;
  #closed = false;
  #more = true;
  #received = 0;
  #rate = 0;
  #waited = false;

  constructor(private readonly url: string, private readonly options: DownloadOptions, private readonly sink: Sink) {}

  /** Resolves when there is no gap. Rejects with what ended the first connection, or with what no other one could cure. */
  async run(): Promise<void> {
    this.#waited = true; // the first second is no measure
    const trial = setInterval(() => this.#tune(), TRIAL_MS);
    try {
      while (this.#claim(false)) {
        await this.#work(false);
        await Promise.all(this.#helpers);
        if (this.#fatal) throw this.#fatal;
        if (this.#closed) return;
      }
    } finally {
      clearInterval(trial);
      this.close();
      await Promise.all(this.#helpers);
    }
  }

  close(): void {
    this.#closed = true;
    for (const { download } of this.#lanes) download.close();
  }

  async #work(helps: boolean): Promise<void> {
    for (let claim; !this.#closed && (claim = this.#claim(helps)); ) {
      const { start, end, from } = claim;
      const identity = this.#identity ? { ...this.#identity } : this.options.identity;
      const download = new Download(this.url, { ...this.options, start, identity, rangeOnly: helps });
      download.limit = end;
      const lane: Lane = { at: start, end, download };
      this.#lanes.add(lane);
      try {
        await this.sink.room(start);
        await download.open();
        if (from && from.at >= start) continue;
        if (from) from.end = from.download.limit = start;
        if (!this.#identity) await this.sink.onAnswer((this.#identity = download.identity));
        for (let chunk; (chunk = await download.next()); ) {
          await this.sink.write(lane.at, chunk);
          lane.at += chunk.length;
          this.#received += chunk.length;
          if (await this.sink.room(lane.at)) this.#waited = true;
        }
        this.#identity.size ??= download.size;
      } finally {
        download.close();
        this.#lanes.delete(lane);
      }
    }
  }

  /** The next gap that nobody fills: all of it for one alone, else a segment. A helper may cut a piece off another's. */
  #claim(helps: boolean): Claim | undefined {
    const lanes = [...this.#lanes];
    const taken = new Ranges([...this.sink.ranges.list, ...lanes.map(({ at, end }): [number, number] => [at, end])]);
    const [gap] = taken.gaps(this.#identity?.size ?? this.options.identity?.size);
    if (gap) return { start: gap[0], end: this.#helpers.size === 0 ? gap[1] : Math.min(gap[1], gap[0] + SEGMENT_BYTES) };
    const from = helps && lanes.find(({ at, end }) => end - at > 2 * SEGMENT_BYTES);
    if (!from) return undefined;
    const start = Math.ceil((from.at + SEGMENT_BYTES) / SEGMENT_BYTES) * SEGMENT_BYTES;
    const end = Math.min(start + SEGMENT_BYTES, from.end);
    // Another helper may be about to cut the same piece.
    return lanes.some((lane) => lane !== from && lane.at < end && lane.end > start) ? undefined : { start, end, from };
  }

  #tune(): void {
    const rate = this.#received;
    this.#received = 0;
    const measured = !this.#waited;
    this.#waited = false;
    const [known, size] = [this.#identity, this.#identity?.size];
    if (!measured || !this.#more || !known || size === undefined || this.#helpers.size + 1 >= MOST_LANES) return;
    if (known.encoded || (this.options.careful && !isTold(known))) return;
    if (this.#helpers.size > 0 && rate < WORTH * this.#rate) {
      this.#more = false;
      return;
    }
    if (size - this.sink.ranges.bytes < 2 * SEGMENT_BYTES) return;
    this.#rate = rate;
    const helper: Promise<void> = this.#work(true).catch((e) => this.#helperFailed(e)).finally(() => this.#helpers.delete(helper));
    this.#helpers.add(helper);
  }

  /** The others go on with what it leaves, unless they would fare no better. */
  #helperFailed(e: unknown): void {
    this.#more = false;
    if (!(e instanceof KingletError && e.code === "DOWNLOAD_FAILED") || e instanceof Changed) {
      this.#fatal ??= e;
      return this.close();
    }
    // Its gap is the next one to be read: those who are ahead, and wait for the reader, have to leave what they are at.
    for (const lane of this.#lanes) lane.end = lane.download.limit = lane.at;
    this.sink.hurry();
  }
}
