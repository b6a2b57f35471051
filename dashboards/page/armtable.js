// The ablation table: one row an arm, its difference from the baseline with the interval in place.

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
    key: `axis-${axis.name}`, // an axis may be called like another column
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
  const over =
    row.over && `over images [${signed(row.over.low, digits)}, ${signed(row.over.high, digits)}]`;
  return [
    el("span", {}, signed(row.difference, digits)),
    span || (over && el("span", { class: "interval" }, over)),
  ];
}

function forestCell(scale, row, digits) {
  if (row.key === doc.baseline)
    return forest(scale, { seeds: [], verdict: null, difference: 0 }, "the baseline");
  if (row.verdict === "did not converge")
    return el("span", { class: "hatched" }, "did not converge");
  const span =
    typeof row.low === "number"
      ? `, interval ${signed(row.low, digits)} to ${signed(row.high, digits)}`
      : row.over
        ? `, no interval; over images ${signed(row.over.low, digits)} to ${signed(row.over.high, digits)}`
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
  if ((doc.images || []).length && state.metric === "mAP")
    parts.push(
      `Dashed: over images drawn anew, for arms with one seed. It ${doc.images[0].covers}, and is no verdict.`,
    );
  return parts.map((text) => el("p", { class: "note" }, text));
}
