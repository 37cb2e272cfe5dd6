/**
 * Experts that are chosen together more often than apart.
 */

import { el, section } from "./dom.js";
import { lineChart } from "./lines.js";
import { fixed, times, whole } from "./numbers.js";
import { folded, table } from "./table.js";

/** Pairs that are listed beside the chart. */
const LISTED = 10;

/** @param {import("./model.js").View} view */
export function coactivation(view) {
  const { coactivation: found, layers, top_k: k } = view;
  if (!found) return null;
  const lines = [...found.lines, ...found.baselines];
  const pairs = found.pairs.map(({ layer, first, second, lift, count }) => [
    `layer ${layer}: ${first} and ${second}`,
    times(lift),
    whole(count),
  ]);
  const headings = ["experts", "lift", "tokens with both"];
  const rule = found.hasGroups
    ? "This router first chooses groups, which alone gives pairs of one group a lift of " +
      `${fixed(found.within)} and pairs of two groups ${fixed(found.between)}`
    : `A token's ${k} experts differ, so that no relation at all gives ${fixed(found.within, 3)}, not 1`;
  return section(
    "coactivation",
    "Experts chosen together",
    `Lift is how often a token chooses two experts, over what their loads alone would give. ${rule}: ` +
      "dotted lines.",
    el(
      "div",
      { class: "columns" },
      lineChart({
        title: "Lift of pairs",
        across: "layer",
        ticks: layers,
        format: (value) => fixed(value, 1),
        series: lines,
      }),
      table("The pairs with the highest lift.", headings, pairs.slice(0, LISTED)),
    ),
    folded("Table: lift by layer", () =>
      table(
        "Lift of pairs by layer.",
        ["layer", ...lines.map(({ name }) => name)],
        layers.map((layer, row) => [layer, ...lines.map(({ values }) => fixed(values[row], 3))]),
      ),
    ),
    pairs.length > LISTED
      ? folded("Table: more pairs", () => table("Pairs by their lift.", headings, pairs))
      : null,
  );
}
