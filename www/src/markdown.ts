// Markdown of a model as elements. Nothing is parsed as HTML: tags in the text stay text, links go to the web or to mail
// only, images are named and not loaded. So there is nothing to sanitise.

import MarkdownIt, { type Token } from "markdown-it";
import { replaceAround, type Shades } from "./confidence.js";
import { copyButton, make } from "./dom.js";
import { Parts, type SourceMap } from "./source-map.js";

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
export interface Block {
  start: number;
  end: number;
  tokens: Token[];
}

export function blocksOf(text: string): Block[] {
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

/** What marks parts of the text, and where they are found. */
export interface Marked {
  shades: Shades;
  map: SourceMap;
}

export function build(tokens: Token[], marked?: Marked): Element {
  const holder = document.createElement("div");
  const stack: Element[] = [holder];
  for (const token of tokens) block(token, stack, marked);
  return holder.children.length === 1 ? holder.firstElementChild! : holder;
}

function block(token: Token, stack: Element[], marked: Marked | undefined): void {
  const parent = stack.at(-1)!;
  if (token.type === "tr_open") marked?.map.row(token.map![0]);
  if (token.type === "inline") inline(token, parent, marked);
  else if (token.type === "fence" || token.type === "code_block") append(parent, codeBlock(token, marked));
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

function inline({ content, children, map }: Token, root: Element, marked: Marked | undefined): void {
  const parts = marked && new Parts(content, map ? marked.map.lines(content, map[0]) : marked.map.cell(content));
  const write = (parent: Element, text: string) => {
    if (parts) marked!.shades.write(parent, text, parts.next(text));
    else parent.append(text);
  };
  const stack = [root];
  for (const token of children ?? []) {
    const parent = stack.at(-1)!;
    if (token.type === "softbreak" || token.type === "hardbreak") {
      parts?.next("\n");
      parent.append(make("br"), "\n");
    } else if (token.type === "code_inline") {
      const code = make("code");
      parent.append(code);
      write(code, token.content);
    } else if (token.type === "image") {
      parts?.next(token.content);
      parent.append(image(token));
    } else if (token.nesting > 0) {
      const element = token.type === "link_open" ? link(String(token.attrGet("href") ?? "")) : make(TAGS.has(token.tag) ? (token.tag as "strong") : "span");
      parent.append(element);
      stack.push(element);
    } else if (token.nesting < 0) stack.pop();
    else write(parent, token.content);
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

function codeBlock({ type, content: code, info, map }: Token, marked: Marked | undefined): Element {
  const language = info.trim().split(/\s/)[0]!.toLowerCase();
  const content = make("code", language ? { class: `language-${language.replace(/[^\w+#-]/g, "")}` } : {});
  const text = code.replace(/\n$/, "");
  if (marked) marked.shades.write(content, text, marked.map.lines(text, map![0] + (type === "fence" ? 1 : 0)));
  else content.append(text);
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
      if (nodes) replaceAround(code, nodes);
    }, () => {}); // without its colours it can be read as well
  }
}
