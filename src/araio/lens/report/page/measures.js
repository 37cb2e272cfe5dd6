/**
 * What the sections on tokens, pairs, reuse, caches and coverage draw: means over layers, in words.
 */

import { range } from "./dom.js";
import { mean } from "./numbers.js";

/** The mean over layers of what has one row for each. @param {(number | null)[][]} rows */
const overLayers = (rows) => range(rows[0].length).map((at) => mean(rows.map((row) => row[at])));

export function vocabularyOf(found) {
  return {
    token: found.token_bits,
    token_null: found.token_null,
    domain: found.domain_bits,
    domain_null: found.domain_null,
    share: found.share,
    share_null: found.share_null,
    kinds: found.kinds,
    covered: found.covered,
  };
}

export function coactivationOf(found, { layers }) {
  const hasGroups = found.between.some((value) => value != null);
  const flat = (value) => layers.map(() => value);
  return {
    hasGroups,
    lines: [
      { name: hasGroups ? "pairs of one group" : "all pairs", hue: "main", values: found.within },
      ...(hasGroups ? [{ name: "pairs of two groups", hue: "3", values: found.between }] : []),
      { name: "99 % of pairs below", hue: "5", values: found.quantiles.map((row) => row[4]) },
    ],
    baselines: [
      {
        name: hasGroups ? "one group, by the rule alone" : "no relation",
        hue: "main",
        kind: "baseline",
        values: flat(found.within_structural),
      },
      ...(hasGroups
        ? [
            {
              name: "two groups, by the rule alone",
              hue: "3",
              kind: "baseline",
              values: flat(found.between_structural),
            },
          ]
        : []),
    ],
    within: found.within_structural,
    between: found.between_structural,
    pairs: found.top,
  };
}

export function reuseOf(found) {
  return {
    lags: found.lags,
    overlap: overLayers(found.overlap),
    marginal: found.lags.map(() => mean(found.overlap_same)),
    uniform: found.overlap_uniform,
    union: found.runs.map((tokens, at) => ({
      tokens,
      experts: mean(found.union.map((row) => row[at])),
      uniform: found.union_uniform[at],
    })),
  };
}

/** Rules of what leaves a cache. */
const RULE_WORDS = {
  lru: "least recently used",
  lfu: "least often used",
  fading: "least often used, fading",
  optimal: "optimal",
};
/** As many sizes are drawn. */
const SIZES = 24;

export function cachingOf({ capacities, hits, shuffled }) {
  const step = Math.max(1, Math.ceil(capacities.length / SIZES));
  const some = range(capacities.length).filter((at) => at % step === 0 || at === capacities.length - 1);
  const curve = (rows) => {
    const means = overLayers(rows);
    return some.map((at) => means[at]);
  };
  const rules = Object.keys(hits);
  return {
    capacities: some.map((at) => capacities[at]),
    policies: [
      ...rules.map((rule, index) => ({
        name: RULE_WORDS[rule] ?? rule,
        hue: rule === "optimal" ? "ink" : ["main", "3", "5"][index],
        kind: rule === "optimal" ? "bound" : undefined,
        values: curve(hits[rule]),
      })),
      {
        name: "least recently used, tokens shuffled",
        hue: "none",
        kind: "baseline",
        values: curve(shuffled.lru ?? shuffled[rules[0]]),
      },
    ],
  };
}

/** How often guesses name experts, mean of layers. */
export const predictionOf = ({ guessed, recall, foreign }) => ({
  guessed,
  guesses: Object.keys(recall).map((name) => ({
    name,
    recall: overLayers(recall[name]),
    foreign: overLayers(foreign[name]),
  })),
});

/** Curves of experts kept for one domain and asked by it or another. */
export function coverageOf({ coverage, coverage_curve: { kept, covered } }, domains, { n_experts: n }) {
  const several = domains.length > 1;
  const curve = (a, b) => covered.map((rows) => rows[a][b]);
  const others = (a) => covered.map((rows) => mean(rows[a].filter((_, b) => b !== a)));
  return {
    kept,
    shares: kept.map((size) => size / n),
    curves: domains.flatMap(({ name }, index) => [
      { name: several ? `${name}, its own` : name, hue: index, values: curve(index, index) },
      ...(several
        ? [{ name: `the same, others asked`, hue: index, kind: "baseline", values: others(index) }]
        : []),
    ]),
    halves: domains.map(({ name }, index) => ({
      name,
      kept: mean(coverage.kept[index]),
      choices: mean(coverage.choices[index]),
      weight: mean(coverage.weight[index]),
      inside: mean(coverage.all_inside[index]),
      path: coverage.whole_path[index],
    })),
  };
}

export function comparisonOf({ name, tokens, jaccard, overlap, first, identical, whole_path: path }) {
  return {
    name,
    tokens,
    path,
    kept: overlap,
    lines: [
      { name: "experts of both", hue: "main", values: overlap },
      { name: "of both, over those of either (Jaccard)", hue: "3", values: jaccard },
      { name: "the same first expert", hue: "5", values: first },
      { name: "all the same", hue: "4", values: identical },
    ],
  };
}
