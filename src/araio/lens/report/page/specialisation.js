/**
 * How much experts tell of the domain, how much of the token, and each expert that serves one domain.
 */

import { el, section } from "./dom.js";
import { lineChart } from "./lines.js";
import { bits, chance, fixed, mean, percent, whole } from "./numbers.js";
import { folded, table } from "./table.js";
import { mine } from "./verdict.js";

/** @typedef {import("./model.js").View} View */

/** @param {View} view */
export function specialisation(view) {
  const { specialisation: found, vocabulary, layers, domains } = view;
  if (!found) return null;
  const charts = [
    lineChart({
      title: "What the expert tells of the domain, in bits",
      across: "layer",
      ticks: layers,
      format: (value) => fixed(value, 2),
      series: [
        { name: "measured", hue: "main", values: found.information },
        { name: "sequences shuffled, 95 % below", hue: "none", kind: "baseline", values: found.null_high },
      ],
    }),
    lineChart({
      title: "How far apart two domains are (JSD, in bits)",
      across: "layer",
      ticks: layers,
      format: (value) => fixed(value, 2),
      series: [
        ...found.divergence.map(({ pair, values }, index) => ({
          name: pairName(view, pair),
          hue: index + 3,
          values,
        })),
        { name: "two halves of one domain", hue: "none", kind: "baseline", values: found.divergence_floor },
      ],
    }),
  ];
  return section(
    "specialisation",
    "Specialisation by domain and by token",
    [
      `Knowing which expert was chosen tells ${bits(mean(found.information))} of the domain (mean of ` +
        `layers; ${bits(found.limit)} would name it). Shuffling which sequence belongs to which domain ` +
        "shows what chance alone gives; splitting one domain's sequences in two shows how far apart " +
        "equals are.",
      vocabulary ? vocabularyWords(vocabulary) : null,
    ].filter(Boolean),
    el("div", { class: "columns" }, ...charts),
    table(
      "By layer: what the expert tells, beside what chance gives. p is the share of shuffles that " +
        "tell at least as much.",
      ["layer", "tells of the domain", "shuffled, mean", "shuffled, 95 % below", "chance"],
      layers.map((layer, row) => [
        layer,
        bits(found.information[row]),
        bits(found.null_mean[row]),
        bits(found.null_high[row]),
        chance(found.p[row]),
      ]),
    ),
    vocabulary
      ? folded("Table: what experts tell of tokens", () => vocabularyTable(vocabulary, layers))
      : null,
    folded("Table: how far apart domains are", () =>
      table(
        "Jensen-Shannon divergence of two domains in bits, between the halves of one as the floor; " +
          "mean of layers.",
        ["domains", "apart", "floor", "above the floor"],
        found.divergence.map(({ pair, values, floor }) => [
          pairName(view, pair),
          bits(mean(values)),
          bits(mean(floor)),
          bits(mean(values) - mean(floor)),
        ]),
      ),
    ),
    folded("Table: every expert that serves a domain", () =>
      table(
        "Share of the domain's tokens that choose the expert, with its 95 % interval from drawing " +
          "whole sequences again; the difference is that to the mean share of the other domains, and nPMI " +
          "is 1 where expert and domain are never without each other, 0 where they know nothing of it.",
        [
          "expert",
          "serves",
          "share",
          "95 % interval",
          "highest elsewhere",
          "difference",
          "nPMI",
          "adjusted p",
        ],
        domains.flatMap(({ name }, index) =>
          mine(view, index).map(({ layer, expert, share, low, high, other, difference, npmi, p }) => [
            `layer ${layers[layer]}, expert ${expert}`,
            name,
            percent(share),
            `${percent(low)} to ${percent(high)}`,
            percent(other),
            percent(difference),
            fixed(npmi, 2),
            fixed(p, 4),
          ]),
        ),
      ),
    ),
  );
}

const pairName = (view, pair) => pair.map((index) => view.domains[index].name).join(" · ");

/** @param {any} found */
function vocabularyWords(found) {
  const [token, token_null, rest, rest_null] = [
    found.token,
    found.token_null,
    found.domain,
    found.domain_null,
  ].map(mean);
  if (token == null) return null;
  const words = `Of the token itself the expert tells ${bits(token)}, where ${bits(token_null)} is chance.`;
  if (rest == null) return words;
  return (
    `${words} Once the token is known, it still tells ${bits(rest)} of the domain (chance: ` +
    `${bits(rest_null)}): that part is about the subject and not about its words.`
  );
}

/** @param {any} found @param {number[]} layers */
const vocabularyTable = (found, layers) =>
  table(
    `Of ${whole(found.kinds)} tokens of the vocabulary that occur often enough, ` +
      `${percent(found.covered)} of the text. Chance deals tokens anew to positions, or domains to ` +
      "sequences.",
    [
      "layer",
      "tells of the token",
      "chance",
      "of the domain, token known",
      "chance",
      "a token's most frequent expert",
      "chance",
    ],
    layers.map((layer, row) => [
      layer,
      ...[found.token, found.token_null, found.domain, found.domain_null].map((values) => bits(values[row])),
      percent(found.share[row]),
      percent(found.share_null[row]),
    ]),
  );
