/**
 * What the sections draw, made of the document: `lens/summary.py` says what its numbers are.
 */

import { range } from "./dom.js";
import { mean, whole } from "./numbers.js";

/**
 * @typedef {object} View
 * @property {string} name
 * @property {string} headline  whether experts specialise
 * @property {[string, string][]} facts
 * @property {string[]} warnings
 * @property {number[]} layers  their numbers in the model
 * @property {number} n_experts
 * @property {number} top_k
 * @property {number} group  experts in a group of the router; 0 without groups
 * @property {{name: string, tokens: number, sequences: number}[]} domains  those that have tokens
 * @property {number[][]} pooled  (L, E) load over the even share
 * @property {number[][][]} relative  (D, L, E)
 * @property {Record<string, number[][]>} orders  which expert stands at each place of a row
 * @property {any} load
 * @property {any} specialisation
 * @property {any} vocabulary
 * @property {any} coactivation
 * @property {any} reuse
 * @property {any} caching
 * @property {any} coverage
 * @property {any} comparison
 * @property {any} ablation
 * @property {any} timeline
 * @property {any} strip
 */

/** @param {any} document @returns {View} */
export function viewOf(document) {
  const { summary } = document;
  const { header } = summary;
  const shape = { layers: summary.layers, n_experts: header.n_routed_experts, top_k: header.top_k };
  // Domains without a token have numbers of none.
  const domains = summary.domains.map(({ name, tokens, sequences }) => ({ name, tokens, sequences }));
  const specialisation = domains.length > 1 ? specialisationOf(document, shape) : null;
  const pooled = summary.load.relative;
  return {
    ...shape,
    name: document.title,
    headline: document.headline,
    facts: factsOf(summary),
    warnings: summary.cautions.map(({ text }) => `${text[0].toUpperCase()}${text.slice(1)}.`),
    group: header.n_group > 1 ? shape.n_experts / header.n_group : 0,
    domains,
    pooled,
    relative: summary.load_by_domain.relative,
    orders: ordersOf(pooled, specialisation),
    load: loadOf(summary, domains),
    specialisation,
    vocabulary: summary.words && vocabularyOf(summary.words),
    coactivation: coactivationOf(summary.coactivation, shape),
    reuse: reuseOf(summary.reuse),
    caching: cachingOf(summary.caching),
    prediction: predictionOf(summary.prediction),
    locality: summary.locality_of === "decode" ? "tokens that the model wrote" : "all tokens",
    coverage: coverageOf(summary, domains, shape),
    comparison: document.comparison && comparisonOf(document.comparison),
    ablation: document.ablation,
    timeline: document.timeline,
    strip: document.strip,
  };
}

/** @param {any} summary @returns {[string, string][]} */
function factsOf({ header, seed, tokens, tokens_known: known, drafts }) {
  const groups = header.n_group > 1 ? `, from the best ${header.topk_group} of ${header.n_group} groups` : "";
  const facts = [
    ["model", header.model],
    [
      "router",
      `${header.top_k} of ` +
        `${header.n_routed_experts}${groups}${header.scoring_func ? `, ${header.scoring_func}` : ""}`,
    ],
    ["its fingerprint", header.fingerprint],
    ["recorded by", header.engine],
    ["precision", header.precision],
    ["tokenizer", header.tokenizer],
    ["profile", header.profile],
    ["recorded", header.created],
    ["recorded with seed", header.seed],
    [
      "rows",
      `${whole(tokens)}, ${whole(known)} with routes that ` +
        `count${drafts ? `, ${whole(drafts)} drafts thrown away` : ""}`,
    ],
    ["seed of shuffles", seed],
  ];
  return /** @type {[string, string][]} */ (
    facts
      .filter(([, value]) => value !== null && value !== undefined)
      .map(([name, value]) => [name, String(value)])
  );
}

/** The mean over layers of what has one row for each. @param {(number | null)[][]} rows */
const overLayers = (rows) => range(rows[0].length).map((at) => mean(rows.map((row) => row[at])));

/** @param {number[][]} pooled @param {any} specialisation */
function ordersOf(pooled, specialisation) {
  const sorted = (key) =>
    pooled.map((row, layer) =>
      range(row.length).sort((one, other) => key(layer, one) - key(layer, other) || one - other),
    );
  const byLoad = (layer, expert) => -pooled[layer][expert];
  const owner = (layer, expert) => specialisation?.serves[layer][expert] ?? 1e3;
  return {
    id: pooled.map((row) => range(row.length)),
    load: sorted(byLoad),
    domain: sorted((layer, expert) => owner(layer, expert) * 1e6 + byLoad(layer, expert)),
  };
}

function loadOf({ load, load_by_domain: byDomain }, domains) {
  const measures = (found) => ({
    effective: found.effective_experts,
    entropy: found.entropy_scaled,
    gini: found.gini,
    gini_of_bound: found.gini_scaled,
    max_violation: found.imbalance,
  });
  const one = (index) =>
    Object.fromEntries(Object.entries(measures(byDomain)).map(([name, rows]) => [name, rows[index]]));
  return { pooled: measures(load), unseen: load.unused, domains: domains.map((_, index) => one(index)) };
}

function specialisationOf({ summary, serving }, { n_experts: n, top_k: k }) {
  const { information, divergence, domain_use: use } = summary;
  const rate = (relative) => (relative == null ? null : (relative * k) / n);
  const pairs = range(use.relative.length).flatMap((a) => range(a).map((b) => [b, a]));
  return {
    information: information.bits,
    null_mean: information.null_mean,
    null_high: information.null_high,
    p: information.p,
    limit: information.most,
    share: use.relative.map((rows) => rows.map((row) => row.map(rate))),
    serves: use.serves.map((row) => row.map((domain) => (domain < 0 ? null : domain))),
    alpha: use.rate,
    named: serving.domain.map((domain, at) => ({
      domain,
      layer: serving.layer[at],
      expert: serving.expert[at],
      low: rate(serving.low[at]),
      high: rate(serving.high[at]),
      p: serving.adjusted_p[at],
    })),
    divergence: pairs.map((pair) => ({
      pair,
      values: divergence.bits[pair[0]][pair[1]],
      floor: divergence.floor[pair[0]][pair[1]],
    })),
    divergence_floor: divergence.mean_floor,
  };
}

function vocabularyOf(found) {
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

function coactivationOf(found, { layers }) {
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

function reuseOf(found) {
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

function cachingOf({ capacities, hits, shuffled }) {
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
const predictionOf = ({ guessed, recall, foreign }) => ({
  guessed,
  guesses: Object.keys(recall).map((name) => ({
    name,
    recall: overLayers(recall[name]),
    foreign: overLayers(foreign[name]),
  })),
});

/** Curves of experts kept for one domain and asked by it or another. */
function coverageOf({ coverage, coverage_curve: { kept, covered } }, domains, { n_experts: n }) {
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

function comparisonOf({ name, tokens, jaccard, overlap, first, identical, whole_path: path }) {
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
