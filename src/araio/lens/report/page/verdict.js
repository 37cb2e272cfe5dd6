/**
 * The first screen: which experts serve which domain, and how sure that is.
 */

import { whiskers } from "./bars.js";
import { el } from "./dom.js";
import { HeatMap } from "./heatmap.js";
import { bits, listed, mean, percent, plural, times, whole } from "./numbers.js";

/** @typedef {import("./model.js").View} View */

/** Experts of a domain that are named on the first screen; the table further down has all. */
const NAMED = 4;
const NOBODY = "No expert serves it more than the other domains by more than chance explains.";
/** Of the information that there could be, beyond chance: as in `headline.py`. */
const STRENGTH = { little: 0.02, much: 0.2 };

/** @param {View} view */
export function verdict(view) {
  const { name, domains, layers, n_experts: n, top_k: k } = view;
  const tokens = domains.reduce((sum, domain) => sum + domain.tokens, 0);
  const sequences = domains.reduce((sum, domain) => sum + domain.sequences, 0);
  const traced =
    `${plural(tokens, "token")} in ${plural(sequences, "sequence")} of ` +
    `${listed(domains.map((domain) => domain.name))}; ${plural(layers.length, "layer")} of ${n} ` +
    `experts, ${k} of them for each token.`;
  const parts = view.specialisation ? [served(view), sure(view)] : [];
  return el(
    "section",
    { id: "verdict", class: "verdict", "aria-labelledby": "verdict-title" },
    el("h1", { id: "verdict-title" }, `${name}: ${view.headline}`),
    el("div", { class: "lead" }, el("p", {}, `Traced: ${traced}`)),
    el("div", { class: "verdict-grid" }, ...parts),
  );
}

/** @param {View} view */
function served(view) {
  const found = view.specialisation;
  const tops = view.domains.map((_, index) => mine(view, index).slice(0, NAMED));
  const most = Math.max(0.1, ...tops.flat().map(({ share, high }) => high ?? share));
  return el(
    "div",
    {},
    ...view.domains.map((domain, index) => {
      const top = tops[index];
      const all = found.named.filter((one) => one.domain === index).length;
      return el(
        "div",
        { class: "served" },
        el(
          "h3",
          {},
          el("span", { class: "swatch", "data-hue": index }),
          domain.name,
          el("small", {}, `${whole(all)} of ${whole(view.layers.length * view.n_experts)} experts serve it`),
        ),
        top.length
          ? whiskers(
              top.map(({ layer, expert, share, low, high, other }) => ({
                name: `layer ${view.layers[layer]} · expert ${expert}`,
                hue: index,
                value: share,
                low,
                high,
                mark: other,
                text: percent(share),
              })),
              { label: `Experts that serve ${domain.name}`, format: percent, most, names: 128, texts: 44 },
            )
          : el("p", {}, domain.tokens ? NOBODY : "No token of it was traced."),
      );
    }),
    found.named.length > 0 &&
      el(
        "p",
        { class: "axis-note" },
        "Share of a domain's tokens that the expert is chosen for; the line is its 95 % interval, the " +
          "upright mark the highest share in any other domain. Blind choice would give " +
          `${percent(view.top_k / view.n_experts)}.`,
      ),
  );
}

/** The highest share that an expert has in other domains. */
export function elsewhere(view, domain, layer, expert) {
  return Math.max(
    ...view.domains.map((_, other) =>
      other === domain ? 0 : view.specialisation.share[other][layer][expert],
    ),
  );
}

/** The experts that serve a domain, where it stands out most first. */
export function mine(view, domain) {
  const { named, share } = view.specialisation;
  return named
    .filter((one) => one.domain === domain)
    .map((one) => ({
      ...one,
      share: share[domain][one.layer][one.expert],
      other: elsewhere(view, domain, one.layer, one.expert),
    }))
    .sort((one, other) => other.share - other.other - (one.share - one.other));
}

