// Tables whose heads are buttons that sort.
function readCell(row, column) {
  const text = row.cells[column] ? row.cells[column].textContent.trim() : "";
  const match = text.replace(/,/g, "").match(/^[+−-]?\d+(\.\d+)?(e[+-]?\d+)?/i);
  return { text, number: match ? Number(match[0].replace("−", "-")) : null };
}

function compareCells(a, b) {
  if (a.number !== null && b.number !== null) return a.number - b.number;
  if (a.number !== null) return -1;
  if (b.number !== null) return 1;
  return a.text.localeCompare(b.text);
}

function sortTable(table, column, head) {
  const down = head.getAttribute("aria-sort") === "ascending";
  for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => ({ row, cell: readCell(row, column) }));
  // What is unknown stays at the end whichever way the rest is sorted.
  const known = rows.filter(({ cell }) => cell.text !== "" && cell.text !== UNKNOWN);
  known.sort((a, b) => (down ? -1 : 1) * compareCells(a.cell, b.cell));
  body.append(...known.map(({ row }) => row), ...rows.filter((one) => !known.includes(one)).map(({ row }) => row));
}

function startTables(root) {
  for (const table of root.querySelectorAll("table")) {
    if (!table.tHead || !table.tBodies.length || table.tBodies[0].rows.length < 2) continue;
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      if (head.querySelector("button") || !head.textContent.trim()) return;
      const button = make("button", { type: "button", class: "sort" }, ...head.childNodes);
      button.addEventListener("click", () => sortTable(table, column, head));
      head.replaceChildren(button);
    });
  }
}
