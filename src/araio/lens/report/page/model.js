/**
 * What the sections draw, made of the document: `lens/summary.py` says what its numbers are.
 */

import { range } from "./dom.js";
import { mean } from "./numbers.js";

/**
 * @typedef {object} View
 * @property {string} name
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
  const { trace } = summary;
  const shape = { layers: trace.layers, n_experts: trace.n_experts, top_k: trace.top_k };
  const domains = trace.domains.map((name, index) => ({
    name,
    tokens: trace.tokens[index],
    sequences: trace.sequences[index],
  }));
  const pooled = summary.load.relative;
  const specialisation = specialisationOf(document, shape);
  return {
    ...shape,
    name: document.title,
    facts: document.facts,
    warnings: summary.warnings,
    group: trace.n_group > 1 ? trace.n_experts / trace.n_group : 0,
    domains,
    pooled,
    relative: summary.domain_load.relative,
    orders: ordersOf(pooled, specialisation),
    load: loadOf(summary, domains),
    specialisation,
    vocabulary: summary.vocabulary && vocabularyOf(summary.vocabulary),
    coactivation: summary.coactivation && coactivationOf(summary.coactivation, shape),
    reuse: summary.reuse && reuseOf(summary.reuse),
    caching: summary.caching && cachingOf(summary.caching),
    coverage: summary.coverage && coverageOf(summary.coverage, domains, shape),
    comparison: document.comparison && comparisonOf(document.comparison),
    ablation: document.ablation,
    timeline: document.timeline,
    strip: document.strip,
  };
}

/** The mean over layers of what has one row for each. @param {(number | null)[][]} rows */
const overLayers = (rows) => range(rows[0].length).map((at) => mean(rows.map((row) => row[at])));

/** @param {number[][]} pooled @param {any} specialisation */
function ordersOf(pooled, specialisation) {
  const sorted = (key) =>
    pooled.map((row, layer) => range(row.length).sort((one, other) => key(layer, one) - key(layer, other) || one - other));
  const byLoad = (layer, expert) => -pooled[layer][expert];
  const owner = (layer, expert) => specialisation?.serves[layer][expert] ?? 1e3;
  return {
    id: pooled.map((row) => range(row.length)),
    load: sorted(byLoad),
    domain: sorted((layer, expert) => owner(layer, expert) * 1e6 + byLoad(layer, expert)),
  };
}

function loadOf({ load, domain_load: byDomain }, domains) {
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

function specialisationOf({ summary, experts }, { n_experts: n, top_k: k }) {
  const { information, divergence, domain_use: use } = summary;
  if (!information || !use) return null;
  const pairs = range(use.relative.length).flatMap((a) => range(a).map((b) => [b, a]));
  return {
    information: information.bits,
    null_mean: information.null_mean,
    null_high: information.null_high,
    p: information.p,
    limit: information.most,
    share: use.relative.map((rows) => rows.map((row) => row.map((value) => (value * k) / n))),
    serves: use.serves.map((row) => row.map((domain) => (domain < 0 ? null : domain))),
    alpha: use.rate,
    named: experts.domain.map((domain, at) => ({
      domain,
      layer: experts.layer[at],
      expert: experts.expert[at],
      low: experts.low[at],
      high: experts.high[at],
      p: experts.adjusted_p[at],
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
      { name: hasGroups ? "one group, by the rule alone" : "no relation", hue: "main", kind: "baseline", values: flat(found.within_structural) },
      ...(hasGroups ? [{ name: "two groups, by the rule alone", hue: "3", kind: "baseline", values: flat(found.between_structural) }] : []),
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

/** Rules of what leaves a cache, in words. */
const RULES = { lru: "least recently used", lfu: "least often used", decayed_lfu: "the same, fading", optimal: "optimal" };
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
        name: RULES[rule] ?? rule,
        hue: rule === "optimal" ? "ink" : ["main", "3", "5"][index],
        kind: rule === "optimal" ? "bound" : undefined,
        values: curve(hits[rule]),
      })),
      { name: "least recently used, tokens shuffled", hue: "none", kind: "baseline", values: curve(shuffled.lru ?? shuffled[rules[0]]) },
    ],
  };
}

/** Curves of experts kept for one domain and asked by it or another. */
function coverageOf({ kept, covered }, domains, { n_experts: n }) {
  const several = domains.length > 1;
  const curve = (a, b) => covered.map((rows) => rows[a][b]);
  const others = (a) =>
    covered.map((rows) => mean(rows[a].filter((_, b) => b !== a)));
  return {
    kept,
    shares: kept.map((size) => size / n),
    curves: domains.flatMap(({ name }, index) => [
      { name: several ? `${name}, its own` : name, hue: index, values: curve(index, index) },
      ...(several ? [{ name: `kept for ${name}, others asked`, hue: index, kind: "baseline", values: others(index) }] : []),
    ]),
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
