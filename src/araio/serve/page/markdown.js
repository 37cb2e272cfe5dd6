/**
 * Markdown as models write it, to elements: headings, lists, quotes, rules, fenced and inline code, bold,
 * italic, links. Text becomes text nodes and nothing else; a link leads to http(s) or stays text; TeX is left
 * as it was written. While an answer grows, blocks that did not change keep their elements, and what is
 * selected in them.
 */

import { el } from "./dom.js";

/** Longer paragraphs are shown as they are: the search for marks must not take longer than the answer. */
const MOST_INLINE = 20_000;

/** Quotes in quotes, lists in lists: what lies deeper is shown as it was written. */
const MOST_DEEP = 8;

/** @type {WeakMap<Element, string>} */
const sources = new WeakMap();

/** Shows `text` in `target`. @param {Element} target @param {string} text @param {number} [depth] */
export function renderMarkdown(target, text, depth = 0) {
  const blocks = splitBlocks(text);
  blocks.forEach((source, index) => {
    const old = target.children[index];
    if (old && sources.get(old) === source) return;
    const element = renderBlock(source, depth);
    sources.set(element, source);
    if (old) old.replaceWith(element);
    else target.append(element);
  });
  while (target.children.length > blocks.length) target.lastElementChild?.remove();
}

const FENCE = /^\s{0,3}(`{3,}|~{3,})\s*([\w+#.-]*)/;
const HEADING = /^(#{1,6})\s+(.*?)\s*#*$/;
const RULE = /^\s{0,3}([-*_])(\s*\1){2,}\s*$/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;
const QUOTE = /^\s{0,3}>\s?/;

/** The source of each block. @param {string} text @returns {string[]} */
function splitBlocks(text) {
  /** @type {string[][]} */
  const blocks = [];
  let kind = "";
  let fence = "";
  for (const line of text.split("\n")) {
    if (kind === "fence") {
      blocks.at(-1)?.push(line);
      if (line.trim().startsWith(fence) && !line.trim().slice(fence.length).replaceAll(fence[0], ""))
        kind = "";
      continue;
    }
    const opened = FENCE.exec(line);
    const next = kindOf(line, kind);
    if (next !== "blank" && (next !== kind || next === "heading" || next === "rule")) blocks.push([line]);
    else if (next !== "blank") blocks.at(-1)?.push(line);
    else if (kind === "list") blocks.at(-1)?.push(line);
    kind = next === "blank" && kind === "list" ? "list" : next;
    if (opened) fence = opened[1];
  }
  return blocks.map((lines) => lines.join("\n").trimEnd());
}

/** @param {string} line @param {string} before  the kind of the block above */
function kindOf(line, before) {
  if (!line.trim()) return "blank";
  if (FENCE.test(line)) return "fence";
  if (HEADING.test(line)) return "heading";
  if (RULE.test(line)) return "rule";
  if (QUOTE.test(line)) return "quote";
  if (ITEM.test(line) || (before === "list" && /^\s{2,}/.test(line))) return "list";
  return "paragraph";
}

/** @param {string} source @param {number} depth @returns {Element} */
function renderBlock(source, depth) {
  const fence = FENCE.exec(source);
  if (fence) return renderCode(source, fence);
  const heading = HEADING.exec(source);
  // The page has its own first two levels.
  if (heading) return el(`h${Math.min(heading[1].length + 2, 6)}`, {}, ...inline(heading[2]));
  if (RULE.test(source)) return el("hr");
  if (ITEM.test(source.split("\n", 1)[0])) return renderList(source.split("\n"), depth);
  if (QUOTE.test(source) && depth < MOST_DEEP) {
    const quote = el("blockquote");
    const lines = source.split("\n").map((line) => line.replace(QUOTE, ""));
    renderMarkdown(quote, lines.join("\n"), depth + 1);
    return quote;
  }
  return el("p", {}, ...inline(source));
}

/** @param {string} source @param {RegExpExecArray} fence */
function renderCode(source, fence) {
  const lines = source.split("\n").slice(1);
  if (lines.at(-1)?.trim().startsWith(fence[1])) lines.pop();
  return el(
    "pre",
    { tabindex: 0, "aria-label": fence[2] ? `${fence[2]} code` : "code" },
    el("code", {}, lines.join("\n")),
  );
}

/**
 * A list; deeper lines belong to the item above them.
 * @param {string[]} lines @param {number} depth @returns {Element}
 */
function renderList(lines, depth) {
  const [, indent, mark] = /** @type {RegExpExecArray} */ (ITEM.exec(lines[0]));
  const ordered = /\d/.test(mark);
  const list = el(ordered ? "ol" : "ul", { start: ordered && mark !== "1." ? parseInt(mark, 10) : null });
  /** @type {string[][]} */
  const items = [];
  for (const line of lines) {
    const item = ITEM.exec(line);
    if (item && item[1].length <= indent.length) items.push([item[3]]);
    else items.at(-1)?.push(line);
  }
  for (const [first, ...rest] of items) {
    const deeper = depth < MOST_DEEP ? rest.findIndex((line) => ITEM.test(line)) : -1;
    const own = deeper < 0 ? rest : rest.slice(0, deeper);
    const text = [first, ...own.map((line) => line.trim())].join("\n").trim();
    list.append(el("li", {}, ...inline(text), deeper >= 0 && renderList(rest.slice(deeper), depth + 1)));
  }
  return list;
}

/** What may open here, and how it ends: code, TeX, bold, italic. */
const SPANS = [
  ["`", "`"],
  ["\\(", "\\)"],
  ["\\[", "\\]"],
  ["$$", "$$"],
  ["**", "**"],
  ["*", "*"],
];

/** @param {string} text @returns {(Node | string)[]} */
function inline(text) {
  if (text.length > MOST_INLINE) return [text];
  /** @type {(Node | string)[]} */
  const out = [];
  const marks = /[`*[\\$]/g;
  let from = 0;
  for (let mark = marks.exec(text); mark; mark = marks.exec(text)) {
    const span = linkAt(text, mark.index) ?? spanAt(text, mark.index);
    if (!span) continue;
    out.push(text.slice(from, mark.index), span.node);
    marks.lastIndex = from = span.end;
  }
  return [...out, text.slice(from)].filter((part) => part !== "");
}

