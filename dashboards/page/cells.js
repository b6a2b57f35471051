// What is under a row of the table: its cells, and what sets the arm apart from the baseline.

function cellTable(row) {
  const digits = digitsOf(metricOf(state.metric));
  const columns = [
    { key: "seed", title: "seed", number: true, value: null, cell: (cell) => cell.seed },
    { key: "outcome", title: "outcome", cell: (cell) => outcome(cell.outcome) },
    {
      key: "value",
      title: state.metric,
      number: true,
      cell: (cell) => fixed(valueOf(cell, state.metric), digits),
    },
    { key: "step", title: "ended at step", number: true, cell: (cell) => cell.step ?? "–" },
    {
      key: "reason",
      title: "reason",
      cell: (cell) => el("span", { class: "reason" }, cell.reason),
    },
    { key: "attempts", title: "attempts", number: true, cell: (cell) => cell.attempts },
    { key: "where", title: "where", cell: where },
  ];
  const settings = Object.entries(row.arm.differences).map(([key, value]) =>
    el("li", {}, el("code", {}, `${key}: ${value}`)),
  );
  const differs = settings.length
    ? [
        el("p", { class: "note" }, "Differs from the baseline in:"),
        el("ul", { class: "settings" }, settings),
      ]
    : [];
  return el(
    "div",
    { class: "inside" },
    sheet({
      id: `cells-${row.key}`,
      caption: `Cells of ${row.arm.label}`,
      columns,
      rows: cellsOf(row.key).map((cell) => ({ ...cell, key: cell.seed })),
      redraw: () => {},
    }),
    differs,
  );
}

function where(cell) {
  const command = cell.id
    ? el("code", { title: "says why it ended so" }, `python -m orchestrator.why ${cell.id}`)
    : null;
  const folder = cell.folder
    ? el("code", { class: "folder", title: "the cell's folder" }, cell.folder)
    : null;
  return [...linksOf(cell.links), command, folder];
}
