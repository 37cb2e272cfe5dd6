/**
 * Experts that are chosen together more often than apart.
 */

import { el, section } from "./dom.js";
import { lineChart } from "./lines.js";
import { fixed, times, whole } from "./numbers.js";
import { folded, table } from "./table.js";

/** Pairs of a layer that are listed. */
const PAIRS = 5;

/** @param {import("./model.js").View} view */
export function coactivation(view) {
  const { coactivation: found, layers, group } = view;
  if (!found) return null;
  return section(
    "coactivation",
    "Experts chosen together",
    `Lift is how often two experts are chosen for one token, over what their loads alone would give. Since a token's ${view.top_k} experts differ, no relation at all is a lift of ${fixed(found.baseline, 3)}, not 1.` +
      (group ? " A router that first chooses groups brings experts of one group together by its rule alone; such pairs have their own line." : ""),
    el(
      "div",
      { class: "columns" },
      lineChart({
        title: "Lift of pairs",
        across: "layer",
        ticks: layers,
        format: (value) => fixed(value, value < 10 ? 1 : 0),
        series: found.lines.map((line, index) => ({ ...line, hue: ["main", "3", "5", "4"][index] })).concat([
          { name: "no relation", hue: "none", kind: "baseline", values: layers.map(() => found.baseline) },
        ]),
      }),
      table(
        "The pairs with the highest lift in each layer.",
        ["layer", "experts", "lift", "tokens with both"],
        layers.flatMap((layer, row) =>
          found.pairs[row].slice(0, layers.length > 12 ? 1 : PAIRS).map(({ first, second, lift, count }) => [layer, `${first} and ${second}`, times(lift), whole(count)]),
        ),
      ),
    ),
    folded("Table: lift by layer", () =>
      table(
        "Lift of pairs by layer.",
        ["layer", ...found.lines.map(({ name }) => name), "no relation"],
        layers.map((layer, row) => [layer, ...found.lines.map(({ values }) => fixed(values[row], 3)), fixed(found.baseline, 3)]),
      ),
    ),
  );
}
