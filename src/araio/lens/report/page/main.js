/**
 * Reads the document that the file carries and puts the sections on the page, findings first.
 */

import { ablation } from "./ablation.js";
import { unpacked } from "./arrays.js";
import { coactivation } from "./coactivation.js";
import { comparison } from "./comparison.js";
import { coverage } from "./coverage.js";
import { byId, el, onTheme } from "./dom.js";
import { load } from "./load.js";
import { locality } from "./locality.js";
import { maps } from "./maps.js";
import { viewOf } from "./model.js";
import { provenance, warnings } from "./provenance.js";
import { specialisation } from "./specialisation.js";
import { strip } from "./strip.js";
import { timeline } from "./timeline.js";
import { verdict } from "./verdict.js";

const SECTIONS = /** @type {[string, (view: import("./model.js").View) => Element | null][]} */ ([
  ["Findings", verdict],
  ["Care", warnings],
  ["Ablation", ablation],
  ["Maps", maps],
  ["Specialisation", specialisation],
  ["Load", load],
  ["Together", coactivation],
  ["Caches", locality],
  ["Coverage", coverage],
  ["Comparison", comparison],
  ["Timeline", timeline],
  ["Tokens", strip],
  ["Trace", provenance],
]);

const view = viewOf(unpacked(JSON.parse(byId("document").textContent)));
const page = byId("page");
const contents = byId("contents");
page.replaceChildren();
const links = new Map();
for (const [name, make] of SECTIONS) {
  const made = make(view);
  if (!made) continue;
  page.append(made);
  const link = el("a", { href: `#${made.id}` }, name);
  links.set(made, link);
  contents.append(link);
}

// The section that the upper part of the window shows is marked above.
const watcher = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      for (const link of links.values()) link.removeAttribute("aria-current");
      links.get(target).setAttribute("aria-current", "true");
    }
  },
  { rootMargin: "-20% 0px -70% 0px" },
);
for (const made of links.keys()) watcher.observe(made);

const dark = matchMedia("(prefers-color-scheme: dark)");
const root = document.documentElement;
const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
const button = byId("theme");

function themed() {
  button.textContent = isDark() ? "Light" : "Dark";
  button.setAttribute("aria-label", `Show in ${isDark() ? "light" : "dark"} colours`);
  for (const redraw of onTheme) redraw();
}

button.addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  themed();
});
dark.addEventListener("change", themed);
themed();