/** @param {string} text @param {number} at @returns {{node: Node | string, end: number} | null} */
function spanAt(text, at) {
  const span = SPANS.find(([open]) => text.startsWith(open, at));
  if (!span) return null;
  const ticks =
    span[0] === "`" ? /** @type {RegExpExecArray} */ (/^`+/.exec(text.slice(at, at + 64)))[0] : "";
  const [open, close] = ticks ? [ticks, ticks] : span;
  const from = at + open.length;
  const to = text.indexOf(close, from + 1);
  if (to < 0) return null;
  const inner = text.slice(from, to);
  if (ticks) return { node: el("code", {}, inner.trim() || inner), end: to + close.length };
  if (open[0] !== "*") return { node: text.slice(at, to + close.length), end: to + close.length };
  // A star between spaces is a product.
  if (/^\s|\s$/.test(inner)) return null;
  return { node: el(open === "**" ? "strong" : "em", {}, ...inline(inner)), end: to + close.length };
}

/** `[words](https://...)`. @param {string} text @param {number} at */
function linkAt(text, at) {
  if (text[at] !== "[") return null;
  const link = /^\[([^\][\n]{1,500})\]\((https?:\/\/[^\s()<>"]{1,2000})\)/.exec(text.slice(at, at + 2600));
  if (!link) return null;
  const node = el("a", { href: link[2], rel: "noopener noreferrer nofollow", target: "_blank" }, link[1]);
  return { node, end: at + link[0].length };
}
