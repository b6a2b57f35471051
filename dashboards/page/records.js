// What is on record beside the table: failures, all metrics, remarks, provenance.

function drawFailures(redraw) {
  const cells = doc.cells.filter(
    (cell) => cell.outcome !== "converged" && !OPEN.includes(cell.outcome),
  );
  if (!cells.length) return [el("p", { class: "none" }, "No cell has failed.")];
  const order = (cell) => OUTCOMES.indexOf(cell.outcome);
  const columns = [
    {
      key: "cell",
      title: "cell",
      value: (cell) => doc.cells.indexOf(cell.cell),
      class: "level",
      cell: (cell) => el("a", { href: `#arms-${cell.arm}` }, cell.label || nameOf(armOf(cell.arm))),
    },
    { key: "outcome", title: "outcome", value: order, cell: (cell) => outcome(cell.outcome) },
    {
      key: "step",
      title: "at step",
      number: true,
      value: (cell) => cell.step,
      cell: (cell) => cell.step ?? "–",
    },
    {
      key: "attempts",
      title: "attempts",
      number: true,
      value: (cell) => cell.attempts,
      cell: (cell) => cell.attempts,
    },
    {
      key: "reason",
      title: "reason",
      value: (cell) => cell.reason,
      cell: (cell) => el("span", { class: "reason" }, cell.reason || "–"),
    },
    { key: "where", title: "where", cell: where },
  ];
  return [
    sheet({
      id: "failed",
      caption: "Cells that did not converge, and faults",
      columns,
      rows: cells.map((cell) => ({ ...cell, cell, key: cell.id || `${cell.arm}-${cell.seed}` })),
      redraw,
    }),
  ];
}

// ---------------------------------------------------------------- all metrics, remarks, provenance

function drawAll(redraw) {
  const metrics = doc.metrics.filter((metric) =>
    doc.arms.some((arm) => (arm.values[metric.name] || {}).n),
  );
  if (metrics.length < 2) return [];
  const columns = [
    armColumn((arm) => arm.key),
    {
      key: "n",
      title: "n",
      number: true,
      value: (arm) => arm.outcomes.converged || 0,
      cell: (arm) => `${arm.outcomes.converged || 0}/${arm.planned}`,
    },
    ...metrics.map((metric) => ({
      key: metric.name,
      title: metric.name,
      hint: `${metric.title}${metric.unit ? `, ${metric.unit}` : ""}`,
      number: true,
      value: (arm) => arm.values[metric.name].mean,
      cell: (arm) => fixed(arm.values[metric.name].mean, metric.digits),
    })),
  ];
  return [
    el(
      "details",
      { id: "all-metrics" },
      el("summary", {}, `Means of ${count(metrics.length, "metric")}`),
      sheet({
        id: "means",
        caption: "Means over the seeds that converged",
        columns,
        rows: doc.arms,
        redraw,
        wide: true,
      }),
    ),
  ];
}

function drawRemarks() {
  const items = [
    ...doc.cautions.map((text) => ["Caution", text]),
    ...doc.excluded.map((one) => [
      "Left out",
      Object.entries(one)
        .map(([key, value]) => `${key}: ${plain(value)}`)
        .join("; "),
    ]),
    ...doc.aliases.map((one) => ["Cannot be told apart", plain(one)]),
  ];
  if (!items.length) return [];
  return [
    el(
      "ul",
      { class: "remarks" },
      items.map(([kind, text]) => el("li", {}, el("b", {}, kind), " ", text)),
    ),
  ];
}

function plain(value) {
  return typeof value === "string" ? value : JSON.stringify(value);
}

function drawProvenance() {
  const titles = {
    commits: "Commits",
    data: "Data",
    code_versions: "Code versions",
    gpus: "GPUs",
    sweeps: "Trained by",
    sweep_sha256: "Sweep file (SHA-256)",
  };
  const told = Object.entries(titles)
    .map(([key, title]) => [title, [doc.provenance[key]].flat().filter(Boolean)])
    .filter(([, values]) => values.length);
  if (doc.provenance.uncommitted_changes)
    told.push(["Beware", ["trained with uncommitted changes"]]);
  if (doc.sweep.arguments) told.push(["Arguments", [doc.sweep.arguments]]);
  if (!told.length) return [];
  return [
    el(
      "dl",
      { class: "facts" },
      told.map(([title, values]) =>
        el(
          "div",
          {},
          el("dt", {}, title),
          el(
            "dd",
            {},
            values.map((value) => el("code", {}, value)),
          ),
        ),
      ),
    ),
  ];
}
