// Before the first paint, so that a dark page never flashes light. The toggle is in settings.js.
try {
  document.documentElement.dataset.theme = localStorage.getItem("araio.theme") ?? "auto";
} catch {
  document.documentElement.dataset.theme = "auto";
}