/** @param {View} view */
function sure(view) {
  const { specialisation, layers } = view;
  const { information, null_high: high, p, limit, serves, alpha, divergence } = specialisation;
  const shown = p.filter((value) => value != null && value <= 0.05).length;
  const flagged = serves.flat().filter((owner) => owner !== null).length;
  const facts = [
    [
      "By chance?",
      shown === p.length
        ? `No. In every layer, knowing the expert says more of the domain than in ${percent(0.95)} of ` +
          "the shuffles of whole sequences."
        : `In ${shown} of ${plural(layers.length, "layer")} experts say more of the domain than ` +
          "shuffled sequences do; in the others not.",
    ],
    [
      "How much?",
      `${bits(mean(information))} of the ${bits(limit)} that would name the domain for certain; ` +
        `shuffled, at most ${bits(mean(high))} (mean of layers). ` +
        `${amount((mean(information) - mean(specialisation.null_mean)) / limit)}`,
    ],
    [
      "Which experts?",
      flagged
        ? `${whole(flagged)} are listed at a false discovery rate of ${percent(alpha)}: expect about ` +
          `${whole(Math.max(1, flagged * alpha))} of them to be wrong.`
        : "None passes the test over all experts together.",
    ],
  ];
  if (divergence.length) {
    const least = divergence.reduce((one, other) => (mean(other.values) < mean(one.values) ? other : one));
    facts.push([
      "Most alike",
      `${listed(least.pair.map((index) => view.domains[index].name))}: ${bits(mean(least.values))} ` +
        `apart, where two halves of one domain are ${bits(mean(least.floor))} apart.`,
    ]);
  }
  if (view.ablation) facts.push(["Needed?", needed(view)]);
  const map = new HeatMap({
    title: "Whom each expert serves",
    aside: "",
    rows: layers,
    rowName: "layer",
    columns: view.n_experts,
    group: view.group,
    order: () => view.orders.id,
    value: (row, column) =>
      serves[row][column] === null ? 0 : depthOf(view, serves[row][column], row, column),
    say: (row, column) => sayExpert(view, row, column),
    rest: "Point at an expert, or walk over the map with the arrow keys.",
  });
  return el(
    "div",
    {},
    map.element,
    shades(view),
    el("h3", {}, "How sure"),
    el(
      "dl",
      { class: "sureness" },
      ...facts.flatMap(([term, text]) => [el("dt", {}, term), el("dd", {}, text)]),
    ),
  );
}

/** Faint where the next domain uses the expert nearly as much, full from four times. */
function depthOf(view, hue, layer, expert) {
  const ratio = view.specialisation.share[hue][layer][expert] / (elsewhere(view, hue, layer, expert) || 1e-9);
  return { hue, depth: 0.2 + 0.8 * Math.min(1, Math.max(0, Math.log2(ratio) / 2)) };
}

/** @param {View} view */
const shades = ({ domains }) =>
  el(
    "ul",
    { class: "legend shades" },
    ...domains.map(({ name }, index) =>
      el("li", {}, el("span", { class: "shade", "data-hue": index, "aria-hidden": "true" }), name),
    ),
    el("li", {}, el("span", { class: "swatch", "data-hue": "even", "aria-hidden": "true" }), "none"),
    el("li", {}, "faint: barely more than the next domain; full: 4 times as much"),
  );

/** What an ablation found, domain by domain. @param {View} view */
function needed({ ablation: { rows, domains } }) {
  const right = (removed, asked) =>
    rows.find((row) => row.removed === removed && row.asked === asked).accuracy;
  const said = domains.map(
    (name) =>
      `${name} ${percent(right("nothing", name))}, without its own ${percent(right(name, name))}, ` +
      `without as many at random ${percent(right("random", name))}`,
  );
  return `Accuracy: ${said.join("; ")}.`;
}

/** @param {number} share */
const amount = (share) =>
  share < STRENGTH.little
    ? "That is very little."
    : share < STRENGTH.much
      ? "Experts lean towards domains; none is a domain's own."
      : "That is much: domains use different experts.";

/** What there is to say of one expert. @param {View} view @param {number} row @param {number} column */
export function sayExpert(view, row, column) {
  const { share, serves } = view.specialisation;
  const owner = serves[row][column];
  const shares = view.domains.map(({ name }, domain) => `${name} ${percent(share[domain][row][column])}`);
  return (
    `Layer ${view.layers[row]}, expert ` +
    `${column}${owner === null ? "" : `, serves ${view.domains[owner].name}`}. Chosen for: ` +
    `${shares.join(", ")} of tokens; ${times(view.pooled[row][column])} uniform in all.`
  );
}
