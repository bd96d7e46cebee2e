// Markdown that is drawn while it is written. Knows no page.

import type { Token } from "markdown-it";
import { oneStop, Shades } from "./confidence.js";
import type { Token as AnswerToken } from "./conversation.js";
import { blocksOf, build, colour, type Block, type Marked } from "./markdown.js";
import { SourceMap } from "./source-map.js";

/** A block that stands in the page, and what it was made of. */
interface Drawn {
  element: Element;
  source: string;
  /** Of a list: the sources of its items. */
  items: string[];
  loose: boolean;
}

/**
 * A text that grows at its end. Blocks that can no longer change are drawn once, and the text before the last ones is not
 * parsed again, so that a long answer stays linear; of the last one only what differs is made anew, of a list its last items.
 */
export class GrowingMarkdown {
  /** Where what is parsed again begins. */
  #settled = 0;
  #text = "";
  /** The blocks behind `#settled`. */
  #tail: Drawn[] = [];
  #shades: Shades | undefined;

  constructor(private readonly root: Element) {}

  /** With the tokens that make the text those that the model was unsure of are marked. */
  update(text: string, tokens?: readonly AnswerToken[]): void {
    if (!text.startsWith(this.#text) || tokens !== this.#shades?.tokens) {
      this.root.replaceChildren();
      this.#tail = [];
      this.#settled = 0;
      this.#shades = tokens && new Shades(tokens);
    }
    this.#text = text;
    this.#shades?.update(text);
    const rest = text.slice(this.#settled);
    const lines = lineStarts(rest);
    const blocks = blocksOf(rest);
    const marked = this.#shades && { shades: this.#shades, map: new SourceMap(rest, lines, this.#settled) };
    blocks.forEach((block, i) => this.#draw(i, block, (from, to) => rest.slice(lines[from], lines[to]), marked));
    for (const { element } of this.#tail.splice(blocks.length)) {
      element.previousSibling?.remove();
      element.remove();
    }
    this.#settle(lines, blocks);
    if (marked) oneStop(this.root);
  }

  #draw(i: number, { start, end, tokens }: Block, source: (from: number, to: number) => string, marked: Marked | undefined): void {
    const old = this.#tail[i];
    const fresh = { source: source(start, end), ...itemsOf(tokens, source) };
    if (!old) {
      if (this.root.hasChildNodes()) this.root.append("\n\n");
      const element = build(tokens, marked);
      this.root.append(element);
      this.#tail.push({ element, ...fresh });
    } else if (old.source !== fresh.source) {
      const same = old.loose === fresh.loose && old.element.nodeName === tokens[0]!.tag.toUpperCase() ? countSame(old.items, fresh.items) : 0;
      if (same > 0) patchChildren(old.element, build(withoutItems(tokens, same), marked), 2 * same);
      else old.element = patch(old.element, build(tokens, marked)) as Element;
      Object.assign(old, fresh);
    }
  }

  /** A block is final once the first line of the next one is whole: "#" may still become "#tag". */
  #settle(lines: number[], blocks: Block[]): void {
    let final = blocks.length - 1;
    while (final > 0 && blocks[final]!.start + 1 >= lines.length) final--;
    if (final <= 0) return;
    this.#settled += lines[blocks[final]!.start]!;
    for (const { element } of this.#tail.splice(0, final)) colour(element);
  }

  /** Nothing more comes. */
  end(): void {
    for (const { element } of this.#tail) colour(element);
  }
}

function lineStarts(text: string): number[] {
  const lines = [0];
  for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) lines.push(at + 1);
  return lines;
}

const isItem = ({ type, level }: Token) => type === "list_item_open" && level === 1;

/** Of a block that is a list. */
function itemsOf(tokens: Token[], source: (from: number, to: number) => string): { items: string[]; loose: boolean } {
  if (!/^(bullet|ordered)_list_open$/.test(tokens[0]!.type)) return { items: [], loose: false };
  const items = tokens.filter(isItem).map(({ map }) => source(map![0], map![1]));
  return { items, loose: tokens.some(({ type, level, hidden }) => type === "paragraph_open" && level === 2 && !hidden) };
}

/** The last item of before may have changed in what its source does not show: it is made anew. */
function countSame(old: string[], fresh: string[]): number {
  let same = 0;
  while (same < old.length - 1 && same < fresh.length - 1 && old[same] === fresh[same]) same++;
  return same;
}

/** The list without its first items. */
function withoutItems(tokens: Token[], count: number): Token[] {
  const starts = tokens.flatMap((token, i) => (isItem(token) ? [i] : []));
  return [tokens[0]!, ...tokens.slice(starts[count])];
}

/** Makes `old` like `fresh` in place where it can, so that a selection and what a reader has heard stay. Returns what stands there now. */
function patch(old: Node, fresh: Node): Node {
  if (old instanceof Text && fresh instanceof Text) {
    if (fresh.data.startsWith(old.data)) {
      if (fresh.data.length > old.data.length) old.appendData(fresh.data.slice(old.data.length));
    } else old.data = fresh.data;
    return old;
  }
  if (!(old instanceof Element && fresh instanceof Element) || old.nodeName !== fresh.nodeName || old.getAttribute("href") !== fresh.getAttribute("href") || old.className !== fresh.className) {
    old.parentNode?.replaceChild(fresh, old);
    return fresh;
  }
  if (old.nodeName === "BUTTON") return old;
  for (const name of ["aria-label", "data-about"]) {
    const value = fresh.getAttribute(name);
    if (value && value !== old.getAttribute(name)) old.setAttribute(name, value);
  }
  patchChildren(old, fresh, 0);
  return old;
}

/** Makes the children of `old` from this one on those of `fresh`. */
function patchChildren(old: Element, fresh: Element, from: number): void {
  const children = [...fresh.childNodes];
  let there = old.childNodes[from] ?? null;
  for (const child of children) {
    if (there) there = patch(there, child).nextSibling;
    else old.append(child);
  }
  while (old.childNodes.length > from + children.length) old.lastChild!.remove();
}
