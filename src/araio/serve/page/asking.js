/**
 * Asks one question and lets the answer grow: from the first request to its receipt, or to why there is none.
 */

import { ServerError, complete, control } from "./api.js";
import { addChunk, messagesFor, newAnswer } from "./conversation.js";

/** @typedef {import("./conversation.js").Answer} Answer */
/** @typedef {import("./conversation.js").Token} Token */
/** @typedef {import("./store.js").Settings} Settings */

/** How long a stopped answer may take to hand in its receipt. */
const GRACE_MS = 400;

/**
 * The body of the request.
 * @param {string | undefined} model @param {object[]} messages @param {Settings} settings
 * @param {number} attempt  a set seed gives another answer to each
 */
function requestBody(model, messages, settings, attempt) {
  const number = (/** @type {string} */ text) => (text === "" ? undefined : Number(text));
  const seed = number(settings.seed);
  return {
    model,
    messages,
    stream: true,
    stream_options: { include_usage: true },
    watch_experts: true,
    temperature: number(settings.temperature),
    seed: seed === undefined ? undefined : seed + attempt,
    max_tokens: number(settings.maxTokens),
    thinking_token_budget: number(settings.thinkingBudget),
  };
}

/** One question on its way. */
export class Asking {
  aborter = new AbortController();

  /** @param {import("./conversation.js").Turn} turn @param {(tokens: Token[]) => void} onchange */
  constructor(turn, onchange) {
    this.turn = turn;
    this.answer = newAnswer();
    this.onchange = onchange;
    turn.answers.push(this.answer);
    turn.shown = turn.answers.length - 1;
  }

  /**
   * Resolves when the answer is over, whatever became of it.
   * @param {string | undefined} model  the server's own if it is not known yet
   * @param {import("./conversation.js").Conversation} conversation
   * @param {Settings} settings @param {boolean} withEarlier
   * @returns {Promise<ServerError | null>} what went wrong
   */
  async run(model, conversation, settings, withEarlier) {
    const messages = messagesFor(conversation, this.turn, withEarlier);
    const body = requestBody(model, messages, settings, this.turn.answers.length - 1);
    try {
      for await (const chunk of complete(body, this.aborter.signal)) {
        this.onchange(addChunk(this.answer, chunk, performance.now()));
      }
      if (!this.isStopped) this.answer.state = "done";
      return null;
    } catch (error) {
      if (this.isStopped) return null;
      const trouble = error instanceof ServerError ? error : new ServerError("refused", String(error));
      this.answer.state = "broken";
      this.answer.trouble = trouble.message;
      return trouble;
    } finally {
      if (this.isStopped) this.answer.state = "stopped";
      this.onchange([]);
    }
  }

  isStopped = false;

  /** Ends it. The server is asked first, so that there may still be a receipt; then the connection goes. */
  stop() {
    this.isStopped = true;
    if (this.answer.id) control(this.answer.id, "cancel").catch(() => undefined);
    setTimeout(() => this.aborter.abort(), this.answer.id ? GRACE_MS : 0);
  }

  /** Ends the thinking. @returns {Promise<boolean>} false if there was none to end any more */
  answerNow() {
    return control(this.answer.id, "reasoning_end").catch(() => false);
  }
}
