// Markdown of a model as elements. Nothing is parsed as HTML: tags in the text stay text, links go to the web or to mail
// only, images are named and not loaded. So there is nothing to sanitise.

import MarkdownIt, { type Token } from "markdown-it";
import { copyButton, make } from "./dom.js";

const parser = new MarkdownIt({ html: false, linkify: true, breaks: true, typographer: false });
const LINKS = /^(https?:\/\/|mailto:)/i;
/** Block elements, between which a text has a line break. */
const BLOCKS = new Set(["P", "H1", "H2", "H3", "H4", "H5", "H6", "UL", "OL", "LI", "PRE", "BLOCKQUOTE", "TABLE", "THEAD", "TBODY", "TR", "HR", "DIV"]);
/** What a token may become. */
const TAGS = new Set(["p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "table", "thead", "tbody", "tr", "th", "td", "strong", "em", "s"]);
/** Code longer than this keeps one colour: it would take too long. */
const LONGEST_COLOURED = 20_000;

/** The page's heading stands above a message's. */
const lower = (tag: string) => (/^h[1-6]$/.test(tag) ? `h${Math.min(6, Number(tag[1]) + 1)}` : tag);

/** A top-level block: its lines in the text, and its tokens. */
interface Block {
  start: number;
  end: number;
  tokens: Token[];
}

function blocksOf(text: string): Block[] {
  const blocks: Block[] = [];
  let open: Token[] = [];
  for (const token of parser.parse(text, {})) {
    open.push(token);
    if (token.level > 0 || token.nesting > 0) continue;
    const [start, end] = open[0]!.map ?? [0, 0];
    blocks.push({ start, end, tokens: open });
    open = [];
  }
  return blocks;
}

/** All of a text. */
export function render(text: string): Node[] {
  return separated(blocksOf(text).map(({ tokens }) => build(tokens)));
}

function separated(blocks: Node[]): Node[] {
  return blocks.flatMap((block, i) => (i > 0 ? [document.createTextNode("\n\n"), block] : [block]));
}

/**
 * A text that grows at its end. Blocks that can no longer change are drawn once, and the text before the last ones is not
 * parsed again, so that a long answer stays linear; of the last one only what differs is replaced.
 */
export class GrowingMarkdown {
  /** Where what is parsed again begins. */
  #settled = 0;
  #text = "";
  /** Nodes of the blocks behind `#settled`. */
  #tail: Element[] = [];

  constructor(private readonly root: Element) {}

  update(text: string): void {
    if (!text.startsWith(this.#text)) {
      this.root.replaceChildren();
      this.#tail = [];
      this.#settled = 0;
    }
    this.#text = text;
    const rest = text.slice(this.#settled);
    const blocks = blocksOf(rest);
    blocks.forEach(({ tokens }, i) => {
      const fresh = build(tokens);
      const old = this.#tail[i];
      if (!old) {
        if (this.root.hasChildNodes()) this.root.append("\n\n");
        this.root.append(fresh);
        this.#tail.push(fresh);
      } else this.#tail[i] = patch(old, fresh) as Element;
    });
    for (const gone of this.#tail.splice(blocks.length)) {
      gone.previousSibling?.remove();
      gone.remove();
    }
    this.#settle(rest, blocks);
  }

  /** A block is final once the first line of the next one is whole: "#" may still become "#tag". */
  #settle(rest: string, blocks: Block[]): void {
    const lines = [0];
    for (let at = rest.indexOf("\n"); at >= 0; at = rest.indexOf("\n", at + 1)) lines.push(at + 1);
    let final = blocks.length - 1;
    while (final > 0 && blocks[final]!.start + 1 >= lines.length) final--;
    if (final <= 0) return;
    this.#settled += lines[blocks[final]!.start]!;
    for (const done of this.#tail.splice(0, final)) colour(done);
  }

  /** Nothing more comes. */
  end(): void {
    for (const block of this.#tail) colour(block);
  }
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
  const label = fresh.getAttribute("aria-label");
  if (label && label !== old.getAttribute("aria-label")) old.setAttribute("aria-label", label);
  const children = [...fresh.childNodes];
  children.forEach((child, i) => {
    const there = old.childNodes[i];
    if (there) patch(there, child);
    else old.append(child);
  });
  while (old.childNodes.length > children.length) old.lastChild!.remove();
  return old;
}

function build(tokens: Token[]): Element {
  const holder = document.createElement("div");
  const stack: Element[] = [holder];
  for (const token of tokens) block(token, stack);
  return holder.children.length === 1 ? holder.firstElementChild! : holder;
}

function block(token: Token, stack: Element[]): void {
  const parent = stack.at(-1)!;
  if (token.type === "inline") inline(token.children ?? [], parent);
  else if (token.type === "fence" || token.type === "code_block") append(parent, codeBlock(token.content, token.info.trim().split(/\s/)[0]!.toLowerCase()));
  else if (token.type === "hr") append(parent, make("hr"));
  else if (token.nesting > 0) {
    // A tight list's paragraphs are its items' own text.
    const element = token.hidden ? parent : open(token);
    if (element !== parent) append(parent, element.nodeName === "TABLE" ? make("div", { class: "wide-content", tabindex: "0", role: "region", "aria-label": "Table" }, element) : element);
    stack.push(element);
  } else if (token.nesting < 0) stack.pop();
  else parent.append(token.content);
}

function open(token: Token): Element {
  const tag = TAGS.has(token.tag) ? lower(token.tag) : "div";
  const element = document.createElement(tag);
  const start = token.attrGet("start");
  if (tag === "ol" && start && /^\d+$/.test(String(start))) element.setAttribute("start", String(start));
  const align = /text-align:\s*(left|center|right)/.exec(String(token.attrGet("style") ?? ""))?.[1];
  if (align) element.className = `to-${align}`;
  return element;
}

/** Texts of blocks do not run into each other when they are copied. */
function append(parent: Element, child: Element): void {
  const before = parent.lastChild;
  if (before && (BLOCKS.has(child.nodeName) || before instanceof Element && BLOCKS.has(before.nodeName))) parent.append("\n");
  else if (before && /^T[HD]$/.test(child.nodeName)) parent.append("\t");
  parent.append(child);
}

function inline(tokens: Token[], root: Element): void {
  const stack = [root];
  for (const token of tokens) {
    const parent = stack.at(-1)!;
    if (token.type === "softbreak" || token.type === "hardbreak") parent.append(make("br"), "\n");
    else if (token.type === "code_inline") parent.append(make("code", {}, token.content));
    else if (token.type === "image") parent.append(image(token));
    else if (token.nesting > 0) {
      const element = token.type === "link_open" ? link(String(token.attrGet("href") ?? "")) : make(TAGS.has(token.tag) ? (token.tag as "strong") : "span");
      parent.append(element);
      stack.push(element);
    } else if (token.nesting < 0) stack.pop();
    else parent.append(token.content);
  }
}

function link(address: string): Element {
  if (!LINKS.test(address)) return make("span");
  return make("a", { href: address, target: "_blank", rel: "noopener noreferrer" });
}

/** Loading it would tell its server who reads this. */
function image(token: Token): Element {
  const address = String(token.attrGet("src") ?? "");
  const element = link(address);
  element.append(`[image: ${token.content || address}]`);
  return element;
}

function codeBlock(code: string, language: string): Element {
  const content = make("code", language ? { class: `language-${language.replace(/[^\w+#-]/g, "")}` } : {}, code.replace(/\n$/, ""));
  const pre = make("pre", { tabindex: "0", role: "region", "aria-label": language ? `Code, ${language}` : "Code" }, content);
  return make("div", { class: "code" }, pre, copyButton("Copy the code", () => pre.textContent ?? ""));
}

/** Colours the code of a block that is complete. */
export function colour(block: ParentNode & Node): void {
  const codes = block instanceof Element && block.matches("pre > code") ? [block] : [...block.querySelectorAll("pre > code[class]")];
  for (const code of codes) {
    const language = /language-(\S+)/.exec(code.className)?.[1];
    const text = code.textContent ?? "";
    if (!language || text.length > LONGEST_COLOURED) continue;
    import("./highlight.js").then(({ highlight }) => {
      if (code.textContent !== text) return;
      const nodes = highlight(text, language);
      if (nodes) code.replaceChildren(...nodes);
    }, () => {}); // without its colours it can be read as well
  }
}
