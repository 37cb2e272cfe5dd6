/**
 * Whether the next token uses the same experts again, and what a cache of experts makes of it.
 */

import { el, section } from "./dom.js";
import { lineChart } from "./lines.js";
import { fixed, percent } from "./numbers.js";
import { folded, table } from "./table.js";

/** @typedef {import("./model.js").View} View */

/** @param {View} view */
export function locality(view) {
  const { reuse, caching } = view;
  return section(
    "locality",
    "Reuse and caches",
    [reuseWords(view), cacheWords(view)],
    el("div", { class: "columns" }, reuseChart(view), cacheChart(view)),
    folded("Table: reuse", () =>
      table(
        "Share of a token's experts that the token so many before it used as well; mean of layers.",
        ["tokens before", "measured", "same loads, no memory", "even loads"],
        reuse.lags.map((lag, at) => [
          lag,
          percent(reuse.overlap[at]),
          percent(reuse.marginal[at]),
          percent(reuse.uniform),
        ]),
      ),
    ),
    folded("Table: hit rates", () =>
      table(
        "Share of choices that find their expert in a cache of so many experts a layer; mean of layers.",
        ["experts kept", ...caching.policies.map(({ name }) => name)],
        caching.capacities.map((capacity, at) => [
          capacity,
          ...caching.policies.map(({ values }) => percent(values[at])),
        ]),
      ),
    ),
    unionTable(view),
    segmentTable(view),
    predictionTable(view),
  );
}

/** @param {View} view */
function reuseChart({ reuse }) {
  const flat = (value) => reuse.lags.map(() => value);
  return lineChart({
    title: "Experts used again",
    across: "tokens before",
    ticks: reuse.lags,
    format: percent,
    series: [
      { name: "measured", hue: "main", values: reuse.overlap },
      { name: "same loads, no memory", hue: "none", kind: "bound", values: reuse.marginal },
      { name: "even loads", hue: "none", kind: "baseline", values: flat(reuse.uniform) },
    ],
  });
}

/** @param {View} view */
function cacheChart({ caching }) {
  return lineChart({
    title: "Hits of a cache",
    across: "experts kept in each layer",
    ticks: caching.capacities,
    isSpaced: true,
    format: percent,
    most: 1,
    series: caching.policies,
  });
}

/** @param {View} view */
function reuseWords({ reuse, locality: of }) {
  const next = reuse.overlap[0];
  return (
    `The token before used ${percent(next)} of a token's experts as well; with the same loads and no ` +
    `memory it would be ${percent(reuse.marginal[0])}, with even loads ${percent(reuse.uniform)}. ` +
    `Counted within sequences, of ${of}.`
  );
}

/** @param {View} view */
function cacheWords({ caching, n_experts: n }) {
  const half = caching.capacities.reduce(
    (best, capacity, at) =>
      Math.abs(capacity - n / 2) < Math.abs(caching.capacities[best] - n / 2) ? at : best,
    0,
  );
  const said = caching.policies.map(({ name, values }) => `${name} ${percent(values[half])}`);
  return (
    `With ${caching.capacities[half]} of ${n} experts a layer in memory, choices find theirs there: ` +
    `${said.join("; ")}. Optimal knows the future and is out of reach; shuffled has the same loads and ` +
    "no order."
  );
}

/** @param {View} view */
function unionTable({ reuse, n_experts: n }) {
  return folded("Table: experts that consecutive tokens need together", () =>
    table(
      "Different experts of a layer that so many consecutive tokens choose; mean of layers.",
      ["tokens", "experts", `of ${n}`, "even loads"],
      reuse.union.map(({ tokens, experts, uniform }) => [
        tokens,
        fixed(experts, 1),
        percent(experts / n),
        fixed(uniform, 1),
      ]),
    ),
  );
}

/** @param {View} view */
const segmentTable = ({ segments: { lengths, groups }, n_experts: n }) =>
  folded("Table: what a few experts would serve, chosen with hindsight", () =>
    table(
      "Share of choices that the best group of so many experts of a layer covers, chosen anew for each " +
        "stretch of so many tokens, or once for the whole text; mean of layers.",
      ["experts", `of ${n}`, ...lengths.map((length) => `${length} tokens`), "whole text"],
      groups.map(({ size, covered, whole: ofAll }) => [
        size,
        percent(size / n),
        ...covered.map(percent),
        percent(ofAll),
      ]),
    ),
  );

/** @param {View} view */
const predictionTable = ({ prediction: { guessed, guesses } }) =>
  folded("Table: how well the next layer's experts can be guessed", () =>
    table(
      "Share of a token's experts among so many guessed ones; mean of layers. What is learned is " +
        "tried on sequences it was not learned from, and in brackets on a domain that it has never seen.",
      ["guess", ...guessed.map((size) => `${size} guessed`)],
      guesses.map(({ name, recall, foreign }) => [
        name,
        ...recall.map(
          (share, at) => percent(share) + (foreign[at] == null ? "" : ` (${percent(foreign[at])})`),
        ),
      ]),
    ),
  );
