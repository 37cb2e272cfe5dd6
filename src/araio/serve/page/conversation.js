/**
 * What a conversation is, without a picture of it: turns of one question and its answers, and how a chunk of
 * the stream becomes part of an answer. Nothing here touches the document or the network.
 */

/**
 * @typedef {object} Token  one that was given out
 * @property {string} text
 * @property {"reasoning" | "answer"} phase
 * @property {number[][]} experts  ids by MoE layer
 * @property {number[][]} weights  the same shape
 */
/**
 * @typedef {object} Answer
 * @property {string} id  by which the server knows it
 * @property {string} reasoning
 * @property {string} content
 * @property {Token[]} tokens
 * @property {any} usage  as the server counted; null until the end
 * @property {"waiting" | "thinking" | "answering" | "done" | "stopped" | "broken"} state
 * @property {string} finish  the server's finish_reason
 * @property {string} trouble  why it is broken
 * @property {number | null} thinkingStart  in ms of `performance.now()`
 * @property {number} thinkingMs
 */
/**
 * @typedef {object} Turn
 * @property {string} question
 * @property {Answer[]} answers  one for each time it was asked
 * @property {number} shown  which of them
 */
/**
 * @typedef {object} Conversation
 * @property {string} id
 * @property {number} changed  ms since 1970
 * @property {Turn[]} turns
 */

const MOST_SAVED_ROUTES = 40_000;

/** @returns {Conversation} */
export const newConversation = () => ({
  id: crypto.randomUUID?.() ?? String(Date.now() + Math.random()),
  changed: Date.now(),
  turns: [],
});

/** @param {string} question @returns {Turn} */
export const newTurn = (question) => ({ question, answers: [], shown: -1 });

/** @returns {Answer} */
export const newAnswer = () => ({
  id: "",
  reasoning: "",
  content: "",
  tokens: [],
  usage: null,
  state: "waiting",
  finish: "",
  trouble: "",
  thinkingStart: null,
  thinkingMs: 0,
});

/** The answer that a turn shows. @param {Turn} turn @returns {Answer | null} */
export const shownAnswer = (turn) => turn.answers[turn.shown] ?? null;

/** @param {Answer} answer */
export const isRunning = (answer) => ["waiting", "thinking", "answering"].includes(answer.state);

/** @param {Conversation} conversation */
export const title = (conversation) =>
  conversation.turns[0]?.question.replace(/\s+/g, " ").slice(0, 90) || "New conversation";

/** How many tokens it thought: as counted at the end, or so far. @param {Answer} answer */
export const reasoningTokens = (answer) =>
  answer.usage?.completion_tokens_details?.reasoning_tokens ??
  answer.tokens.filter((token) => token.phase === "reasoning").length;

/**
 * The messages that ask the turn's question; answers without words are left out, with their questions.
 * @param {Conversation} conversation @param {Turn} turn @param {boolean} withEarlier
 */
export function messagesFor(conversation, turn, withEarlier) {
  const messages = [];
  for (const earlier of withEarlier ? conversation.turns.slice(0, conversation.turns.indexOf(turn)) : []) {
    const content = shownAnswer(earlier)?.content;
    if (content) messages.push({ role: "user", content: earlier.question }, { role: "assistant", content });
  }
  return [...messages, { role: "user", content: turn.question }];
}

/**
 * Adds one chunk of the stream to the answer.
 * @param {Answer} answer @param {any} chunk @param {number} now  ms
 * @returns {Token[]} the tokens that came with it
 */
export function addChunk(answer, chunk, now) {
  answer.id = chunk.id ?? answer.id;
  const choice = chunk.choices?.[0];
  const thought = choice?.delta?.reasoning_content ?? choice?.delta?.reasoning ?? "";
  const said = choice?.delta?.content ?? "";
  if (thought) {
    if (answer.state === "waiting") answer.state = "thinking";
    answer.thinkingStart ??= now;
    answer.reasoning += thought;
  }
  if (said) {
    if (answer.thinkingStart !== null && answer.state === "thinking")
      answer.thinkingMs = now - answer.thinkingStart;
    answer.state = "answering";
    answer.content += said;
  }
  if (answer.state === "thinking") answer.thinkingMs = now - (answer.thinkingStart ?? now);
  if (choice?.finish_reason) answer.finish = choice.finish_reason;
  if (chunk.usage) answer.usage = chunk.usage;
  // Of some tokens nobody knows the experts: those that were put in, not computed.
  const tokens = (chunk.araio?.tokens ?? []).map((/** @type {any} */ token) => ({
    ...token,
    experts: token.experts ?? [],
    weights: token.weights ?? [],
  }));
  answer.tokens.push(...tokens);
  return tokens;
}

/** What is kept of it. @param {Conversation} conversation @param {boolean} withRoutes */
export function asSaved(conversation, withRoutes) {
  const numbers = (/** @type {Answer} */ answer) =>
    answer.tokens.length * (answer.tokens[0]?.experts.flat().length ?? 0);
  const turns = conversation.turns.map((turn) => ({
    ...turn,
    answers: turn.answers.map((answer) =>
      withRoutes && numbers(answer) <= MOST_SAVED_ROUTES ? answer : { ...answer, tokens: [] },
    ),
  }));
  return { ...conversation, turns };
}

/**
 * What was kept; answers that were running when the page went away are marked as cut off.
 * @param {any} saved @returns {Conversation}
 */
export function asLoaded(saved) {
  for (const turn of saved.turns) {
    turn.answers = turn.answers.map((/** @type {Answer} */ answer) => ({ ...newAnswer(), ...answer }));
    for (const answer of turn.answers) {
      if (!isRunning(answer)) continue;
      answer.state = "broken";
      answer.trouble = "The page was closed before this answer was complete.";
    }
  }
  return saved;
}
