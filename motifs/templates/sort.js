"use strict";
// A click on a table's head sorts its rows by that column: as numbers where it holds figures, else as text.
for (const head of document.querySelectorAll("th[aria-sort]")) {
  head.tabIndex = 0;
  const sort = () => {
    const column = head.cellIndex, body = head.closest("table").tBodies[0], rows = [...body.rows];
    const up = head.getAttribute("aria-sort") !== "ascending";
    const cells = rows.map((row) => row.cells[column].textContent.trim());
    const numbers = cells.map((cell) => parseFloat(cell));
    const numeric = head.classList.contains("number") && numbers.every((n, i) => !Number.isNaN(n) || cells[i] === "");
    const order = rows.map((row, i) => i).sort((a, b) => {
      if (numeric) return (Number.isNaN(numbers[a]) ? 1 : 0) - (Number.isNaN(numbers[b]) ? 1 : 0) ||
        (up ? numbers[a] - numbers[b] : numbers[b] - numbers[a]) || a - b;
      return (up ? 1 : -1) * cells[a].localeCompare(cells[b], undefined, { numeric: true }) || a - b;
    });
    body.append(...order.map((i) => rows[i]));
    for (const other of head.parentElement.cells) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
  };
  head.addEventListener("click", sort);
  head.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(); });
}
