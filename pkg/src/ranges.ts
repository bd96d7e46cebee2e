// Which bytes of a file are there.

/** From the first byte to the one behind the last. */
export type Range = [start: number, end: number];

export class Ranges {
  /** In order; no two of them touch. */
  #list: Range[] = [];

  constructor(list: readonly Range[] = []) {
    for (const [start, end] of list) this.add(start, end);
  }

  get list(): Range[] {
    return this.#list.map(([start, end]) => [start, end]);
  }

  get bytes(): number {
    return this.#list.reduce((sum, [start, end]) => sum + end - start, 0);
  }

  add(start: number, end: number): void {
    if (end <= start) return;
    const apart = this.#list.filter((range) => range[1] < start || range[0] > end);
    const touching = this.#list.filter((range) => range[1] >= start && range[0] <= end);
    const [first, last] = [touching[0], touching[touching.length - 1]];
    apart.push([Math.min(start, first?.[0] ?? start), Math.max(end, last?.[1] ?? end)]);
    this.#list = apart.sort((a, b) => a[0] - b[0]);
  }

  /** Where the bytes end that begin at `start`; `start` itself where there is none. */
  endFrom(start: number): number {
    return this.#list.find((range) => range[0] <= start && start < range[1])?.[1] ?? start;
  }

  /** What is missing, in order; the last gap may be open. */
  gaps(size = Infinity): Range[] {
    const gaps: Range[] = [];
    let at = 0;
    for (const [start, end] of [...this.#list, [size, size] as Range]) {
      if (start > at) gaps.push([at, Math.min(start, size)]);
      at = Math.max(at, end);
    }
    return gaps;
  }
}
