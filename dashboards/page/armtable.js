// The ablation table: one row an arm, its difference from the baseline with the interval in place,
// and under each row its cells.

// The controls stay while the table below is drawn again: somebody may be typing in them.
function drawArms(redraw, content) {
  const made = JSON.stringify([doc.metrics.map((metric) => metric.name), doc.axes]);
  let [controls, area] = content.children;
  if (!controls || controls.dataset.of !== made || state.cleared) {
    controls = el(
      "form",
      { class: "controls", "data-of": made, submit: (event) => event.preventDefault() },
      toolbar(redraw),
    );
    area = el("div");
    state.cleared = false;
  }
  area.replaceChildren(...armTable(redraw).filter(Boolean));
  return [controls, area];
}

function armTable(redraw) {
  const rows = armRows();
  const shown = rows.filter(passes);
  const scale = forestScale(rows, isTarget() ? doc.target.min_effect : null);
  const label = metricOf(state.metric).title;
  const wanted = doc.baseline && !doc.comparisons[state.metric];
  if (wanted) dispatchEvent(new Event("wanted")); // a served page asks for it
  const table = sheet({
    id: "arms",
    caption: `Arms by ${state.metric} (${label})`,
    columns: armColumns(scale),
    rows: shown,
    redraw,
    detail: cellTable,
    opened: state.opened,
    about: (row) => `Cells of ${row.arm.label}`,
  });
  return [
    table,
    el(
      "p",
      { class: "note", id: "shown" },
      `${shown.length} of ${count(rows.length, "arm")} shown.`,
    ),
    shown.length
      ? null
      : el(
          "p",
          { class: "none" },
          rows.length ? "No arm passes the filters." : "No arm is planned yet.",
        ),
    ...legend(),
    wanted ? el("p", { class: "none" }, `No differences on ${state.metric} yet.`) : null,
  ];
}

function armColumns(scale) {
  const digits = digitsOf(metricOf(state.metric));
  const axes = columnsOfAxes();
  const base = doc.baseline && armOf(doc.baseline);
  const place = (axis) => (row) => axis.levels.indexOf(row.arm.levels[axis.name]);
  const same = (row, axis) => base && row.arm.levels[axis.name] === base.levels[axis.name];
  const level = (axis) => ({
    key: axis.name,
    title: axis.name,
    value: place(axis),
    class: "level",
    cell: (row) =>
      el(
        "span",
        { class: same(row, axis) ? "level-base" : "level-own", title: row.arm.levels[axis.name] },
        row.arm.levels[axis.name],
      ),
  });
  const names = {
    key: "arm",
    title: "arm",
    value: (row) => doc.arms.indexOf(row.arm),
    class: "level",
    cell: (row) => el("span", { class: "level-own", title: row.arm.label }, nameOf(row.arm)),
  };
  const settled = (row) => row.arm.settled;
  const columns = axes.length > 5 ? [names] : axes.map(level);
  columns.push(
    {
      key: "settled",
      title: "settled",
      number: true,
      class: "settled",
      value: settled,
      cell: settledCell,
      hint: "cells with a result, of the planned ones",
    },
    {
      key: "mean",
      title: state.metric,
      number: true,
      value: (row) => row.value.mean,
      cell: (row) => meanCell(row, digits),
      hint: "mean ± standard deviation between seeds",
    },
  );
  if (!base) return columns;
  return [
    ...columns,
    {
      key: "difference",
      title: "difference",
      number: true,
      value: (row) => row.difference,
      hint: "arm - baseline, paired by seed",
      cell: (row) => differenceCell(row, digits),
    },
    {
      key: "forest",
      title: "interval",
      plain: true,
      class: "in-place",
      head: ["interval", forestAxis(scale)],
      cell: (row) => forestCell(scale, row, digits),
    },
    {
      key: "verdict",
      title: "verdict",
      class: "verdict",
      value: (row) => row.words,
      cell: (row) => [mark(row.verdict), el("span", {}, row.words)],
    },
  ];
}

function settledCell(row) {
  const failed = Object.entries(row.arm.outcomes).filter(([name]) => name !== "converged");
  const told = failed.map(([name, n]) => outcome(name, `${n} ${name}`));
  return [el("span", {}, `${row.arm.settled}/${row.arm.planned}`), ...told];
}

function meanCell(row, digits) {
  const { n, mean, sd } = row.value;
  if (!n) return el("span", { class: "faint" }, "–");
  const spread = el(
    "span",
    { class: "faint" },
    sd === null ? " (1 seed)" : ` ± ${fixed(sd, digits)}`,
  );
  return [fixed(mean, digits), spread];
}

function differenceCell(row, digits) {
  if (row.key === doc.baseline) return el("span", { class: "faint" }, "0");
  const span =
    typeof row.low === "number"
      ? el(
          "span",
          { class: "interval" },
          `[${signed(row.low, digits)}, ${signed(row.high, digits)}]`,
        )
      : null;
  return [el("span", {}, signed(row.difference, digits)), span];
}

function forestCell(scale, row, digits) {
  if (row.key === doc.baseline)
    return forest(scale, { seeds: [], verdict: null, difference: 0 }, "the baseline");
  if (row.verdict === "did not converge")
    return el("span", { class: "hatched" }, "did not converge");
  const span =
    typeof row.low === "number"
      ? `, interval ${signed(row.low, digits)} to ${signed(row.high, digits)}`
      : ", no interval";
  const seeds = row.seeds.length
    ? `; seeds: ${row.seeds.map((v) => signed(v, digits)).join(", ")}`
    : "";
  return forest(
    scale,
    row,
    `${nameOf(row.arm)}: difference ${signed(row.difference, digits)}${span}${seeds}`,
  );
}

function legend() {
  if (!doc.baseline) return [];
  const found = doc.comparisons[state.metric];
  const parts = [
    "Difference: arm - baseline, paired by seed. Bar: its interval; short strokes: single seeds" +
      (isTarget() && doc.target.min_effect
        ? `; band: less than ${doc.target.min_effect}, the smallest difference that matters.`
        : "."),
  ];
  if (found && !isTarget())
    parts.push(
      `Intervals hold for all arms at once on ${state.metric} alone. The sweep decides by ${doc.target.name}: looking at several metrics is not allowed for, so that claims here are hints.`,
    );
  return parts.map((text) => el("p", { class: "note" }, text));
}

// ---------------------------------------------------------------- what is under a row

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
