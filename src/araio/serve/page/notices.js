/**
 * What the page has to say when something is not as it should be, and what can be done about it. Watches for
 * the server while it is away.
 */

import { isThere } from "./api.js";
import { button, byId, el } from "./dom.js";
import { openSettings } from "./settings.js";

const LOOK_EVERY_MS = 2000;

let lookout = 0;
let isAboutKey = false;

/** Read out, and not seen. @param {string} text */
export function say(text) {
  byId("status").textContent = text;
}

/** A line above the box; an empty text ends it. @param {string} text @param {...Node} actions */
export function notice(text, ...actions) {
  clearInterval(lookout);
  isAboutKey = false;
  byId("notice").hidden = !text;
  byId("notice").replaceChildren(...(text ? [el("p", {}, text), ...actions] : []));
}

/** The server took the key, or asked for none. */
export function keyWasTaken() {
  if (isAboutKey) notice("");
}

export const dismiss = () => button("Dismiss", () => notice(""));

/**
 * @param {import("./api.js").ServerError} trouble
 * @param {() => void} retry  what failed
 * @param {() => void} onreturn  the server is back after it was away
 */
export function explain(trouble, retry, onreturn) {
  const again = button("Retry", () => (notice(""), retry()));
  if (trouble.kind === "key") {
    const enter = button("Enter the key", () => openSettings("key"));
    notice(trouble.message, enter);
    isAboutKey = true;
  } else if (trouble.kind === "away") {
    notice("The server is away. Your conversation is kept in this browser.", again);
    lookout = setInterval(async () => {
      if (!(await isThere()) || !again.isConnected) return;
      notice("The server is back.", again, dismiss());
      onreturn();
    }, LOOK_EVERY_MS);
  } else if (trouble.kind === "busy") {
    const wait = trouble.retryAfter ? ` Try again in ${trouble.retryAfter} s.` : "";
    notice(`The server is busy.${wait}`, again);
  } else {
    notice(trouble.message, dismiss());
  }
}
