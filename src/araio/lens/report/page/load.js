/**
 * How evenly experts are used, layer by layer.
 */

import { el, section } from "./dom.js";
import { lineChart } from "./lines.js";
import { fixed, mean, percent, times, whole } from "./numbers.js";
import { folded, table } from "./table.js";

/** @param {import("./model.js").View} view */
export function load(view) {
  const { load: found, layers, n_experts: n, top_k: k } = view;
  const effective = mean(found.pooled.effective) ?? 0;
  const busiest = Math.max(...found.pooled.max_violation) + 1;
  const unseen = found.unseen.reduce((sum, count) => sum + count, 0);
  const series = (measure) => [
    ...(view.domains.length > 1
      ? view.domains.map(({ name }, index) => ({ name, hue: index, values: found.domains[index][measure] }))
      : []),
    { name: "all", hue: "ink", values: found.pooled[measure] },
  ];
  return section(
    "load",
    "Load and balance",
    [
      `All domains together, a layer works as if it had ${fixed(effective, 1)} experts of the same ` +
        `use, of ${n}. The busiest has ${times(busiest)} the even share.` +
        (unseen ? ` ${whole(unseen)} were never chosen.` : " Every expert was chosen at least once."),
    ],
    el(
      "div",
      { class: "columns" },
      lineChart({
        title: "Experts at work (2 to the power of entropy)",
        across: "layer",
        ticks: layers,
        format: (value) => fixed(value, 0),
        most: n,
        series: [
          ...series("effective"),
          { name: `all ${n}`, hue: "none", kind: "bound", values: layers.map(() => n) },
        ],
      }),
      lineChart({
        title: "Gini coefficient: 0 even",
        across: "layer",
        ticks: layers,
        format: (value) => fixed(value, 2),
        series: [
          ...series("gini"),
          ...(view.isGiniBoundShown
            ? [
                {
                  name: `the most that ${k} of ${n} allow`,
                  hue: "none",
                  kind: "bound",
                  values: layers.map(() => 1 - k / n),
                },
              ]
            : []),
        ],
      }),
    ),
    table(
      "All domains together, by layer. Overload is the busiest expert's load over the even share, " +
        "less one (MaxVio).",
      [
        "layer",
        "experts at work",
        "entropy, 0 to 1",
        "Gini",
        "Gini of its bound",
        "overload",
        "never chosen",
      ],
      layers.map((layer, row) => [
        layer,
        fixed(found.pooled.effective[row], 1),
        fixed(found.pooled.entropy[row], 3),
        fixed(found.pooled.gini[row], 3),
        percent(found.pooled.gini_of_bound[row]),
        fixed(found.pooled.max_violation[row], 2),
        whole(found.unseen[row]),
      ]),
    ),
    folded("Table: shorter stretches of text, and ranks that share the experts", () =>
      balanceTables(view.balance),
    ),
    view.domains.length > 1
      ? folded("Table: the same by domain", () =>
          table(
            "By domain and layer.",
            ["domain, layer", "experts at work", "Gini", "overload"],
            view.domains.flatMap(({ name }, index) =>
              layers.map((layer, row) => [
                `${name}, ${layer}`,
                fixed(found.domains[index].effective[row], 1),
                fixed(found.domains[index].gini[row], 3),
                fixed(found.domains[index].max_violation[row], 2),
              ]),
            ),
          ),
        )
      : null,
  );
}

/** @param {import("./model.js").View["balance"]} balance */
function balanceTables({ windows, ranks }) {
  return el(
    "div",
    {},
    table(
      "Overload of the busiest expert within so many consecutive tokens, beside the same tokens in random " +
        "order: few tokens are uneven by chance alone. Mean of windows and layers.",
      ["tokens", "overload", "shuffled"],
      windows.map(({ tokens, overload, shuffled }) => [tokens, fixed(overload, 2), fixed(shuffled, 2)]),
    ),
    table(
      "Overload of the busiest of so many ranks, each with as many consecutive experts; mean of layers.",
      ["ranks", "overload"],
      ranks.map(({ count, overload }) => [count, fixed(overload, 2)]),
    ),
  );
}
