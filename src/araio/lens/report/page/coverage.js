/**
 * How much of a domain's work a part of the experts would do.
 */

import { el, section } from "./dom.js";
import { lineChart } from "./lines.js";
import { percent } from "./numbers.js";
import { folded, table } from "./table.js";

const FOREIGN =
  " The dotted lines are other domains with the same experts: how far they lie below is what a profile of " +
  "the wrong domain costs.";

/** @param {import("./model.js").View} view */
export function coverage(view) {
  const { coverage: found, n_experts: n, top_k: k, domains } = view;
  if (!found) return null;
  const ticks = found.shares.map((share) => percent(share));
  return section(
    "coverage",
    "What a part of the experts covers",
    [
      "For each domain the experts are kept that half of its sequences choose most, and tried on the other " +
        `half.${domains.length > 1 ? FOREIGN : ""}`,
      `Choices that are covered are not tokens that stay the same: a token needs all its ${k} ` +
        `experts, in all ${view.layers.length} layers. What it costs in accuracy must be measured: ` +
        "araio profile eval does.",
    ],
    el(
      "div",
      { class: "columns" },
      lineChart({
        title: "Choices that kept experts cover",
        across: `share of the ${n} experts of a layer that is kept`,
        ticks,
        format: percent,
        most: 1,
        series: [...found.curves, { name: "even loads", hue: "none", kind: "bound", values: found.shares }],
      }),
      table(
        "A domain's own most used half of the experts, on the tokens by which they were chosen.",
        ["domain", "choices", "weight", "tokens whole in a layer", "in all layers"],
        found.halves.map(({ name, choices, weight, inside, path }) => [
          name,
          percent(choices),
          percent(weight),
          percent(inside),
          percent(path),
        ]),
      ),
    ),
    folded("Table: covered choices", () =>
      table(
        "Share of choices that are covered; mean of layers.",
        ["kept", ...found.curves.map(({ name }) => name)],
        found.kept.map((size, at) => [
          `${size} of ${n}`,
          ...found.curves.map(({ values }) => percent(values[at])),
        ]),
      ),
    ),
  );
}
