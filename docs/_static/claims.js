// Search, filter and sort the table of claims. Without this script it is a plain table.
"use strict";
(() => {
  const table = document.querySelector(".claims-table");
  const controls = document.querySelector(".claims");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const search = controls.querySelector("input");
  const verdict = controls.querySelector("select");
  const count = controls.querySelector("output");
  controls.hidden = false;

  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      const fits = words.every((word) => text.includes(word));
      row.hidden = !fits || (verdict.value !== "" && row.dataset.verdict !== verdict.value);
      shown += row.hidden ? 0 : 1;
    }
    count.textContent = `${shown} of ${rows.length} claims`;
  };
  search.addEventListener("input", filter);
  verdict.addEventListener("change", filter);

  // "C9" comes before "C10", and "1850 (174)" after "150 (30)".
  const order = new Intl.Collator("en", { numeric: true, sensitivity: "base" });
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const text = (row) => row.cells[column].textContent.trim();
      rows.sort((a, b) => (down ? -1 : 1) * order.compare(text(a), text(b)));
      body.append(...rows);
    });
  });
  filter();
})();
