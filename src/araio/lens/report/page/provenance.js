/**
 * What was traced, and what should be known before the numbers are believed.
 */

import { el, section } from "./dom.js";
import { whole } from "./numbers.js";
import { table } from "./table.js";

/** @param {import("./model.js").View} view */
export function provenance(view) {
  const { facts, domains } = view;
  return section(
    "provenance",
    "What was traced",
    "Experts are those that the router really chose. Tokens from the prefix cache, whose routes " +
      "nobody saw, and drafts that were thrown away are not counted.",
    el(
      "div",
      { class: "columns" },
      table(
        "Tokens and sequences by domain. Tokens of a sequence are alike, so how sure a number is " +
          "depends on the sequences.",
        ["domain", "tokens", "sequences"],
        domains.map(({ name, tokens, sequences }, index) => [
          el(
            "span",
            {},
            el("span", { class: "swatch", "data-hue": index, "aria-hidden": "true" }),
            ` ${name}`,
          ),
          whole(tokens),
          whole(sequences),
        ]),
      ),
      el(
        "dl",
        { class: "facts" },
        ...facts.flatMap(([term, text]) => [el("dt", {}, term), el("dd", {}, text)]),
      ),
    ),
  );
}

/** @param {import("./model.js").View} view */
export function warnings({ warnings: found }) {
  if (!found.length) return null;
  return section(
    "warnings",
    "To be careful with",
    found.length === 1 ? "One thing limits what this trace can say." : "These limit what this trace can say.",
    el("ul", { class: "warnings" }, ...found.map((text) => el("li", {}, text))),
  );
}
