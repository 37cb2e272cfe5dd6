/**
 * The cache of a streamed model while it ran: which layers had to wait for the disk, and when.
 */

import { el, section } from "./dom.js";
import { HeatMap } from "./heatmap.js";
import { lineChart } from "./lines.js";
import { bytes, percent, plural, whole } from "./numbers.js";
import { folded, table } from "./table.js";

/** @param {import("./model.js").View} view */
export function timeline(view) {
  const { timeline: found } = view;
  if (!found) return null;
  const bins = found.starts.length;
  const most = Math.max(1, ...found.misses.flat());
  const map = new HeatMap({
    title: "Misses",
    rows: found.layers,
    rowName: "layer",
    columns: bins,
    order: () => found.layers.map(() => found.starts.map((_, at) => at)),
    inOrder: () => false,
    value: (row, at) => found.misses[row][at] / most,
    say: (row, at) =>
      `Layer ${found.layers[row]}, from token ${whole(found.starts[at])}: ` +
      `${whole(found.misses[row][at])} ${found.misses[row][at] === 1 ? "miss" : "misses"}, ` +
      `${plural(found.hits[row][at], "hit")}`,
    rest:
      `From left to right ${plural(found.tokens, "token")} in the order in which they ran; the ` +
      `brightest cell is ${whole(most)} misses in ${plural(found.step, "token")}.`,
  });
  return section(
    "timeline",
    "The cache while it ran",
    `${percent(found.hit_rate)} of choices found their expert in memory; ${bytes(found.bytes)} were ` +
      "read for the others.",
    map.element,
    el(
      "div",
      { class: "columns" },
      lineChart({
        title: "Hits so far",
        across: "token",
        ticks: found.starts,
        isSpaced: true,
        format: percent,
        most: 1,
        series: [{ name: "running hit rate", hue: "main", values: found.running }],
      }),
    ),
    folded("Table: the cache over time", () =>
      table(
        "Hits, misses and bytes read, by time.",
        ["from token", "hits", "misses", "hit rate so far", "read"],
        found.starts.map((start, at) => [
          whole(start),
          whole(sum(found.hits, at)),
          whole(sum(found.misses, at)),
          percent(found.running[at]),
          bytes(found.read[at]),
        ]),
      ),
    ),
  );
}

/** @param {number[][]} rows @param {number} at */
const sum = (rows, at) => rows.reduce((total, row) => total + row[at], 0);
