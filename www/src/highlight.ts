// Colours for code, in a chunk of its own that the first block of code loads. highlight.js by way of lowlight, which gives a
// tree: no markup is ever parsed.

import { createLowlight } from "lowlight";
import bash from "highlight.js/lib/languages/bash";
import c from "highlight.js/lib/languages/c";
import cpp from "highlight.js/lib/languages/cpp";
import css from "highlight.js/lib/languages/css";
import diff from "highlight.js/lib/languages/diff";
import go from "highlight.js/lib/languages/go";
import java from "highlight.js/lib/languages/java";
import javascript from "highlight.js/lib/languages/javascript";
import json from "highlight.js/lib/languages/json";
import python from "highlight.js/lib/languages/python";
import rust from "highlight.js/lib/languages/rust";
import sql from "highlight.js/lib/languages/sql";
import typescript from "highlight.js/lib/languages/typescript";
import xml from "highlight.js/lib/languages/xml";
import yaml from "highlight.js/lib/languages/yaml";

const lowlight = createLowlight({ bash, c, cpp, css, diff, go, java, javascript, json, python, rust, sql, typescript, xml, yaml });

type Tree = ReturnType<typeof lowlight.highlight>["children"][number];

/** The code as nodes, or undefined for a language that is not known here. */
export function highlight(code: string, language: string): Node[] | undefined {
  return lowlight.registered(language) ? lowlight.highlight(language, code).children.map(toNode) : undefined;
}

function toNode(tree: Tree): Node {
  if (tree.type !== "element") return document.createTextNode(tree.type === "text" ? tree.value : "");
  const element = document.createElement("span");
  const { className } = tree.properties;
  if (Array.isArray(className)) element.className = className.join(" ");
  element.append(...tree.children.map(toNode));
  return element;
}
