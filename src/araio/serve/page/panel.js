/**
 * What stands beside the conversation: the map, the tokens and the receipt of one answer; or the map of all
 * that the server does, asked for every two seconds while it is looked at.
 */

import { getExperts } from "./api.js";
import { isRunning } from "./conversation.js";
import { byId, el } from "./dom.js";
import { hueOf } from "./lights.js";
import { ExpertMap } from "./map.js";
import { receiptTable } from "./receipt.js";
import { TokenStrip } from "./strip.js";
import { parameters } from "./units.js";

/** @typedef {import("./conversation.js").Answer} Answer */
/** @typedef {import("./conversation.js").Token} Token */

const POLL_MS = 2000;

export class Panel {
  /** @type {Answer | null} */
  answer = null;
  name = "";
  isServerView = false;
  /** @type {import("./lights.js").Shape} */
  shape = { layers: [], n_experts: 0, top_k: 0, domains: null };

  constructor() {
    this.map = new ExpertMap();
    this.strip = new TokenStrip((token) => this.map.light((lights) => lights.showAlone(token)));
    for (const choice of document.querySelectorAll("input[name=view]")) {
      choice.addEventListener("change", () =>
        this.setView(/** @type {HTMLInputElement} */ (choice).value === "server"),
      );
    }
    setInterval(() => this.isServerView && !document.hidden && this.poll(), POLL_MS);
  }

  /** @param {any} model  as `/v1/models` describes it */
  async describe(model) {
    const facts = model.araio ?? {};
    byId("model-name").textContent = model.id;
    byId("model-facts").textContent = facts.params_total
      ? `${parameters(facts.params_total)} parameters, ${parameters(facts.params_active)} for a token`
      : "";
    const domains = asDomains((await getExperts()).domains);
    this.shape = {
      layers: facts.layers ?? [],
      n_experts: facts.n_experts ?? 0,
      top_k: facts.top_k ?? 0,
      domains,
    };
    this.strip.shape = this.shape;
    this.map.setShape(this.shape);
    this.drawLegend(domains);
    this.show(this.answer, this.name);
  }

  /** @param {ReturnType<typeof asDomains>} domains */
  drawLegend(domains) {
    const names = /** @type {[number | null, string][]} */ ([
      ...(domains?.names.entries() ?? []),
      [null, "no domain"],
    ]);
    const entries = names.map(([domain, name]) =>
      el("li", {}, el("i", { class: "swatch", "data-hue": hueOf(this.shape, domain) }), name),
    );
    byId("panel").toggleAttribute("data-domains", domains !== null);
    byId("legend-domains").replaceChildren(...(domains ? entries : []));
  }

  /** Shows another answer. @param {Answer | null} answer @param {string} name */
  show(answer, name) {
    this.answer = answer;
    this.name = name;
    byId("panel-of").textContent = name;
    const isKept = !answer || isRunning(answer);
    const empty = isKept
      ? "Each token of the answer will be here, with the experts that it was given to."
      : "The tokens of this answer were not kept.";
    this.strip.show(answer?.tokens ?? [], empty);
    if (!this.isServerView) this.lightAnswer();
    this.updateReceipt();
  }

  lightAnswer() {
    this.map.light((lights) => lights.showTokens(this.answer?.tokens ?? []));
  }

  /** More of the answer that is shown has come. @param {Token[]} tokens */
  add(tokens) {
    for (const token of tokens) {
      this.strip.add(token);
      if (!this.isServerView) this.map.light((lights) => lights.add(token));
    }
  }

  updateReceipt() {
    const { answer } = this;
    const isOver = answer && !isRunning(answer);
    byId("receipt").hidden = !isOver;
    byId("receipt-body").replaceChildren(...(isOver ? [receiptTable(answer, this.shape)] : []));
  }

  /** @param {boolean} isServerView */
  setView(isServerView) {
    this.isServerView = isServerView;
    if (isServerView) this.poll();
    else this.lightAnswer();
  }

  async poll() {
    try {
      const { counts, recent, tokens } = await getExperts();
      if (this.isServerView) this.map.light((lights) => lights.showServer(counts, recent, tokens));
    } catch {
      // Whether the server is there is the composer's to say.
    }
  }
}

/**
 * What `/v1/experts` says of domains, if the map can use it.
 * @param {any} domains @returns {import("./lights.js").Shape["domains"]}
 */
function asDomains(domains) {
  return Array.isArray(domains?.names) && Array.isArray(domains?.experts) ? domains : null;
}
