/**
 * What the sections draw, made of the document: `lens/summary.py` says what its numbers are.
 */

import { range } from "./dom.js";
import {
  cachingOf,
  coactivationOf,
  comparisonOf,
  coverageOf,
  predictionOf,
  reuseOf,
  vocabularyOf,
} from "./measures.js";
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
  const domains = summary.domains.map(({ name, tokens, sequences }) => ({ name, tokens, sequences }));
  const specialisation =
    domains.filter(({ tokens }) => tokens).length > 1 ? specialisationOf(document, shape) : null;
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
    segments: segmentsOf(summary.segments),
    balance: balanceOf(summary.balance),
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
  const has = summary.domains.map(({ tokens }) => tokens > 0);
  const pairs = range(has.length).flatMap((a) => range(a).map((b) => [b, a]));
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
      difference: serving.difference[at],
      npmi: serving.npmi[at],
      p: serving.adjusted_p[at],
    })),
    divergence: pairs
      .filter((pair) => pair.every((index) => has[index]))
      .map((pair) => ({
        pair,
        values: divergence.bits[pair[0]][pair[1]],
        floor: divergence.floor[pair[0]][pair[1]],
      })),
    divergence_floor: divergence.mean_floor,
  };
}

/** Means of layers. @param {any} found */
function balanceOf({ windows, overload, shuffled, ranks, by_rank: byRank }) {
  const column = (rows, at) => mean(rows.map((row) => row[at]));
  return {
    windows: windows.map((tokens, at) => ({
      tokens,
      overload: column(overload, at),
      shuffled: column(shuffled, at),
    })),
    ranks: ranks.map((count, at) => ({ count, overload: column(byRank, at) })),
  };
}

/** Means of layers. @param {any} found */
function segmentsOf({ lengths, sizes, covered, whole: ofAll }) {
  return {
    lengths,
    groups: sizes.map((size, at) => ({
      size,
      covered: lengths.map((_, length) => mean(covered.map((rows) => rows[length][at]))),
      whole: mean(ofAll.map((row) => row[at])),
    })),
  };
}
