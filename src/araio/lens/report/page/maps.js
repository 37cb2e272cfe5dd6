/**
 * Heat maps of load: all domains together, then each of them, as it is or against all of them.
 */

import { choice } from "./controls.js";
import { el, section } from "./dom.js";
import { HeatMap } from "./heatmap.js";
import { times, whole } from "./numbers.js";
import { folded, table } from "./table.js";

/** @typedef {import("./model.js").View} View */

/** Where the scale ends: a quarter of the even share, and four times of it. */
const ENDS = 4;

/** @param {View} view */
export function maps(view) {
  let order = "id";
  let against = "uniform";
  const compared = (load, row, column) =>
    against === "uniform" || load[row][column] == null
      ? load[row][column]
      : load[row][column] / (view.pooled[row][column] || 1);
  const one = (title, hue, load, isPooled) =>
    new HeatMap({
      title,
      hue,
      aside: isPooled ? "" : undefined,
      rows: view.layers,
      rowName: "layer",
      columns: view.n_experts,
      group: view.group,
      order: () => view.orders[order],
      inOrder: () => order === "id",
      value: (row, column) => position(isPooled ? load[row][column] : compared(load, row, column)),
      say: (row, column) =>
        `Layer ${view.layers[row]}, expert ${column}: ${times(load[row][column])} the even share` +
        (isPooled ? "" : `; ${times(view.pooled[row][column])} in all domains together`),
    });
  const drawn = [
    one("All domains", null, view.pooled, true),
    ...(view.domains.length > 1
      ? view.domains.map(({ name }, index) => one(name, index, view.relative[index], false))
      : []),
  ];
  const redraw = () => drawn.forEach((map) => map.redraw());
  const sorted = choice(
    "Experts in the order of",
    {
      id: "their numbers",
      load: "load in all domains",
      ...(view.specialisation ? { domain: "domain" } : {}),
    },
    (value) => {
      order = value;
      redraw();
    },
  );
  const measured = choice(
    "A domain's load compared with",
    { uniform: "an even share", pooled: "all domains together" },
    (value) => {
      against = value;
      redraw();
    },
  );
  const grid = el("div", { class: "maps" }, ...drawn.map(({ element }) => element));
  grid.style.setProperty("--least", view.n_experts > 64 ? "44rem" : "26rem");
  return section(
    "maps",
    "Load by layer and expert",
    "A row is a layer, a cell an expert. Where a domain's map differs from that of all domains, its " +
      "tokens go to other experts. In the order of load or domain, places differ from row to row, but " +
      "are the same in all maps." +
      (view.group ? ` Lines part the ${view.n_experts / view.group} groups of the router.` : ""),
    el("div", { class: "controls" }, sorted, view.domains.length > 1 ? measured : null),
    scale(),
    grid,
    folded("Table: load of every expert, times the even share", () => loads(view)),
  );
}

/** On a scale of logarithms: even is 0, nothing known null. @param {number | null} ratio */
const position = (ratio) =>
  ratio == null ? null : Math.max(-1, Math.min(1, Math.log(Math.max(ratio, 1e-3)) / Math.log(ENDS)));

const scale = () =>
  el(
    "div",
    { class: "legend" },
    el("div", {}, `¼ or less`, el("span", { class: "ramp" }), `4 × or more`),
    el("span", {}, "in the middle: no more and no less"),
  );

/** @param {View} view */
function loads(view) {
  const rows = view.layers.flatMap((layer, row) =>
    view.pooled[row].map((load, expert) => [
      `layer ${layer}, expert ${expert}`,
      times(load),
      ...view.domains.map((_, domain) => times(view.relative[domain][row][expert])),
    ]),
  );
  const caption = `Load of ${whole(rows.length)} experts, times the even share.`;
  return table(caption, ["expert", "all", ...view.domains.map(({ name }) => name)], rows);
}
