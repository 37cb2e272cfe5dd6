/**
 * How much of a domain's work a part of the experts would do.
 */

import { choice } from "./controls.js";
import { el, section } from "./dom.js";
import { lineChart } from "./lines.js";
import { percent } from "./numbers.js";
import { table } from "./table.js";

/** @typedef {import("./model.js").View} View */

const MEASURES = { count: "choices", gate: "weight", whole: "tokens with all of theirs, in a layer" };

/** @param {View} view */
export function coverage(view) {
  const { coverage: found, domains } = view;
  if (!found) return null;
  let measure = "count";
  const frame = el("div");
  const draw = () =>
    frame.replaceChildren(
      lineChart({
        title: `Share of ${MEASURES[measure]} that kept experts cover`,
        across: "share of the experts that is kept in each layer",
        ticks: found.shares.map((share) => percent(share)),
        format: percent,
        most: 1,
        series: found.curves
          .filter((curve) => curve[measure])
          .map((curve) => ({ name: curve.name, hue: curve.hue, kind: curve.kind, values: curve[measure] })),
      }),
    );
  const known = Object.fromEntries(Object.entries(MEASURES).filter(([name]) => found.curves.some((curve) => curve[name])));
  const chosen = choice("Share of", known, (value) => {
    measure = value;
    draw();
  });
  draw();
  return section(
    "coverage",
    "What a part of the experts covers",
    `For each domain the experts that it chooses most are kept. A profile that covers most choices still changes most tokens: all of a token's experts must be kept, in every layer, for nothing to change. What that costs in accuracy, coverage does not say${domains.length > 1 ? "; and experts kept for one domain cover less of another" : ""}.`,
    el("div", { class: "controls" }, chosen),
    el("div", { class: "columns" }, frame, coverageTable(found)),
  );
}

/** @param {NonNullable<View["coverage"]>} found */
function coverageTable(found) {
  return table(
    "Mean of layers.",
    ["kept", "kept for → asked", "choices", "weight", "tokens whole"],
    found.shares.flatMap((share, at) =>
      found.curves.map((curve) => [
        percent(share),
        curve.name,
        percent(curve.count?.[at]),
        percent(curve.gate?.[at]),
        percent(curve.whole?.[at]),
      ]),
    ),
  );
}
