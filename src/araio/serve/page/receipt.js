/**
 * What an answer took, as the server counted it: in a line below the answer, and in full beside it. A
 * modelled number never looks like a measured one: it has a `~`, its range and the word.
 */

import { el } from "./dom.js";
import { reasoningTokens } from "./conversation.js";
import { money, parameters, percent, plural, quantity, seconds } from "./units.js";

/** @typedef {import("./conversation.js").Answer} Answer */

/** @param {any} receipt */
const isModelled = (receipt) => String(receipt.joules_method ?? "").startsWith("model:");

/** @param {any} receipt @param {number} value @param {string} unit */
const energy = (receipt, value, unit) => `${isModelled(receipt) ? "~" : ""}${quantity(value, unit)}`;

/** @param {any} receipt */
const wholeSeconds = (receipt) => receipt.queue_s + receipt.prefill_s + receipt.decode_s;

/** How many different experts its tokens were given to. @param {Answer} answer */
export function expertsUsed(answer) {
  const seen = new Set();
  for (const { experts } of answer.tokens)
    experts.forEach((ids, row) => ids.forEach((id) => seen.add(row * 65536 + id)));
  return seen.size;
}

/** The receipt in a line. @param {Answer} answer @returns {string} */
export function receiptLine(answer) {
  const receipt = answer.usage?.araio;
  if (!receipt) return answer.tokens.length ? plural(answer.tokens.length, "token") : "";
  return [
    plural(answer.usage.completion_tokens, "token"),
    seconds(wholeSeconds(receipt) * 1000),
    `${percent(receipt.parameters_active / receipt.parameters_total)} of parameters active`,
    energy(receipt, receipt.joules, "J"),
  ].join(" · ");
}

/**
 * The whole receipt.
 * @param {Answer} answer @param {{layers: number[], n_experts: number}} shape
 * @returns {Element}
 */
export function receiptTable(answer, shape) {
  const receipt = answer.usage?.araio;
  if (!receipt) return el("p", { class: "faint" }, "This answer ended before its receipt was made.");
  const active = receipt.parameters_active / receipt.parameters_total;
  return el(
    "div",
    {},
    figure(
      parameters(receipt.parameters_active),
      `of ${parameters(receipt.parameters_total)} parameters for a token`,
      percent(active),
      active,
    ),
    figure(
      quantity(receipt.flops, "FLOP"),
      `of ${quantity(receipt.flops_dense, "FLOP")} if dense`,
      `${(receipt.flops_dense / receipt.flops).toFixed(1)}× fewer`,
      receipt.flops / receipt.flops_dense,
    ),
    el(
      "dl",
      { class: "figures" },
      ...rows(answer, receipt, shape).flatMap(([label, value, note]) => [
        el("dt", {}, label),
        el("dd", {}, el("span", { class: "value" }, value), note && el("span", { class: "note" }, note)),
      ]),
    ),
  );
}

/**
 * A number, what it is a part of, and the part as a bar.
 * @param {string} value @param {string} whole @param {string} part @param {number} share
 */
function figure(value, whole, part, share) {
  const bar = el("div", { class: "bar", "aria-hidden": "true" }, el("i"));
  bar.style.setProperty("--share", String(share));
  return el(
    "div",
    { class: "figure" },
    el("p", {}, el("b", {}, value), el("span", {}, whole), el("span", {}, part)),
    bar,
  );
}

/**
 * Label, value and what is to be said of it.
 * @param {Answer} answer @param {any} receipt @param {{layers: number[], n_experts: number}} shape
 * @returns {[string, string | Node, string | Node | null][]}
 */
function rows(answer, receipt, shape) {
  const { tokens, grid } = receipt;
  const used = expertsUsed(answer);
  const all = shape.layers.length * shape.n_experts;
  const drafts = receipt.draft_tokens
    ? `; ${receipt.accepted_draft_tokens} of ${receipt.draft_tokens} drafts right`
    : "";
  return [
    [
      "Tokens",
      String(reasoningTokens(answer) + tokens.answer),
      `${tokens.reasoning} thinking, ${tokens.answer} answer${drafts}`,
    ],
    [
      "Prompt",
      String(tokens.prompt),
      tokens.cached ? `${tokens.cached} of them from the cache` : "none from the cache",
    ],
    [
      "Experts",
      used ? used.toLocaleString("en") : "not kept",
      used ? `of ${all.toLocaleString("en")} were asked by its tokens` : null,
    ],
    [
      "Read",
      quantity(receipt.memory_bytes, "B"),
      receipt.disk_bytes
        ? `of memory, ${quantity(receipt.disk_bytes, "B")} of disk${hits(receipt)}`
        : "of memory, none of disk",
    ],
    [
      "Time",
      seconds(wholeSeconds(receipt) * 1000),
      receipt.tok_per_s ? `${Math.round(receipt.tok_per_s)} tokens per second` : null,
    ],
    ["Energy", energy(receipt, receipt.joules, "J"), energyNote(receipt)],
    [
      "Carbon",
      energy(receipt, receipt.grams_co2e, "g"),
      `CO₂e at ${Math.round(grid.grams_per_kwh)} g/kWh, ${grid.country} ${grid.year ?? ""}`,
    ],
    ["Money", ...moneyRow(receipt)],
    ...(receipt.approximation
      ? [
          /** @type {[string, string, string]} */ ([
            "Approximate",
            receipt.approximation,
            "an exact answer may be another",
          ]),
        ]
      : []),
  ];
}

/** @param {any} receipt */
const hits = (receipt) =>
  receipt.expert_hits === null ? "" : `; ${percent(receipt.expert_hits)} of experts were in memory`;

/** @param {any} receipt */
function energyNote(receipt) {
  const range = `${quantity(receipt.joules_low, "J")} to ${quantity(receipt.joules_high, "J")}`;
  const how = isModelled(receipt)
    ? el("em", { class: "tag" }, String(receipt.joules_method).replace("model:", "model, "))
    : el("em", { class: "tag measured" }, `measured, ${receipt.joules_method}`);
  return el("span", {}, how, ` ${range}`);
}

/** @param {any} receipt @returns {[string, string]} */
function moneyRow(receipt) {
  if (receipt.money === null || !receipt.prices) return ["none", "the server has no price list"];
  return [
    money(receipt.money, receipt.prices.currency),
    `at the prices of ${receipt.prices.name}${receipt.prices.date ? `, ${receipt.prices.date}` : ""}`,
  ];
}
