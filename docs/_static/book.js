// What the pages do: search from a disk, sentences in tables, a button that hides a notebook's code.
"use strict";
// The excerpts of a search are fetched, which a browser forbids to pages opened from a disk: titles alone there.
if (location.protocol === "file:" && typeof DOCUMENTATION_OPTIONS !== "undefined") {
  DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
}
document.addEventListener("DOMContentLoaded", () => {
  // Sentences in a table wrap; numbers and names do not.
  for (const cell of document.querySelectorAll("table.dataframe td")) {
    cell.classList.toggle("text", cell.textContent.trim().length > 40);
  }
});
document.addEventListener("DOMContentLoaded", () => {
  // The button is remembered from page to page.
  const title = document.querySelector(".bd-article h1");
  if (!title || !document.querySelector(".bd-article .cell_input")) return;
  const remembered = {
    get: () => { try { return localStorage.getItem("code") === "hidden"; } catch { return false; } },
    set: (hidden) => { try { localStorage.setItem("code", hidden ? "hidden" : "shown"); } catch { /* private window */ } },
  };
  const button = document.createElement("button");
  button.type = "button";
  button.className = "toggle-code";
  const apply = (hidden) => {
    document.documentElement.classList.toggle("code-hidden", hidden);
    button.textContent = hidden ? "Show code" : "Hide code";
    button.setAttribute("aria-pressed", String(hidden));
  };
  button.addEventListener("click", () => {
    const hidden = !document.documentElement.classList.contains("code-hidden");
    remembered.set(hidden);
    apply(hidden);
  });
  title.after(button);
  apply(remembered.get());
});
