/**
 * The same tokens through another model, or the same one in another precision: which experts stayed.
 */

import { el, section } from "./dom.js";
import { lineChart } from "./lines.js";
import { mean, percent, plural } from "./numbers.js";
import { table } from "./table.js";

/** @param {import("./model.js").View} view */
export function comparison(view) {
  const { comparison: found, layers } = view;
  if (!found) return null;
  return section(
    "comparison",
    `Beside ${found.name}`,
    `${plural(found.tokens, "token")} are in both traces. Of a token's experts in a layer, ` +
      `${percent(mean(found.kept))} are the same (mean of layers); ${percent(found.path)} of tokens ` +
      "have the same experts in every layer.",
    el(
      "div",
      { class: "columns" },
      lineChart({
        title: "Experts that both chose",
        across: "layer",
        ticks: layers,
        format: percent,
        most: 1,
        series: found.lines,
      }),
      table(
        "By layer.",
        ["layer", ...found.lines.map(({ name }) => name)],
        layers.map((layer, row) => [layer, ...found.lines.map(({ values }) => percent(values[row]))]),
      ),
    ),
  );
}
