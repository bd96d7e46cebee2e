// Runs in the page that is to be read, once, when somebody asks for it: what a reader sees of its content, as text. No values of
// forms, no navigation, no scripts. Its result is the script's last value (build.mjs).

export interface PageText {
  title: string;
  url: string;
  /** Of the document: a PDF's viewer has no text of its own. */
  type: string;
  text: string;
  /** There was more than a panel could take. */
  more: boolean;
}

const LIMIT = 200_000;
/** Content shorter than this is rather a box within the page than its content. */
const CONTENT = 200;
const SKIPPED = new Set([
  "SCRIPT", "STYLE", "NOSCRIPT", "TEMPLATE", "SVG", "CANVAS", "IFRAME", "OBJECT", "EMBED", "VIDEO", "AUDIO", "NAV", "ASIDE", "DIALOG",
  "INPUT", "TEXTAREA", "SELECT", "BUTTON", "OPTION", "DATALIST", "PROGRESS", "METER", "MENU",
]);
/** Of the page around its content. */
const FRAME = new Set(["HEADER", "FOOTER"]);
const HIDDEN_ROLES = /^(navigation|banner|contentinfo|search|menu|menubar|toolbar|dialog|alertdialog|textbox|searchbox)$/;

export function readPage(): PageText {
  const candidates = [...document.querySelectorAll("main, [role=main], article")].map((root) => textOf(root, false));
  const content = candidates.sort((a, b) => b.length - a.length)[0] ?? "";
  const text = content.length >= CONTENT || !document.body ? content : textOf(document.body, true);
  return { title: document.title, url: location.href, type: document.contentType, text: text.slice(0, LIMIT), more: text.length > LIMIT };
}

function textOf(root: Element, whole: boolean): string {
  const pieces: string[] = [];
  let length = 0;
  const walk = (node: Node, pre: boolean): void => {
    if (length > LIMIT) return;
    if (node instanceof Text) {
      const piece = pre ? node.data : node.data.replace(/\s+/g, " ");
      pieces.push(piece);
      length += piece.length;
    } else if (node instanceof Element && !isSkipped(node, whole)) {
      const display = getComputedStyle(node).display;
      const block = !/^(inline|contents|ruby)/.test(display);
      const cell = display === "table-cell";
      if (cell) pieces.push(" ");
      else if (block) pieces.push(node.nodeName === "LI" ? "\n- " : "\n");
      if (node.nodeName === "BR") pieces.push("\n");
      const children = node instanceof HTMLSlotElement ? node.assignedNodes() : (node.shadowRoot ?? node).childNodes;
      for (const child of children.length === 0 ? node.childNodes : children) walk(child, pre || node.nodeName === "PRE");
      if (block && !cell) pieces.push(/^(P|H[1-6]|UL|OL|PRE|BLOCKQUOTE|TABLE|SECTION|ARTICLE)$/.test(node.nodeName) ? "\n\n" : "\n");
    }
  };
  walk(root, false);
  return pieces.join("").replace(/[ \t]+\n/g, "\n").replace(/\n[ \t]+(?! )/g, "\n").replace(/\n- \n+/g, "\n- ").replace(/\n{3,}/g, "\n\n").trim();
}

function isSkipped(element: Element, whole: boolean): boolean {
  if (SKIPPED.has(element.nodeName.toUpperCase()) || whole && FRAME.has(element.nodeName)) return true;
  if (element.getAttribute("aria-hidden") === "true" || HIDDEN_ROLES.test(element.getAttribute("role") ?? "")) return true;
  // What somebody writes is no content of the page.
  if (element instanceof HTMLElement && element.isContentEditable) return true;
  return getComputedStyle(element).display !== "contents" && !element.checkVisibility({ visibilityProperty: true, checkVisibilityCSS: true });
}
