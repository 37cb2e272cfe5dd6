/**
 * Asks one question and lets the answer grow: from the first request to its receipt, or to why there is none.
 */

import { ServerError, complete, endThinking } from "./api.js";
import { addChunk, messagesFor, newAnswer } from "./conversation.js";

/** @typedef {import("./conversation.js").Answer} Answer */
/** @typedef {import("./conversation.js").Token} Token */
/** @typedef {import("./store.js").Settings} Settings */

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
      this.answer.state = "done";
      return null;
    } catch (error) {
      this.answer.state = this.aborter.signal.aborted ? "stopped" : "broken";
      if (this.answer.state === "stopped") return null;
      const trouble = error instanceof ServerError ? error : new ServerError("refused", String(error));
      this.answer.trouble = trouble.message;
      return trouble;
    } finally {
      this.onchange([]);
    }
  }

  /** Ends it: the server stops working for a client that hangs up. */
  stop() {
    this.aborter.abort();
  }

  /** Ends the thinking. @returns {Promise<boolean>} false if there was none to end any more */
  answerNow() {
    return endThinking(this.answer.id).catch(() => false);
  }
}
