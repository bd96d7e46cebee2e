// Where in a Markdown text stands what is shown of it: what the parser tells is the lines of a block; within them its content is
// looked for. Knows no page.

/** Of a unit (UTF-16) of some content: where it stands in the text; `NaN` where that cannot be told. */
export type Place = (unit: number) => number;

export class SourceMap {
  #row = 0;
  /** Where the next cell of the row is looked for. */
  #cell = 0;

  /**
   * @param text what was parsed
   * @param starts where its lines start
   * @param base where it stands in the whole text
   */
  constructor(private readonly text: string, private readonly starts: readonly number[], private readonly base: number) {}

  /** Of a block's content, whose lines are what follows the block's marks in the lines of the text from `first` on. */
  lines(content: string, first: number): Place {
    const lines = content.split("\n");
    const places = lines.map((line, i) => this.#line(first + i).lastIndexOf(line) + this.starts[first + i]!);
    const found = lines.map((line, i) => this.#line(first + i).includes(line));
    const begins = lines.map(() => 0);
    for (let i = 1; i < lines.length; i++) begins[i] = begins[i - 1]! + lines[i - 1]!.length + 1;
    let last = 0;
    return (unit) => {
      if (unit < begins[last]!) last = 0;
      while (unit >= (begins[last + 1] ?? Infinity)) last++;
      return found[last] ? this.base + places[last]! + unit - begins[last]! : NaN;
    };
  }

  /** The cells that follow stand in this line. */
  row(line: number): void {
    this.#row = line;
    this.#cell = 0;
  }

  /** Of the next cell of a table. */
  cell(content: string): Place {
    const at = this.#line(this.#row).indexOf(content, this.#cell);
    if (at < 0) return () => NaN;
    this.#cell = at + content.length;
    const start = this.base + this.starts[this.#row]! + at;
    return (unit) => start + unit;
  }

  #line(line: number): string {
    return this.text.slice(this.starts[line], this.starts[line + 1]);
  }
}

/** Finds the parts of inline content, one after the other: what stands between them is marks. */
export class Parts {
  #at = 0;

  constructor(private readonly content: string, private readonly place: Place) {}

  next(part: string): Place {
    const found = this.content.indexOf(part, this.#at);
    if (found >= 0) {
      this.#at = found + part.length;
      return (unit) => this.place(found + unit);
    }
    const units = Array.from({ length: part.length }, (_, i) => this.#unit(part[i]!));
    return (unit) => this.place(units[unit]!);
  }

  /** One that may be escaped, or written as an entity. */
  #unit(unit: string): number {
    const at = this.#at;
    const here = this.content[at];
    if (here === unit || (here === "\n" && unit === " ")) this.#at++;
    else if (here === "\\" && this.content[at + 1] === unit) this.#at += 2;
    else if (here === "&" && this.content.includes(";", at)) this.#at = this.content.indexOf(";", at) + 1;
    else {
      const next = this.content.indexOf(unit, at);
      if (next < 0) return NaN;
      this.#at = next + 1;
      return next;
    }
    return at;
  }
}
