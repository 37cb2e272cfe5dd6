/**
 * The test that settles it: accuracy when a domain's experts are taken away, against as many at random.
 */

import { whiskers } from "./bars.js";
import { el, section } from "./dom.js";
import { percent, plural, whole } from "./numbers.js";
import { table } from "./table.js";

/** @param {import("./model.js").View} view */
export function ablation(view) {
  const { ablation: found } = view;
  if (!found) return null;
  const asked = [...new Set(found.rows.map((row) => row.asked))];
  const hueOf = (removed) => {
    const index = view.domains.findIndex(({ name }) => name === removed);
    return removed === "nothing" ? "ink" : index >= 0 ? index : "none";
  };
  const words = (removed) =>
    removed === "nothing"
      ? "nothing removed"
      : removed === "random"
        ? "as many at random"
        : `those of ${removed}`;
  const charts = asked.map((domain) => {
    const rows = found.rows.filter((row) => row.asked === domain);
    return el(
      "figure",
      {},
      el("h3", { class: "chart-title" }, `Asked: ${domain}`),
      whiskers(
        rows.map(({ removed, accuracy, ci95 }) => ({
          name: words(removed),
          hue: hueOf(removed),
          value: accuracy,
          low: ci95[0],
          high: ci95[1],
          text: percent(accuracy),
        })),
        { label: `Accuracy on ${domain}`, format: percent, most: 1, names: 132, texts: 44 },
      ),
    );
  });
  return section(
    "ablation",
    "What happens without them",
    `The experts that a domain stands out by were taken away, ${found.per_layer} of ${view.n_experts} ` +
      `in each layer, and ${plural(found.n, "question")} asked of each task. If they are the domain's ` +
      "own, its accuracy falls below that of the same number taken away at random, and other domains " +
      "keep theirs.",
    el("div", { class: "columns" }, ...charts),
    table(
      "Accuracy with its 95 % Wilson interval. Random experts were drawn " +
        `${plural(found.draws, "time")}; all answers are counted together, and the lowest and highest ` +
        "draw stand behind.",
      ["removed", ...asked.map((domain) => `asked: ${domain}`)],
      [...new Set(found.rows.map((row) => row.removed))].map((removed) => [
        words(removed),
        ...asked.map((domain) =>
          cell(found.rows.find((row) => row.removed === removed && row.asked === domain)),
        ),
      ]),
    ),
  );
}

const cell = ({ n, correct, accuracy, ci95, draws }) =>
  `${percent(accuracy)} (${percent(ci95[0])} to ${percent(ci95[1])}), ${whole(correct)} of ${whole(n)}` +
  (draws ? `; ${percent(Math.min(...draws))} to ${percent(Math.max(...draws))}` : "");
