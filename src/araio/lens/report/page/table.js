/**
 * Tables: of a chart, folded away beneath it, and those that are looked at first.
 */

import { el } from "./dom.js";
import { whole } from "./numbers.js";

/** Longer ones slow a page down and are read by nobody; the JSON has them all. */
const MOST_ROWS = 300;

/**
 * The first column names the row; numbers are on the right.
 * @param {string} caption
 * @param {string[]} headings
 * @param {(string | number | Node)[][]} rows
 */
export function table(caption, headings, rows) {
  const shown = rows.slice(0, MOST_ROWS);
  const rest = rows.length - shown.length;
  return el(
    "div",
    { class: "table", role: "region", "aria-label": caption, tabindex: "0" },
    el(
      "table",
      {},
      el(
        "caption",
        {},
        caption + (rest > 0 ? ` The first ${shown.length}; ${whole(rest)} more are in the JSON.` : ""),
      ),
      el("thead", {}, el("tr", {}, ...headings.map((heading) => el("th", { scope: "col" }, heading)))),
      el(
        "tbody",
        {},
        ...shown.map(([name, ...cells]) =>
          el(
            "tr",
            {},
            el("th", { scope: "row" }, named(name)),
            ...cells.map((cell) => el("td", {}, named(cell))),
          ),
        ),
      ),
    ),
  );
}

/** @param {string | number | Node} cell */
const named = (cell) => (cell instanceof Node ? cell : String(cell));

/**
 * The table of a chart, made when it is opened for the first time.
 * @param {string} summary
 * @param {() => Node} make
 */
export function folded(summary, make) {
  const details = el("details", { class: "folded" }, el("summary", {}, summary));
  details.addEventListener("toggle", () => details.open && details.append(make()), { once: true });
  return details;
}
