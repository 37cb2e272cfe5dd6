/**
 * The server's API, and what can go wrong with it in four kinds. Every request goes to where the page came
 * from, with the key if there is one.
 */

import { loadKey } from "./store.js";

/** @typedef {"away" | "key" | "busy" | "refused"} Kind */

/** What the server did not do. */
export class ServerError extends Error {
  /** @param {Kind} kind @param {string} message @param {number} [retryAfter]  seconds */
  constructor(kind, message, retryAfter = 0) {
    super(message);
    this.kind = kind;
    this.retryAfter = retryAfter;
  }
}

const AWAY = "The server does not answer.";
const NO_KEY = "This server asks for a key.";
const WRONG_KEY = "The server does not know this key.";
const CUT = "The connection ended before the answer was complete.";

/** @param {string} path @param {RequestInit} [init] @returns {Promise<Response>} */
async function request(path, init = {}) {
  const key = loadKey();
  const headers = { "Content-Type": "application/json", ...(key && { Authorization: `Bearer ${key}` }) };
  let response;
  try {
    response = await fetch(path, { ...init, headers, cache: "no-store", credentials: "omit" });
  } catch (error) {
    throw init.signal?.aborted ? error : new ServerError("away", AWAY);
  }
  if (response.ok) return response;
  throw await refusal(response);
}

/** @param {Response} response */
async function refusal(response) {
  const body = await response.json().catch(() => null);
  // What the API says of keys is about headers, which nobody types in here.
  const aboutKey = loadKey() ? WRONG_KEY : NO_KEY;
  const said = response.status === 401 ? aboutKey : body?.error?.message;
  const message = said ?? `The server answered ${response.status}.`;
  const kinds = /** @type {Record<number, Kind>} */ ({
    401: "key",
    429: "busy",
    503: "busy",
    502: "away",
    504: "away",
  });
  return new ServerError(
    kinds[response.status] ?? "refused",
    message,
    Number(response.headers.get("retry-after")) || 0,
  );
}

/** The first model, with what `araio` says of it. */
export const getModel = async () => (await (await request("v1/models")).json()).data[0];

/** What the experts did, for everybody. */
export const getExperts = async () => (await request("v1/experts")).json();

/** @returns {Promise<boolean>} whether the server is there and takes requests */
export async function isThere() {
  try {
    return (await fetch("health", { cache: "no-store" })).ok;
  } catch {
    return false;
  }
}

/** Ends the thinking. @param {string} id @returns {Promise<boolean>} whether there was any to end */
export async function endThinking(id) {
  const response = await request("v1/chat/completions/control", {
    method: "POST",
    body: JSON.stringify({ id, action: "reasoning_end" }),
  });
  return (await response.json()).done;
}

/**
 * The chunks of one answer.
 * @param {object} body @param {AbortSignal} signal
 * @returns {AsyncGenerator<any>}
 */
export async function* complete(body, signal) {
  const response = await request("v1/chat/completions", {
    method: "POST",
    body: JSON.stringify(body),
    signal,
  });
  for await (const data of events(response, signal)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ServerError("refused", chunk.error.message ?? CUT);
    yield chunk;
  }
  throw new ServerError("away", CUT);
}

/**
 * The `data` of each server-sent event; comments are pings.
 * @param {Response} response @param {AbortSignal} signal
 */
async function* events(response, signal) {
  const reader = /** @type {ReadableStream} */ (response.body).getReader();
  const decoder = new TextDecoder();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const blocks = (rest + decoder.decode(value, { stream: true })).split(/\r?\n\r?\n/);
      rest = blocks.pop() ?? "";
      for (const block of blocks) {
        const lines = block.split(/\r?\n/).filter((line) => line.startsWith("data:"));
        if (lines.length) yield lines.map((line) => line.slice(5).trimStart()).join("\n");
      }
    }
  } catch (error) {
    throw signal.aborted ? error : new ServerError("away", CUT);
  } finally {
    reader.cancel().catch(() => undefined);
  }
}
